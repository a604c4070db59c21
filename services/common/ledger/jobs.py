"""Jobs with leases and fencing (design section 2.3).

A worker claims a job for `lease_seconds` and gets a fencing number that grows with every claim. It renews the lease
while it works, and ends the job, gives it back, or lets go of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from zhiwen.common.ledger.claiming import ANY_DUE, ANY_DUE_OF, MAX_ATTEMPTS, claim_next
from zhiwen.common.ledger.database import Database
from zhiwen.common.ledger.fencing import is_held, require_held
from zhiwen.common.ledger.ingests import fail_ingest, make_live, turn_into_purge
from zhiwen.common.ledger.late_work import mend_late_work
from zhiwen.common.ledger.removals import finish_delete, finish_drop, finish_purge
from zhiwen.common.ledger.schema import documents, generations, jobs, originals, versions
from zhiwen.common.ledger.touching import touch_originals
from zhiwen.common.models import DocumentStatus, Job, JobKind

TOMBSTONE_SECONDS = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What a round of the reconciler found: how many jobs gave up for good, and whether any is due now."""

    given_up: int
    due: bool


class Jobs:
    """Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self.database = database

    # Claiming

    def claim(self, owner: str, lease_seconds: float) -> Job | None:
        """Take the next job, or return None when nothing is due.

        Knowledge bases are served in turn, so that a large upload to one does not hold back another. A job whose
        document is being worked on waits, so that a delete never runs beside an ingest.
        """
        now = self.database.now()
        with self.database.write() as c:
            return claim_next(c, now, owner, lease_seconds)

    def any_due(self) -> bool:
        """True when a job could be claimed now."""
        with self.database.read() as c:
            return c.execute(ANY_DUE, {"now": self.database.now()}).first() is not None

    def any_due_of(self, document_id: str) -> bool:
        """True when a job of the document could be claimed now."""
        values = {"now": self.database.now(), "document_id": document_id}
        with self.database.read() as c:
            return c.execute(ANY_DUE_OF, values).first() is not None

    def waiting(self) -> int:
        """Return how many jobs are not finished: the length of the queue."""
        with self.database.read() as c:
            return int(c.scalar(sa.select(sa.func.count()).select_from(jobs)) or 0)

    def busy_documents(self, knowledge_base_id: str) -> set[str]:
        """Return the documents that have an unfinished job."""
        with self.database.read() as c:
            mine = (jobs.c.knowledge_base_id == knowledge_base_id) & jobs.c.document_id.is_not(None)
            return set(c.scalars(sa.select(jobs.c.document_id).where(mine).distinct()))

    # While working

    def renew(self, held: Iterable[Job], lease_seconds: float) -> set[str]:
        """Renew the leases of the jobs that are still held; return the ids of those that are lost or cancelled."""
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
        """Report progress. Raises `LeaseLost` when the job is no longer held."""
        with self.database.write() as c:
            require_held(c, job)
            c.execute(
                documents.update()
                .where(documents.c.id == job.document_id, documents.c.version == job.version)
                .values(status=status, stage_done=done, stage_total=total, updated_at=self.database.now())
            )

    # Ending

    def commit_ingest(self, job: Job, generation_id: int, chunks: int, terms: bytes | None = None) -> None:
        """Make the version live: from this commit on it answers and the one before does not.

        Raises `LeaseLost`, or `Unavailable` (`generation-moved`) when another generation answers since the work
        began; then nothing has changed.
        """
        now = self.database.now()
        with self.database.write() as c:
            make_live(c, now, job, generation_id, chunks, terms)

    def fail(self, job: Job, code: str, detail: str) -> None:
        """End an ingest for good: the document says why, and what it left in the index is removed."""
        with self.database.write() as c:
            require_held(c, job)
            fail_ingest(c, self.database.now(), job.id, str(job.document_id), int(job.version or 0), code, detail)

    def put_off(self, job: Job, seconds: float, code: str, detail: str, *, counts: bool) -> None:
        """Give a job back to be tried again after `seconds`.

        `counts` says whether this was one of its attempts; a dependency that does not answer is none.
        """
        with self.database.write() as c:
            require_held(c, job)
            now = self.database.now()
            values = {"attempts": job.attempts} if counts else {"attempts": job.attempts - 1, "waits": job.waits + 1}
            c.execute(
                jobs.update()
                .where(jobs.c.id == job.id)
                .values(lease_owner=None, lease_until=0.0, due_at=now + seconds, **values)
            )
            if job.kind is JobKind.INGEST:
                c.execute(
                    documents.update()
                    .where(documents.c.id == job.document_id, documents.c.version == job.version)
                    .values(
                        status=DocumentStatus.QUEUED,
                        stage_done=0,
                        stage_total=0,
                        error_code=code,
                        error_detail=detail,
                        updated_at=now,
                    )
                )

    def abandon(self, job: Job) -> None:
        """Let go of a job after `LeaseLost`; raises nothing when it is no longer held.

        A cancelled job ends. One whose lease was only not renewed in time can be claimed again, and this was no
        attempt: a document that kills its worker leaves nobody who abandons it. What a late worker may have done to
        the index after another took its job, or ended it, is mended.
        """
        with self.database.write() as c:
            held = c.execute(sa.select(jobs.c.cancelled).where(is_held(job)).with_for_update()).one_or_none()
            if held is None:
                mend_late_work(c, self.database.now(), job)
            elif not held.cancelled:
                released = {"lease_owner": None, "lease_until": 0.0, "attempts": job.attempts - 1}
                c.execute(jobs.update().where(jobs.c.id == job.id).values(released))
            elif job.kind is JobKind.INGEST:
                turn_into_purge(c, self.database.now(), job.id)
            else:
                c.execute(jobs.delete().where(jobs.c.id == job.id))

    # Removals

    def removable_chunks(self, job: Job) -> Sequence[str]:
        """Return the collections from which a purge or delete must remove its document's chunks.

        Empty when the version is the live one, or was queued again meanwhile: then there is nothing to purge.
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
        """End a purge; return the sha256 of originals that may be unreferenced now."""
        with self.database.write() as c:
            require_held(c, job)
            return finish_purge(c, self.database.now(), job)

    def finish_delete(self, job: Job) -> list[str]:
        """Report a document as deleted; return the sha256 of originals that may be unreferenced now."""
        with self.database.write() as c:
            require_held(c, job)
            return finish_delete(c, self.database.now(), job)

    def collections(self, knowledge_base_id: str) -> list[str]:
        """Return the names of all collections of a knowledge base."""
        with self.database.read() as c:
            return list(
                c.scalars(
                    sa.select(generations.c.collection).where(generations.c.knowledge_base_id == knowledge_base_id)
                )
            )

    def finish_drop(self, job: Job) -> list[str]:
        """Remove a knowledge base's rows; return the sha256 of originals that may be unreferenced now."""
        with self.database.write() as c:
            require_held(c, job)
            return finish_drop(c, self.database.now(), job)

    def remove_if_unreferenced(self, sha256: str, remove: Callable[[], None]) -> bool:
        """Call `remove` for an original that no version names, under the lock that an upload of it takes."""
        with self.database.write() as c:
            touch_originals(c, self.database.now(), [sha256])
            if c.scalar(sa.select(versions.c.sha256).where(versions.c.sha256 == sha256).limit(1)) is not None:
                return False
            remove()
            c.execute(originals.delete().where(originals.c.sha256 == sha256))
            return True

    def forgotten_originals(self, *, before: float, since: float) -> Sequence[str]:
        """Return the sha256 of originals touched in a span of time (seconds since 1970) that no version names.

        Whoever stored or released them died before it could tell, or is just about to.
        """
        named = sa.exists().where(versions.c.sha256 == originals.c.sha256)
        touched = (originals.c.touched_at >= since) & (originals.c.touched_at < before)
        with self.database.read() as c:
            return c.scalars(sa.select(originals.c.sha256).where(touched, ~named)).all()

    # Reconciling

    def reconcile(self) -> Reconciled:
        """Fail what died too often, forget old tombstones, free what cancelled workers left; look if any is due."""
        now = self.database.now()
        expired = jobs.c.lease_until <= now
        with self.database.write() as c:
            dead = c.execute(
                sa.select(jobs, documents.c.error_detail)
                .outerjoin(documents, documents.c.id == jobs.c.document_id)
                .where(expired, ~jobs.c.cancelled, jobs.c.kind == JobKind.INGEST, jobs.c.attempts >= MAX_ATTEMPTS)
            ).all()
            for row in dead:
                last = f" The last error was: {row.error_detail}" if row.error_detail else ""
                detail = f"The worker died {row.attempts} times while indexing this document.{last}"
                fail_ingest(c, now, row.id, row.document_id, row.version, "attempts-exhausted", detail)
            cancelled = c.execute(
                sa.select(jobs.c.id, jobs.c.kind).where(expired, jobs.c.cancelled, jobs.c.kind == JobKind.INGEST)
            ).all()
            for row in cancelled:
                turn_into_purge(c, now, row.id)
            c.execute(jobs.delete().where(expired, jobs.c.cancelled, jobs.c.kind != JobKind.INGEST))
            c.execute(
                documents.delete().where(
                    documents.c.status == DocumentStatus.DELETED, documents.c.updated_at < now - TOMBSTONE_SECONDS
                )
            )
        return Reconciled(given_up=len(dead), due=self.any_due())

    def release_owner(self, owner_prefix: str) -> int:
        """Expire the leases of workers known to be dead, whose owner begins with `owner_prefix`."""
        with self.database.write() as c:
            held = jobs.c.lease_owner.startswith(owner_prefix, autoescape=True)
            return int(c.execute(jobs.update().where(held).values(lease_until=0.0)).rowcount)
