"""How an ingest ends: its version answers, or what it wrote is removed and its document may say why."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from zhiwen.common.errors import Unavailable
from zhiwen.common.ledger.fencing import require_held
from zhiwen.common.ledger.queue import follow_up, note_change
from zhiwen.common.ledger.schema import documents, indexed, jobs, knowledge_bases, versions
from zhiwen.common.models import DocumentStatus, Job, JobKind


def make_live(c: Connection, now: float, job: Job, generation_id: int, chunks: int, terms: bytes | None) -> None:
    """End an ingest: its version answers from the end of the caller's transaction on, and the one before does not.

    Raises `LeaseLost`, or `Unavailable` (`generation-moved`) when another generation answers since the work began.
    """
    # The base's row is the lock on which a commit meets the switch to another generation.
    base = c.execute(
        sa.select(knowledge_bases).where(knowledge_bases.c.id == job.knowledge_base_id).with_for_update()
    ).one_or_none()
    require_held(c, job)
    if base is None or base.live_generation != generation_id:
        raise Unavailable("generation-moved", "The knowledge base was rebuilt meanwhile; indexing starts again.")
    c.execute(sa.select(documents.c.id).where(documents.c.id == job.document_id).with_for_update())
    mark_indexed(c, str(job.document_id), int(job.version or 0), generation_id, chunks, terms)
    c.execute(
        documents.update()
        .where(documents.c.id == job.document_id)
        .values(
            live_version=job.version,
            status=DocumentStatus.READY,
            stage_done=chunks,
            stage_total=chunks,
            error_code=None,
            error_detail=None,
            updated_at=now,
        )
    )
    note_change(c, base.id)
    c.execute(jobs.delete().where(jobs.c.id == job.id))
    if base.building_generation is not None:
        follow_up(c, now, JobKind.REBUILD, job, int(job.version or 0), base.building_generation)
    superseded = sa.select(versions.c.version).where(
        versions.c.document_id == job.document_id, versions.c.version < job.version
    )
    for version in c.scalars(superseded).all():
        follow_up(c, now, JobKind.PURGE, job, version)


def mark_indexed(
    c: Connection, document_id: str, version: int, generation_id: int, chunks: int, terms: bytes | None
) -> None:
    """Note, in the caller's transaction, that a version's complete set of chunks stands in a generation."""
    where = (
        (indexed.c.document_id == document_id)
        & (indexed.c.version == version)
        & (indexed.c.generation_id == generation_id)
    )
    c.execute(indexed.delete().where(where))
    c.execute(
        indexed.insert().values(
            document_id=document_id, version=version, generation_id=generation_id, chunks=chunks, terms=terms
        )
    )


def fail_ingest(c: Connection, now: float, job_id: str, document_id: str, version: int, code: str, detail: str) -> None:
    """The document says why it failed; the job goes on as the removal of what it left in the index."""
    c.execute(
        documents.update()
        .where(documents.c.id == document_id, documents.c.version == version)
        .values(status=DocumentStatus.FAILED, error_code=code, error_detail=detail, updated_at=now)
    )
    turn_into_purge(c, now, job_id)


def turn_into_purge(c: Connection, now: float, job_id: str) -> None:
    """Make an ingest, held by nobody from now on, the removal of what it wrote."""
    c.execute(
        jobs.update()
        .where(jobs.c.id == job_id)
        .values(
            kind=JobKind.PURGE,
            priority=0,
            due_at=now,
            lease_owner=None,
            lease_until=0.0,
            attempts=0,
            waits=0,
            cancelled=False,
        )
    )
