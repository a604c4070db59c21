"""How the parts of the ledger put work into the job table. Claiming and ending it is `jobs`."""

from __future__ import annotations

from sqlalchemy.engine import Connection

from zhiwen.common.ledger.database import new_id
from zhiwen.common.ledger.schema import jobs, knowledge_bases
from zhiwen.common.models import Job, JobKind

REMOVALS = frozenset({JobKind.DELETE, JobKind.PURGE, JobKind.DROP, JobKind.RETIRE})


def add_job(
    c: Connection,
    now: float,
    kind: JobKind,
    knowledge_base_id: str,
    document_id: str | None = None,
    *,
    version: int | None = None,
    generation_id: int | None = None,
    request_id: str | None = None,
    delay: float = 0.0,
) -> None:
    """Queue a job, due after `delay` seconds, as part of the caller's transaction.

    Removals go before ingests, and those before rebuilds.
    """
    c.execute(
        jobs.insert().values(
            id=new_id(),
            kind=kind,
            knowledge_base_id=knowledge_base_id,
            document_id=document_id,
            version=version,
            generation_id=generation_id,
            priority=_priority(kind),
            due_at=now + delay,
            lease_until=0.0,
            fence=0,
            attempts=0,
            waits=0,
            cancelled=False,
            request_id=request_id,
            created_at=now,
        )
    )


def _priority(kind: JobKind) -> int:
    if kind in REMOVALS:
        return 0
    return 2 if kind is JobKind.REBUILD else 1


def follow_up(
    c: Connection, now: float, kind: JobKind, job: Job, version: int, generation_id: int | None = None
) -> None:
    """Queue what has to be done for the document of a job after that job, on behalf of the same request."""
    add_job(
        c,
        now,
        kind,
        job.knowledge_base_id,
        job.document_id,
        version=version,
        generation_id=generation_id,
        request_id=job.request_id,
    )


def cancel_ingests(c: Connection, document_id: str) -> None:
    """End the waiting ingest jobs of a document and ask the running one to stop."""
    mine = (jobs.c.document_id == document_id) & (jobs.c.kind == JobKind.INGEST)
    c.execute(jobs.delete().where(mine, jobs.c.lease_owner.is_(None)))
    c.execute(jobs.update().where(mine).values(cancelled=True))


def note_change(c: Connection, knowledge_base_id: str) -> None:
    """Tell readers that what answers has changed."""
    changed = knowledge_bases.c.id == knowledge_base_id
    c.execute(knowledge_bases.update().where(changed).values(revision=knowledge_bases.c.revision + 1))
