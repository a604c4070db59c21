"""Jobs with leases and fencing (design section 2.3).

A worker claims a job for `lease_seconds` and gets a fencing number that grows with every claim. It renews the lease
while it works. Every write that ends a job names the fencing number, so that a late worker, whose lease ran out and
was given to another, changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from services.common.errors import Unavailable
from services.common.ledger.database import Database
from services.common.ledger.queue import REMOVALS, add_job, note_change
from services.common.ledger.schema import documents, generations, indexed, jobs, knowledge_bases, originals, versions
from services.common.ledger.touching import touch_originals
from services.common.models import DocumentStatus, Job, JobKind

MAX_ATTEMPTS = 3
TOMBSTONE_SECONDS = 24 * 3600.0


class LeaseLost(Exception):
    """The job is no longer this worker's: cancelled, superseded, deleted, or claimed by another."""


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What a round of the reconciler found: how many jobs gave up for good, and whether any is due now."""

    given_up: int
    due: bool


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
            base_id = c.scalar(NEXT_BASE, {"now": now})
            if base_id is None:
                return None
            row = c.execute(NEXT_JOB, {"now": now, "base_id": base_id}).one_or_none()
            if row is None:
                return None
            c.execute(knowledge_bases.update().where(knowledge_bases.c.id == base_id).values(served_at=now))
            claimed = {"fence": row.fence + 1, "attempts": row.attempts + 1}
            c.execute(
                jobs.update()
                .where(jobs.c.id == row.id)
                .values(lease_owner=owner, lease_until=now + lease_seconds, **claimed)
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
                    jobs.update().where(_held(job), ~jobs.c.cancelled).values(lease_until=now + lease_seconds)
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
            # The base's row is the lock on which a commit meets the switch to another generation.
            base = c.execute(
                sa.select(knowledge_bases).where(knowledge_bases.c.id == job.knowledge_base_id).with_for_update()
            ).one_or_none()
            require_held(c, job)
            if base is None or base.live_generation != generation_id:
                raise Unavailable(
                    "generation-moved", "The knowledge base was rebuilt meanwhile; indexing starts again."
                )
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
                self._follow_up(c, JobKind.REBUILD, job, int(job.version or 0), base.building_generation)
            superseded = sa.select(versions.c.version).where(
                versions.c.document_id == job.document_id, versions.c.version < job.version
            )
            for version in c.scalars(superseded).all():
                self._follow_up(c, JobKind.PURGE, job, version)

    def _follow_up(
        self, c: Connection, kind: JobKind, job: Job, version: int, generation_id: int | None = None
    ) -> None:
        add_job(
            c,
            self.database.now(),
            kind,
            job.knowledge_base_id,
            job.document_id,
            version=version,
            generation_id=generation_id,
            request_id=job.request_id,
        )

    def fail(self, job: Job, code: str, detail: str) -> None:
        """End an ingest for good: the document says why, and what it left in the index is removed."""
        with self.database.write() as c:
            require_held(c, job)
            self._fail(c, job.id, str(job.document_id), int(job.version or 0), code, detail)

    def _fail(self, c: Connection, job_id: str, document_id: str, version: int, code: str, detail: str) -> None:
        c.execute(
            documents.update()
            .where(documents.c.id == document_id, documents.c.version == version)
            .values(status=DocumentStatus.FAILED, error_code=code, error_detail=detail, updated_at=self.database.now())
        )
        self._turn_into_purge(c, job_id)

    def _turn_into_purge(self, c: Connection, job_id: str) -> None:
        c.execute(
            jobs.update()
            .where(jobs.c.id == job_id)
            .values(
                kind=JobKind.PURGE,
                priority=0,
                due_at=self.database.now(),
                lease_owner=None,
                lease_until=0.0,
                attempts=0,
                waits=0,
                cancelled=False,
            )
        )

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
            held = c.execute(sa.select(jobs.c.cancelled).where(_held(job)).with_for_update()).one_or_none()
            if held is None:
                self._mend_late_work(c, job)
            elif not held.cancelled:
                released = {"lease_owner": None, "lease_until": 0.0, "attempts": job.attempts - 1}
                c.execute(jobs.update().where(jobs.c.id == job.id).values(released))
            elif job.kind is JobKind.INGEST:
                self._turn_into_purge(c, job.id)
            else:
                c.execute(jobs.delete().where(jobs.c.id == job.id))

    def _mend_late_work(self, c: Connection, job: Job) -> None:
        """Queue what mends a late write or removal; it waits for whoever works on the document."""
        if job.kind in {JobKind.INGEST, JobKind.REBUILD}:
            if c.scalar(sa.select(documents.c.id).where(documents.c.id == job.document_id)) is not None:
                self._follow_up(c, JobKind.PURGE, job, int(job.version or 0))  # leaves alone what answers
        elif job.kind is JobKind.PURGE:
            self._index_again(c, job)

    def _index_again(self, c: Connection, job: Job) -> None:
        """Have a version that a late purge may have robbed of its chunks indexed again, if it answers by then."""
        bases = sa.select(knowledge_bases).where(knowledge_bases.c.id == job.knowledge_base_id)
        base = c.execute(bases.with_for_update()).one_or_none()
        mine = (versions.c.document_id == job.document_id) & (versions.c.version == job.version)
        if base is None or c.scalar(sa.select(versions.c.version).where(mine)) is None:
            return
        self._follow_up(c, JobKind.REBUILD, job, int(job.version or 0), base.live_generation)
        # What is not indexed in the generation that is built is missing there, and the rebuild indexes it.
        c.execute(
            indexed.delete().where(
                indexed.c.document_id == job.document_id,
                indexed.c.version == job.version,
                indexed.c.generation_id == base.building_generation,
            )
        )

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
            document = c.execute(sa.select(documents).where(documents.c.id == job.document_id)).one()
            mine = (versions.c.document_id == job.document_id) & (versions.c.version == job.version)
            released: list[str] = []
            if document.live_version != job.version:
                c.execute(
                    indexed.delete().where(indexed.c.document_id == job.document_id, indexed.c.version == job.version)
                )
                if document.version != job.version:  # superseded: nobody can ask for it again
                    released = self._release_versions(c, mine)
            c.execute(jobs.delete().where(jobs.c.id == job.id))
            return released

    def finish_delete(self, job: Job) -> list[str]:
        """Report a document as deleted; return the sha256 of originals that may be unreferenced now."""
        with self.database.write() as c:
            require_held(c, job)
            released = self._release_versions(c, versions.c.document_id == job.document_id)
            c.execute(indexed.delete().where(indexed.c.document_id == job.document_id))
            c.execute(jobs.delete().where(jobs.c.document_id == job.document_id))
            c.execute(
                documents.update()
                .where(documents.c.id == job.document_id)
                .values(status=DocumentStatus.DELETED, updated_at=self.database.now())
            )
            return released

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
            of_base = sa.select(documents.c.id).where(documents.c.knowledge_base_id == job.knowledge_base_id)
            released = self._release_versions(c, versions.c.document_id.in_(of_base))
            c.execute(knowledge_bases.delete().where(knowledge_bases.c.id == job.knowledge_base_id))
            return released

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

    def _release_versions(self, c: Connection, condition: sa.ColumnElement[bool]) -> list[str]:
        released = list(c.scalars(sa.select(versions.c.sha256).where(condition).distinct()))
        c.execute(versions.delete().where(condition))
        touch_originals(c, self.database.now(), released)  # whoever is to remove them may die before it does
        return released

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
                self._fail(c, row.id, row.document_id, row.version, "attempts-exhausted", detail)
            cancelled = c.execute(
                sa.select(jobs.c.id, jobs.c.kind).where(expired, jobs.c.cancelled, jobs.c.kind == JobKind.INGEST)
            ).all()
            for row in cancelled:
                self._turn_into_purge(c, row.id)
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


def _held(job: Job) -> sa.ColumnElement[bool]:
    return (jobs.c.id == job.id) & (jobs.c.fence == job.fence) & jobs.c.lease_owner.is_not(None)


def require_held(c: Connection, job: Job) -> None:
    """Raise `LeaseLost` unless the job is held and not cancelled; its row stays locked until the transaction ends."""
    row = c.execute(sa.select(jobs.c.cancelled).where(_held(job)).with_for_update()).one_or_none()
    if row is None or row.cancelled:
        raise LeaseLost(job.id)


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
