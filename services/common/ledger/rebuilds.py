"""Rebuilds: a new generation of a knowledge base is filled beside the live one, and then takes its place.

Each live document is a job of its own, with the leases, fairness and retries of every job. The transaction that records
the last missing document also switches to the new generation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from zhiwen.common.errors import Conflict, NotFound
from zhiwen.common.ledger.bases import (
    NewGeneration,
    bump_revision,
    insert_generation,
    read_generation,
    read_knowledge_base,
)
from zhiwen.common.ledger.database import Database
from zhiwen.common.ledger.endings import mark_indexed
from zhiwen.common.ledger.jobs import add_job, cancel_jobs, end_job, require_held
from zhiwen.common.ledger.retry import RETRY_POLICY
from zhiwen.common.ledger.samples import add_samples
from zhiwen.common.ledger.schema import documents, generations, indexed, jobs, knowledge_bases
from zhiwen.common.models import Generation, Job, JobKind, KnowledgeBase, Rebuild, Sampled

RETIRE_DELAY = 10.0
"""Seconds until the old generation is removed: a search that began before the switch may still read it."""


class Rebuilds:
    """Rebuilds and their jobs. Every method but `reconcile` is one transaction."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def begin(self, base: KnowledgeBase, new: NewGeneration) -> KnowledgeBase:
        """Begin to build the generation `new`, whose collection exists; return the changed knowledge base.

        Raises `Conflict` (`rebuild-running`) while another rebuild runs, or when one has ended since `base` was read,
        and `NotFound` when the base was dropped meanwhile.
        """
        with self.database.write() as c:
            current = self._locked(c, base.id, base.name)
            if current.deleting:
                raise NotFound("knowledge-base-not-found", f"There is no knowledge base named {base.name}.")
            if current.building is not None:
                raise Conflict("rebuild-running", f"{base.name} is being rebuilt already; cancel that one first.")
            if current.live.id != base.live.id:
                raise Conflict("rebuild-running", f"{base.name} was rebuilt meanwhile; look at it and try again.")
            generation_id = insert_generation(c, base.id, new, self.database.now())
            c.execute(
                knowledge_bases.update()
                .where(knowledge_bases.c.id == base.id)
                .values(building_generation=generation_id, rebuild_error=None, updated_at=self.database.now())
            )
            self._queue_missing(c, base.id, generation_id)
            self._switch_if_complete(c, base.id, generation_id)
            return read_knowledge_base(c, knowledge_bases.c.id == base.id)

    def cancel(self, base: KnowledgeBase) -> None:
        """Give up the generation that is being built. Raises `Conflict` (`no-rebuild`) when there is none."""
        with self.database.write() as c:
            building = self._locked(c, base.id).building
            if building is None:
                raise Conflict("no-rebuild", f"{base.name} is not being rebuilt.")
            self._give_up(c, building, error=None)

    def progress(self, base: KnowledgeBase) -> Rebuild | None:
        """Return the running rebuild with its number of indexed documents; None when no rebuild runs."""
        if base.building is None:
            return None
        with self.database.read() as c:
            total = c.scalar(sa.select(sa.func.count()).select_from(documents).where(_live_in(base.id))) or 0
            missing = c.scalar(sa.select(sa.func.count()).select_from(_missing(base.id, base.building.id).subquery()))
        return Rebuild(base.building, done=total - int(missing or 0), total=total)

    def change_search_params(self, base: KnowledgeBase, params: dict[str, int]) -> KnowledgeBase:
        """Change the search parameters of the live index. This needs no rebuild."""
        index = replace(base.live.index, search=params)
        spec = {"type": index.type, "metric": index.metric, "params": dict(index.params), "search": params}
        with self.database.write() as c:
            c.execute(generations.update().where(generations.c.id == base.live.id).values(index_spec=spec))
            return read_knowledge_base(c, knowledge_bases.c.id == base.id)

    # The ends of rebuild and retire jobs

    def target(self, job: Job) -> Generation:
        """Return the generation that a rebuild or retire job works on. Raises `NotFound` when it is gone."""
        with self.database.read() as c:
            found = c.scalar(sa.select(generations.c.id).where(generations.c.id == job.generation_id))
            if found is None:
                raise NotFound("generation-gone", "The generation is gone.")
            return read_generation(c, found)

    def finish(self, job: Job, chunks: int, terms: bytes | None, sample: Sequence[Sampled] = ()) -> None:
        """End a successful rebuild job: the generation holds all chunks of the version.

        `chunks` is their number, `terms` their term statistics, and `sample` those of them that belong into the
        generation's sample. Raises `LeaseLost`; then nothing has changed.
        """
        with self.database.write() as c:
            self._locked(c, job.knowledge_base_id)
            require_held(c, job)
            mark_indexed(c, job, int(job.generation_id or 0), chunks, terms)
            add_samples(c, job, int(job.generation_id or 0), sample)
            self._end(c, job)
            bump_revision(c, job.knowledge_base_id)

    def skip(self, job: Job) -> None:
        """End a rebuild job without work: its version or generation is gone, or its version is no longer live."""
        with self.database.write() as c:
            self._locked(c, job.knowledge_base_id)
            require_held(c, job)
            self._end(c, job)

    def fail(self, job: Job, detail: str) -> None:
        """Give up the whole rebuild because of one document. The live generation stays."""
        with self.database.write() as c:
            base = self._locked(c, job.knowledge_base_id)
            require_held(c, job)
            end_job(c, job.id)
            if base.building is not None and base.building.id == job.generation_id:
                self._give_up(c, base.building, error=detail)

    def finish_retire(self, job: Job) -> None:
        """End a retire job: remove the row of a generation whose collection was dropped."""
        with self.database.write() as c:
            require_held(c, job)
            end_job(c, job.id)
            c.execute(generations.delete().where(generations.c.id == job.generation_id))

    def reconcile(self) -> None:
        """Give up rebuilds whose workers died too often.

        For each other rebuild, queue the documents that are missing, or switch to the new generation when none is.
        """
        with self.database.read() as c:
            dead = c.execute(
                sa.select(jobs.c.id, jobs.c.knowledge_base_id, jobs.c.generation_id).where(
                    jobs.c.kind == JobKind.REBUILD,
                    jobs.c.lease_until <= self.database.now(),
                    jobs.c.attempts >= RETRY_POLICY.max_attempts,
                )
            ).all()
            building = c.execute(
                sa.select(knowledge_bases.c.id, knowledge_bases.c.building_generation).where(
                    knowledge_bases.c.building_generation.is_not(None), ~knowledge_bases.c.deleting
                )
            ).all()
        for row in dead:
            with self.database.write() as c:
                current = self._locked(c, row.knowledge_base_id).building
                end_job(c, row.id)
                if current is not None and current.id == row.generation_id:
                    error = f"The worker died {RETRY_POLICY.max_attempts} times on one of the documents."
                    self._give_up(c, current, error=error)
        for base_id, generation_id in building:
            with self.database.write() as c:
                current = self._locked(c, base_id).building
                if current is not None and current.id == generation_id:
                    self._queue_missing(c, base_id, generation_id)
                    self._switch_if_complete(c, base_id, generation_id)

    def reindex(self, base: KnowledgeBase, document_id: str, version: int) -> None:
        """Queue the indexing of a live version into the live generation once more. `fsck` repairs with this."""
        with self.database.write() as c:
            add_job(
                c,
                self.database.now(),
                JobKind.REBUILD,
                base.id,
                document_id,
                version=version,
                generation_id=base.live.id,
            )

    # Within the caller's transaction

    @staticmethod
    def _locked(c: Connection, base_id: str, name: str = "") -> KnowledgeBase:
        c.execute(sa.select(knowledge_bases.c.id).where(knowledge_bases.c.id == base_id).with_for_update())
        return read_knowledge_base(c, knowledge_bases.c.id == base_id, name)

    def _end(self, c: Connection, job: Job) -> None:
        end_job(c, job.id)
        self._switch_if_complete(c, job.knowledge_base_id, int(job.generation_id or 0))

    def _queue_missing(self, c: Connection, base_id: str, generation_id: int) -> None:
        queued = sa.select(jobs.c.document_id).where(
            jobs.c.kind == JobKind.REBUILD, jobs.c.generation_id == generation_id
        )
        missing = _missing(base_id, generation_id).where(documents.c.id.not_in(queued))
        for document_id, version in c.execute(missing).all():
            add_job(
                c,
                self.database.now(),
                JobKind.REBUILD,
                base_id,
                document_id,
                version=version,
                generation_id=generation_id,
            )

    def _switch_if_complete(self, c: Connection, base_id: str, generation_id: int) -> None:
        base = read_knowledge_base(c, knowledge_bases.c.id == base_id)
        if base.building is None or base.building.id != generation_id:
            return
        if c.execute(_missing(base_id, generation_id).limit(1)).first() is not None:
            return
        now = self.database.now()
        c.execute(
            knowledge_bases.update()
            .where(knowledge_bases.c.id == base_id)
            .values(live_generation=generation_id, building_generation=None, updated_at=now)
        )
        bump_revision(c, base_id)
        c.execute(
            jobs.delete().where(
                jobs.c.kind == JobKind.REBUILD, jobs.c.generation_id == generation_id, jobs.c.lease_owner.is_(None)
            )
        )
        add_job(c, now, JobKind.RETIRE, base_id, generation_id=base.live.id, delay=RETIRE_DELAY)

    def _give_up(self, c: Connection, building: Generation, *, error: str | None) -> None:
        now = self.database.now()
        base_id = building.knowledge_base_id
        of_generation = (jobs.c.kind == JobKind.REBUILD) & (jobs.c.generation_id == building.id)
        cancel_jobs(c, of_generation)
        c.execute(
            knowledge_bases.update()
            .where(knowledge_bases.c.id == base_id)
            .values(building_generation=None, rebuild_error=error, updated_at=now)
        )
        add_job(c, now, JobKind.RETIRE, base_id, generation_id=building.id)


def _live_in(base_id: str) -> sa.ColumnElement[bool]:
    return (documents.c.knowledge_base_id == base_id) & documents.c.live_version.is_not(None)


def _missing(base_id: str, generation_id: int) -> sa.Select[Any]:
    """Select the (document, live version) pairs that a generation does not hold."""
    stands = sa.exists().where(
        indexed.c.document_id == documents.c.id,
        indexed.c.version == documents.c.live_version,
        indexed.c.generation_id == generation_id,
    )
    return sa.select(documents.c.id, documents.c.live_version).where(_live_in(base_id), ~stands)
