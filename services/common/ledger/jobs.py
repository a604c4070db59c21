"""Jobs: the queue of work, the leases of workers, and the fencing that keeps late workers from writing.

A worker claims a job for `lease_seconds` and gets a fencing number that grows with every claim. It renews the lease
while it works, and ends the job through `endings` or `rebuilds`. Every write that ends a job checks the number, so a
worker that has lost its job changes nothing.

A function with a parameter `c` runs in the transaction of that connection. `now` is the time in seconds since 1970.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from zhiwen.common.ledger import lifecycle
from zhiwen.common.ledger.database import Database, new_id
from zhiwen.common.ledger.retry import RETRY_POLICY, UNLIMITED_KINDS
from zhiwen.common.ledger.schema import jobs, knowledge_bases
from zhiwen.common.models import DocumentStatus, Job, JobKind
from zhiwen.common.telemetry import current_request_id

PRIORITIES: Mapping[JobKind, int] = {
    JobKind.DELETE: 0,
    JobKind.PURGE: 0,
    JobKind.DROP: 0,
    JobKind.RETIRE: 0,
    JobKind.INGEST: 1,
    JobKind.REBUILD: 2,
}
"""Within a knowledge base, jobs with the lowest number go first."""


class LeaseLost(Exception):
    """The worker no longer holds the job: it was cancelled, superseded, deleted, or claimed by another worker."""


class Jobs:
    """Queued and claimed jobs. Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def claim(self, owner: str, lease_seconds: float) -> Job | None:
        """Claim the next job for `owner`, or return None when no job is due.

        Knowledge bases take turns, so a large upload to one does not delay another. A job waits while another job of
        its document runs, so a delete never runs at the same time as an ingest.
        """
        now = self.database.now()
        with self.database.write() as c:
            base_id = c.scalar(_NEXT_BASE, {"now": now})
            if base_id is None:
                return None
            row = c.execute(_NEXT_JOB, {"now": now, "base_id": base_id}).one_or_none()
            if row is None:
                return None
            c.execute(knowledge_bases.update().where(knowledge_bases.c.id == base_id).values(served_at=now))
            counts = {"fence": row.fence + 1, "attempts": RETRY_POLICY.count_claim(row.attempts)}
            lease = {"lease_owner": owner, "lease_until": now + lease_seconds}
            c.execute(jobs.update().where(jobs.c.id == row.id).values(**lease, **counts))
            if row.kind == JobKind.INGEST:
                lifecycle.claim(c, now, row.document_id, counts["attempts"])
        return Job(
            id=row.id,
            kind=JobKind(row.kind),
            knowledge_base_id=row.knowledge_base_id,
            document_id=row.document_id,
            version=row.version,
            generation_id=row.generation_id,
            request_id=row.request_id,
            waits=row.waits,
            **counts,
        )

    def renew(self, held: Iterable[Job], lease_seconds: float) -> set[str]:
        """Renew the leases of the jobs in `held`; return the ids of those that are lost or cancelled."""
        now = self.database.now()
        lost = set()
        with self.database.write() as c:
            for job in held:
                kept = c.execute(
                    jobs.update().where(is_held(job), ~jobs.c.cancelled).values(lease_until=now + lease_seconds)
                )
                if kept.rowcount == 0:
                    lost.add(job.id)
        return lost

    def advance(self, job: Job, status: DocumentStatus, done: int, total: int) -> None:
        """Report the progress of an ingest. Raises `LeaseLost`."""
        with self.database.write() as c:
            require_held(c, job)
            lifecycle.advance(c, self.database.now(), job, status, done, total)

    def expire_leases_of(self, owner_prefix: str) -> int:
        """Expire the leases of dead workers whose names begin with `owner_prefix`; return the number of leases."""
        with self.database.write() as c:
            held = jobs.c.lease_owner.startswith(owner_prefix, autoescape=True)
            return int(c.execute(jobs.update().where(held).values(lease_until=0.0)).rowcount)

    def any_due(self) -> bool:
        """Return whether a job can be claimed now."""
        with self.database.read() as c:
            return c.execute(_ANY_DUE, {"now": self.database.now()}).first() is not None

    def any_due_of(self, document_id: str) -> bool:
        """Return whether a job of the document can be claimed now."""
        values = {"now": self.database.now(), "document_id": document_id}
        with self.database.read() as c:
            return c.execute(_ANY_DUE_OF, values).first() is not None

    def waiting(self) -> int:
        """Return the length of the queue: the number of unfinished jobs."""
        with self.database.read() as c:
            return int(c.scalar(sa.select(sa.func.count()).select_from(jobs)) or 0)

    def busy_documents(self, knowledge_base_id: str) -> set[str]:
        """Return the ids of documents that have an unfinished job."""
        with self.database.read() as c:
            mine = (jobs.c.knowledge_base_id == knowledge_base_id) & jobs.c.document_id.is_not(None)
            return set(c.scalars(sa.select(jobs.c.document_id).where(mine).distinct()))


# The queue, within the caller's transaction


def add_job(
    c: Connection,
    now: float,
    kind: JobKind,
    knowledge_base_id: str,
    document_id: str | None = None,
    *,
    version: int | None = None,
    generation_id: int | None = None,
    delay: float = 0.0,
) -> None:
    """Queue a job of a `kind` for the knowledge base `knowledge_base_id`. It is due after `delay` seconds.

    `document_id`, `version` and `generation_id` say what the job works on; a kind that does not need one leaves it out.
    The job carries the id of the current request. In a worker this is the request that queued the worker's own job.
    """
    c.execute(
        jobs.insert().values(
            id=new_id(),
            kind=kind,
            knowledge_base_id=knowledge_base_id,
            document_id=document_id,
            version=version,
            generation_id=generation_id,
            priority=PRIORITIES[kind],
            due_at=now + delay,
            lease_until=0.0,
            fence=0,
            attempts=0,
            waits=0,
            cancelled=False,
            request_id=current_request_id(),
            created_at=now,
        )
    )


def follow_up(
    c: Connection, now: float, kind: JobKind, job: Job, version: int, generation_id: int | None = None
) -> None:
    """Queue a job of another `kind` for the document of `job`.

    It works on `version`, and on the generation with the number `generation_id` if its kind needs one.
    """
    add_job(c, now, kind, job.knowledge_base_id, job.document_id, version=version, generation_id=generation_id)


def cancel_jobs(c: Connection, which: sa.ColumnElement[bool]) -> None:
    """Cancel the jobs that meet `which`: remove those that no worker holds, and mark the others as cancelled."""
    c.execute(jobs.delete().where(which, jobs.c.lease_owner.is_(None)))
    c.execute(jobs.update().where(which).values(cancelled=True))


def cancel_ingests(c: Connection, document_id: str) -> None:
    """Cancel the indexing of a document."""
    cancel_jobs(c, (jobs.c.document_id == document_id) & (jobs.c.kind == JobKind.INGEST))


def end_job(c: Connection, job_id: str) -> None:
    """Remove a finished job. The queue holds unfinished jobs only."""
    c.execute(jobs.delete().where(jobs.c.id == job_id))


# Fencing, within the caller's transaction


def is_held(job: Job) -> sa.ColumnElement[bool]:
    """Match the job's row, as long as this claim is its newest one and was not released."""
    return (jobs.c.id == job.id) & (jobs.c.fence == job.fence) & jobs.c.lease_owner.is_not(None)


def require_held(c: Connection, job: Job) -> None:
    """Lock the job's row until the transaction ends. Raises `LeaseLost` unless it is held and not cancelled."""
    row = c.execute(sa.select(jobs.c.cancelled).where(is_held(job)).with_for_update()).one_or_none()
    if row is None or row.cancelled:
        raise LeaseLost(job.id)


# Which job is next


def _claimable() -> sa.ColumnElement[bool]:
    """Match the jobs that can be claimed at `:now`."""
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
    retriable = (jobs.c.attempts < RETRY_POLICY.max_attempts) | jobs.c.kind.in_(UNLIMITED_KINDS)
    return (jobs.c.due_at <= now) & (jobs.c.lease_until <= now) & retriable & ~jobs.c.cancelled & ~busy


# These are built once, because building them takes several times as long as running them.
_ANY_DUE = sa.select(jobs.c.id).where(_claimable()).limit(1)
_ANY_DUE_OF = _ANY_DUE.where(jobs.c.document_id == sa.bindparam("document_id"))
_NEXT_BASE = (
    sa.select(knowledge_bases.c.id)
    .where(sa.exists().where(jobs.c.knowledge_base_id == knowledge_bases.c.id, _claimable()))
    .order_by(knowledge_bases.c.served_at)
    .limit(1)
    .with_for_update(skip_locked=True, of=knowledge_bases)
)
_NEXT_JOB = (
    sa.select(jobs)
    .where(jobs.c.knowledge_base_id == sa.bindparam("base_id"), _claimable())
    .order_by(jobs.c.priority, jobs.c.created_at)
    .limit(1)
    .with_for_update()
)
