"""How other parts of the ledger put work into the job table. Claiming and ending it is `jobs`."""

from __future__ import annotations

from sqlalchemy.engine import Connection

from services.common.ledger.database import new_id
from services.common.ledger.schema import jobs, knowledge_bases
from services.common.models import JobKind

REMOVALS = frozenset({JobKind.DELETE, JobKind.PURGE, JobKind.DROP})


def add_job(
    c: Connection,
    now: float,
    kind: JobKind,
    knowledge_base_id: str,
    document_id: str | None = None,
    *,
    version: int | None = None,
    request_id: str | None = None,
) -> None:
    """Queue a job as part of the caller's transaction. Removals go before everything else."""
    c.execute(
        jobs.insert().values(
            id=new_id(),
            kind=kind,
            knowledge_base_id=knowledge_base_id,
            document_id=document_id,
            version=version,
            priority=0 if kind in REMOVALS else 1,
            due_at=now,
            lease_until=0.0,
            fence=0,
            attempts=0,
            waits=0,
            cancelled=False,
            request_id=request_id,
            created_at=now,
        )
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
