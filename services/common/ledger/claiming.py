"""Which job is next: what is due and free, the knowledge bases in turn, removals before ingests before rebuilds."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from zhiwen.common.ledger.queue import REMOVALS
from zhiwen.common.ledger.schema import documents, jobs, knowledge_bases
from zhiwen.common.models import Job, JobKind

MAX_ATTEMPTS = 3


def _claimable() -> sa.ColumnElement[bool]:
    """The jobs that can be claimed at `:now`."""
    now = sa.bindparam("now", type_=sa.Double)
    other = jobs.alias("other")
    busy = (
        sa.exists()
        .where(
            other.c.knowledge_base_id == jobs.c.knowledge_base_id,
            other.c.id != jobs.c.id,
            other.c.lease_until > now,
            (other.c.document_id == jobs.c.document_id)
            | (jobs.c.kind == JobKind.DROP)
            | ((jobs.c.kind == JobKind.RETIRE) & (other.c.generation_id == jobs.c.generation_id)),
        )
        .correlate(jobs)
    )
    retriable = (jobs.c.attempts < MAX_ATTEMPTS) | jobs.c.kind.in_(REMOVALS)
    return (jobs.c.due_at <= now) & (jobs.c.lease_until <= now) & retriable & ~jobs.c.cancelled & ~busy


# Built once: putting these together costs several times what running them does.
ANY_DUE = sa.select(jobs.c.id).where(_claimable()).limit(1)
ANY_DUE_OF = ANY_DUE.where(jobs.c.document_id == sa.bindparam("document_id"))
NEXT_BASE = (
    sa.select(knowledge_bases.c.id)
    .where(sa.exists().where(jobs.c.knowledge_base_id == knowledge_bases.c.id, _claimable()))
    .order_by(knowledge_bases.c.served_at)
    .limit(1)
    .with_for_update(skip_locked=True, of=knowledge_bases)
)
NEXT_JOB = (
    sa.select(jobs)
    .where(jobs.c.knowledge_base_id == sa.bindparam("base_id"), _claimable())
    .order_by(jobs.c.priority, jobs.c.created_at)
    .limit(1)
    .with_for_update()
)


def claim_next(c: Connection, now: float, owner: str, lease_seconds: float) -> Job | None:
    """Take the next job, as part of the caller's transaction; None when nothing is due."""
    base_id = c.scalar(NEXT_BASE, {"now": now})
    if base_id is None:
        return None
    row = c.execute(NEXT_JOB, {"now": now, "base_id": base_id}).one_or_none()
    if row is None:
        return None
    c.execute(knowledge_bases.update().where(knowledge_bases.c.id == base_id).values(served_at=now))
    claimed = {"fence": row.fence + 1, "attempts": row.attempts + 1}
    c.execute(
        jobs.update().where(jobs.c.id == row.id).values(lease_owner=owner, lease_until=now + lease_seconds, **claimed)
    )
    if row.kind == JobKind.INGEST:
        c.execute(
            documents.update()
            .where(documents.c.id == row.document_id)
            .values(attempts=claimed["attempts"], updated_at=now)
        )
    return Job(
        id=row.id,
        kind=JobKind(row.kind),
        knowledge_base_id=row.knowledge_base_id,
        document_id=row.document_id,
        version=row.version,
        generation_id=row.generation_id,
        request_id=row.request_id,
        waits=row.waits,
        **claimed,
    )
