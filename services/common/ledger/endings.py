"""The ends of a worker's claim on a job: commit, fail, put off, abandon, or the end of a purge, a delete or a drop.

Rebuild and retire jobs end in `rebuilds`. A method that ends a job raises `LeaseLost` when the worker no longer holds
the job. In that case nothing has changed. A function with a parameter `c` runs in the transaction of that connection.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from zhiwen.common.errors import Unavailable
from zhiwen.common.ledger import lifecycle
from zhiwen.common.ledger.bases import bump_revision
from zhiwen.common.ledger.database import Database
from zhiwen.common.ledger.jobs import PRIORITIES, end_job, follow_up, is_held, require_held
from zhiwen.common.ledger.originals import release_versions
from zhiwen.common.ledger.retry import RETRY_POLICY, Retry
from zhiwen.common.ledger.samples import add_samples, remove_samples
from zhiwen.common.ledger.schema import documents, generations, indexed, jobs, knowledge_bases, versions
from zhiwen.common.models import Job, JobKind, Sampled


class Endings:
    """The ends of claimed jobs. Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self.database = database

    # Indexing

    def commit(
        self, job: Job, generation_id: int, chunks: int, terms: bytes | None = None, sample: Sequence[Sampled] = ()
    ) -> None:
        """End `job`, a successful ingest: its version becomes the live version, in place of the one before.

        `chunks` is the number of its chunks in the generation with the number `generation_id`. `terms` is its term
        statistics, and `sample` those of its chunks that belong into the generation's sample. Raises `LeaseLost`, or
        `Unavailable` (`generation-moved`) when another generation became live after the work began. In both cases
        nothing has changed.
        """
        now = self.database.now()
        with self.database.write() as c:
            # Commits and the switch to another generation both lock the row of the base, so they do not run at once.
            base = c.execute(
                sa.select(knowledge_bases).where(knowledge_bases.c.id == job.knowledge_base_id).with_for_update()
            ).one_or_none()
            require_held(c, job)
            if base is None or base.live_generation != generation_id:
                moved = "The knowledge base was rebuilt meanwhile; indexing starts again."
                raise Unavailable("generation-moved", moved)
            c.execute(sa.select(documents.c.id).where(documents.c.id == job.document_id).with_for_update())
            mark_indexed(c, job, generation_id, chunks, terms)
            add_samples(c, job, generation_id, sample)
            lifecycle.commit(c, now, job, chunks)
            bump_revision(c, base.id)
            end_job(c, job.id)
            if base.building_generation is not None:
                follow_up(c, now, JobKind.REBUILD, job, int(job.version or 0), base.building_generation)
            superseded = sa.select(versions.c.version).where(
                versions.c.document_id == job.document_id, versions.c.version < job.version
            )
            for version in c.scalars(superseded).all():
                follow_up(c, now, JobKind.PURGE, job, version)

    def fail(self, job: Job, code: str, detail: str) -> None:
        """End a failed ingest. The document shows the error, and the chunks that the ingest has written are removed."""
        with self.database.write() as c:
            require_held(c, job)
            now = self.database.now()
            lifecycle.fail(c, now, str(job.document_id), int(job.version or 0), code, detail)
            _turn_into_purge(c, now, job.id)

    def put_off(self, job: Job, retry: Retry, code: str, detail: str) -> None:
        """Give a job back for another try. `code` and `detail` are the error that the document shows until then."""
        with self.database.write() as c:
            require_held(c, job)
            now = self.database.now()
            c.execute(
                jobs.update()
                .where(jobs.c.id == job.id)
                .values(
                    lease_owner=None,
                    lease_until=0.0,
                    due_at=now + retry.seconds,
                    attempts=retry.attempts,
                    waits=retry.waits,
                )
            )
            if job.kind is JobKind.INGEST:
                lifecycle.put_off(c, now, job, code, detail)

    def abandon(self, job: Job) -> None:
        """Release a job after `LeaseLost`. Raises nothing when the worker no longer holds it.

        A cancelled job ends. A job whose lease was not renewed in time is given back. If another worker has taken or
        ended the job, this worker may have written to the index after that. Then a job that repairs this is queued.
        """
        with self.database.write() as c:
            held = c.execute(sa.select(jobs.c.cancelled).where(is_held(job)).with_for_update()).one_or_none()
            if held is None:
                _repair_late_work(c, self.database.now(), job)
            elif not held.cancelled:
                attempts = RETRY_POLICY.after_lost_lease(job).attempts
                released = {"lease_owner": None, "lease_until": 0.0, "attempts": attempts}
                c.execute(jobs.update().where(jobs.c.id == job.id).values(released))
            elif job.kind is JobKind.INGEST:
                _turn_into_purge(c, self.database.now(), job.id)
            else:
                end_job(c, job.id)

    # Removals

    def collections_to_clear(self, job: Job) -> Sequence[str]:
        """Return the names of the collections from which a purge or a delete must remove chunks.

        There is none if the version is live: it was indexed again after the purge was queued.
        """
        with self.database.read() as c:
            if job.kind is JobKind.PURGE:
                document = c.execute(sa.select(documents).where(documents.c.id == job.document_id)).one_or_none()
                if document is None or document.live_version == job.version:
                    return []
            return list(
                c.scalars(
                    sa.select(generations.c.collection).where(generations.c.knowledge_base_id == job.knowledge_base_id)
                )
            )

    def finish_purge(self, job: Job) -> list[str]:
        """End a purge: remove the record that a version is indexed, unless the version is live.

        If a newer version exists, the purged version is removed, too. Returns the sha256 of originals that may be
        unreferenced now.
        """
        with self.database.write() as c:
            require_held(c, job)
            now = self.database.now()
            document = c.execute(sa.select(documents).where(documents.c.id == job.document_id)).one()
            released: list[str] = []
            if document.live_version != job.version:
                c.execute(
                    indexed.delete().where(indexed.c.document_id == job.document_id, indexed.c.version == job.version)
                )
                remove_samples(c, str(job.document_id), job.version)
                if document.version != job.version:  # a newer version exists: no request can name this one
                    mine = (versions.c.document_id == job.document_id) & (versions.c.version == job.version)
                    released = release_versions(c, now, mine)
            end_job(c, job.id)
            return released

    def finish_delete(self, job: Job) -> list[str]:
        """End a delete: mark the document as deleted, remove its versions and jobs, return their sha256."""
        with self.database.write() as c:
            require_held(c, job)
            now = self.database.now()
            released = release_versions(c, now, versions.c.document_id == job.document_id)
            c.execute(indexed.delete().where(indexed.c.document_id == job.document_id))
            remove_samples(c, str(job.document_id))
            c.execute(jobs.delete().where(jobs.c.document_id == job.document_id))
            lifecycle.finish_delete(c, now, job.document_id)
            return released

    def finish_drop(self, job: Job) -> list[str]:
        """End a drop: remove all rows of a knowledge base; return the originals (their sha256)."""
        with self.database.write() as c:
            require_held(c, job)
            now = self.database.now()
            of_base = sa.select(documents.c.id).where(documents.c.knowledge_base_id == job.knowledge_base_id)
            released = release_versions(c, now, versions.c.document_id.in_(of_base))
            c.execute(knowledge_bases.delete().where(knowledge_bases.c.id == job.knowledge_base_id))
            return released

    # Reconciling

    def reconcile(self) -> int:
        """End the jobs whose workers are dead, where no worker will; return the number of documents that failed so.

        A document fails when its workers died too often. Cancelled jobs of dead workers end. The rows of documents that
        were deleted long ago are removed.
        """
        now = self.database.now()
        expired = jobs.c.lease_until <= now
        with self.database.write() as c:
            dead = c.execute(
                sa.select(jobs, documents.c.error_detail)
                .outerjoin(documents, documents.c.id == jobs.c.document_id)
                .where(
                    expired,
                    ~jobs.c.cancelled,
                    jobs.c.kind == JobKind.INGEST,
                    jobs.c.attempts >= RETRY_POLICY.max_attempts,
                )
            ).all()
            for row in dead:
                last = f" The last error was: {row.error_detail}" if row.error_detail else ""
                detail = f"The worker died {row.attempts} times while indexing this document.{last}"
                lifecycle.fail(c, now, row.document_id, row.version, "attempts-exhausted", detail)
                _turn_into_purge(c, now, row.id)
            cancelled = c.execute(
                sa.select(jobs.c.id, jobs.c.kind).where(expired, jobs.c.cancelled, jobs.c.kind == JobKind.INGEST)
            ).all()
            for row in cancelled:
                _turn_into_purge(c, now, row.id)
            c.execute(jobs.delete().where(expired, jobs.c.cancelled, jobs.c.kind != JobKind.INGEST))
            lifecycle.forget_deleted(c, now)
        return len(dead)


def mark_indexed(c: Connection, job: Job, generation_id: int, chunks: int, terms: bytes | None) -> None:
    """Record, in the transaction of `c`, that a generation holds all chunks of the version that `job` has indexed.

    `generation_id` is the number of the generation, `chunks` the number of chunks, and `terms` their term statistics.
    """
    document_id, version = str(job.document_id), int(job.version or 0)
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


def _turn_into_purge(c: Connection, now: float, job_id: str) -> None:
    """Turn an ingest into the purge of what it wrote. No worker holds it from now on."""
    c.execute(
        jobs.update()
        .where(jobs.c.id == job_id)
        .values(
            kind=JobKind.PURGE,
            priority=PRIORITIES[JobKind.PURGE],
            due_at=now,
            lease_owner=None,
            lease_until=0.0,
            attempts=0,
            waits=0,
            cancelled=False,
        )
    )


def _repair_late_work(c: Connection, now: float, job: Job) -> None:
    """Queue a job that repairs the index after a late worker, which may have written without holding its job.

    A fencing number stops late writes to the ledger, but not to Milvus. The queued job waits until no other worker has
    a job of the document.
    """
    if job.kind in {JobKind.INGEST, JobKind.REBUILD}:
        if c.scalar(sa.select(documents.c.id).where(documents.c.id == job.document_id)) is not None:
            follow_up(c, now, JobKind.PURGE, job, int(job.version or 0))  # a purge does not touch a live version
    elif job.kind is JobKind.PURGE:
        _index_again(c, now, job)


def _index_again(c: Connection, now: float, job: Job) -> None:
    """Queue the indexing of a version whose chunks a late purge may have removed. It runs if the version is live."""
    bases = sa.select(knowledge_bases).where(knowledge_bases.c.id == job.knowledge_base_id)
    base = c.execute(bases.with_for_update()).one_or_none()
    mine = (versions.c.document_id == job.document_id) & (versions.c.version == job.version)
    if base is None or c.scalar(sa.select(versions.c.version).where(mine)) is None:
        return
    follow_up(c, now, JobKind.REBUILD, job, int(job.version or 0), base.live_generation)
    # Without this record, the rebuild indexes the version into the new generation once more.
    c.execute(
        indexed.delete().where(
            indexed.c.document_id == job.document_id,
            indexed.c.version == job.version,
            indexed.c.generation_id == base.building_generation,
        )
    )
