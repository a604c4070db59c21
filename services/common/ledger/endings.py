"""How a worker's hold on a job ends: commit, fail, put off, abandon, or the end of a purge, a delete or a drop.

Rebuild and retire jobs end in `rebuilds`. A method that ends a job raises `LeaseLost` when the worker does not hold the
job any more; then nothing has changed.
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
from zhiwen.common.ledger.schema import documents, generations, indexed, jobs, knowledge_bases, versions
from zhiwen.common.models import Job, JobKind


class Endings:
    """The ends of claimed jobs. Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self.database = database

    # Indexing

    def commit(self, job: Job, generation_id: int, chunks: int, terms: bytes | None = None) -> None:
        """End an ingest well: from this commit on its version answers, and the one before does not.

        `chunks` is how many chunks of the version stand in the generation with the number `generation_id`, and `terms`
        its term statistics. Raises `LeaseLost`, or `Unavailable` (`generation-moved`) when another generation answers
        since the work began; then nothing has changed.
        """
        now = self.database.now()
        with self.database.write() as c:
            # The base's row is the lock on which a commit meets the switch to another generation.
            base = c.execute(
                sa.select(knowledge_bases).where(knowledge_bases.c.id == job.knowledge_base_id).with_for_update()
            ).one_or_none()
            require_held(c, job)
            if base is None or base.live_generation != generation_id:
                moved = "The knowledge base was rebuilt meanwhile; indexing starts again."
                raise Unavailable("generation-moved", moved)
            c.execute(sa.select(documents.c.id).where(documents.c.id == job.document_id).with_for_update())
            mark_indexed(c, job, generation_id, chunks, terms)
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
        """End an ingest for good: the document says why, and what the ingest left in the index is removed."""
        with self.database.write() as c:
            require_held(c, job)
            now = self.database.now()
            lifecycle.fail(c, now, str(job.document_id), int(job.version or 0), code, detail)
            _turn_into_purge(c, now, job.id)

    def put_off(self, job: Job, retry: Retry, code: str, detail: str) -> None:
        """Give a job back for another try; `code` and `detail` say what went wrong."""
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
        """Let go of a job after `LeaseLost`; raises nothing when the worker does not hold it any more.

        A cancelled job ends. A job whose lease was not renewed in time is given back. If another worker took the job
        or ended it, the worker may have written to the index since then; work is queued that mends this.
        """
        with self.database.write() as c:
            held = c.execute(sa.select(jobs.c.cancelled).where(is_held(job)).with_for_update()).one_or_none()
            if held is None:
                _mend_late_work(c, self.database.now(), job)
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
        """Return the names of the collections from which a purge or a delete has to remove chunks.

        There is none when the version answers: it was queued again after the purge was.
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
        """Forget that a version is indexed, unless it answers; forget the version itself when it is superseded.

        Returns the sha256 of originals that may be unreferenced now.
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
                if document.version != job.version:  # superseded: nobody can ask for it again
                    mine = (versions.c.document_id == job.document_id) & (versions.c.version == job.version)
                    released = release_versions(c, now, mine)
            end_job(c, job.id)
            return released

    def finish_delete(self, job: Job) -> list[str]:
        """Report a document as deleted, and remove its versions and jobs; return the sha256 of their originals."""
        with self.database.write() as c:
            require_held(c, job)
            now = self.database.now()
            released = release_versions(c, now, versions.c.document_id == job.document_id)
            c.execute(indexed.delete().where(indexed.c.document_id == job.document_id))
            c.execute(jobs.delete().where(jobs.c.document_id == job.document_id))
            lifecycle.finish_delete(c, now, job.document_id)
            return released

    def finish_drop(self, job: Job) -> list[str]:
        """Remove all rows of a knowledge base; return the sha256 of its originals."""
        with self.database.write() as c:
            require_held(c, job)
            now = self.database.now()
            of_base = sa.select(documents.c.id).where(documents.c.knowledge_base_id == job.knowledge_base_id)
            released = release_versions(c, now, versions.c.document_id.in_(of_base))
            c.execute(knowledge_bases.delete().where(knowledge_bases.c.id == job.knowledge_base_id))
            return released

    # Reconciling

    def reconcile(self) -> int:
        """End what no worker ends; return how many documents have failed because their workers died too often.

        Cancelled jobs of dead workers end too, and the rows of documents deleted long ago are removed.
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
    """Note, in the caller's transaction, that the complete set of a version's chunks stands in a generation.

    `chunks` is their number and `terms` their term statistics; the job says which document and version it is.
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
    """Make an ingest the removal of what it wrote. Nobody holds it from now on."""
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


def _mend_late_work(c: Connection, now: float, job: Job) -> None:
    """Queue what mends the index after a worker that went on writing when its job was another's already.

    The ledger is fenced and Milvus is not. The queued job waits for whoever works on the document.
    """
    if job.kind in {JobKind.INGEST, JobKind.REBUILD}:
        if c.scalar(sa.select(documents.c.id).where(documents.c.id == job.document_id)) is not None:
            follow_up(c, now, JobKind.PURGE, job, int(job.version or 0))  # a purge leaves alone what answers
    elif job.kind is JobKind.PURGE:
        _index_again(c, now, job)


def _index_again(c: Connection, now: float, job: Job) -> None:
    """Queue the indexing of a version whose chunks a late purge may have removed; it runs if the version answers."""
    bases = sa.select(knowledge_bases).where(knowledge_bases.c.id == job.knowledge_base_id)
    base = c.execute(bases.with_for_update()).one_or_none()
    mine = (versions.c.document_id == job.document_id) & (versions.c.version == job.version)
    if base is None or c.scalar(sa.select(versions.c.version).where(mine)) is None:
        return
    follow_up(c, now, JobKind.REBUILD, job, int(job.version or 0), base.live_generation)
    # A version that is not marked as indexed in the generation that is being built is indexed there by the rebuild.
    c.execute(
        indexed.delete().where(
            indexed.c.document_id == job.document_id,
            indexed.c.version == job.version,
            indexed.c.generation_id == base.building_generation,
        )
    )
