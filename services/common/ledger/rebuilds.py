"""Rebuilds: a new generation of a knowledge base is filled beside the live one, then answers in its place.

Each live document is a job of its own, so that leases, fairness, retries and resumption are those of every job. The
switch is one transaction, made by whichever transaction indexes the last document that was missing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from zhiwen.common.errors import Conflict, NotFound
from zhiwen.common.ledger.bases import NewGeneration, insert_generation, read_generation, read_knowledge_base
from zhiwen.common.ledger.claiming import MAX_ATTEMPTS
from zhiwen.common.ledger.database import Database
from zhiwen.common.ledger.fencing import require_held
from zhiwen.common.ledger.ingests import mark_indexed
from zhiwen.common.ledger.queue import add_job, note_change
from zhiwen.common.ledger.schema import documents, generations, indexed, jobs, knowledge_bases
from zhiwen.common.models import Generation, Job, JobKind, KnowledgeBase, Rebuild

RETIRE_DELAY = 10.0
"""Seconds for which searches that began on the old generation may still read it."""


class Rebuilds:
    """Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def begin(self, base: KnowledgeBase, new: NewGeneration, *, request_id: str | None) -> KnowledgeBase:
        """Start building `new`, whose collection exists.

        Raises `Conflict` (`rebuild-running`) while one is built, `NotFound` when the base is dropped meanwhile.
        """
        with self.database.write() as c:
            current = self._locked(c, base.id, base.name)
            if current.deleting:
                raise NotFound("knowledge-base-not-found", f"There is no knowledge base named {base.name}.")
            if current.building is not None:
                raise Conflict("rebuild-running", f"{base.name} is being rebuilt already; cancel that one first.")
            generation_id = insert_generation(c, base.id, new, self.database.now())
            c.execute(
                knowledge_bases.update()
                .where(knowledge_bases.c.id == base.id)
                .values(building_generation=generation_id, rebuild_error=None, updated_at=self.database.now())
            )
            self._queue_missing(c, base.id, generation_id, request_id)
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
        """Return how far the generation that is being built is, None when there is none."""
        if base.building is None:
            return None
        with self.database.read() as c:
            total = c.scalar(sa.select(sa.func.count()).select_from(documents).where(_live_in(base.id))) or 0
            missing = c.scalar(sa.select(sa.func.count()).select_from(_missing(base.id, base.building.id).subquery()))
        return Rebuild(base.building, done=total - int(missing or 0), total=total)

    def change_search_params(self, base: KnowledgeBase, params: dict[str, int]) -> KnowledgeBase:
        """Change how the live index is searched: that needs no rebuild."""
        index = replace(base.live.index, search=params)
        spec = {"type": index.type, "metric": index.metric, "params": dict(index.params), "search": params}
        with self.database.write() as c:
            c.execute(generations.update().where(generations.c.id == base.live.id).values(index_spec=spec))
            return read_knowledge_base(c, knowledge_bases.c.id == base.id)

    # What workers do

    def target(self, job: Job) -> Generation:
        """Return the generation that a rebuild or retire job is about. Raises `NotFound` when it is gone."""
        with self.database.read() as c:
            found = c.scalar(sa.select(generations.c.id).where(generations.c.id == job.generation_id))
            if found is None:
                raise NotFound("generation-gone", "The generation is gone.")
            return read_generation(c, found)

    def finish(self, job: Job, chunks: int, terms: bytes | None) -> None:
        """End the job: the version stands in the generation. Raises `LeaseLost`; then nothing has changed."""
        with self.database.write() as c:
            self._locked(c, job.knowledge_base_id)
            require_held(c, job)
            mark_indexed(c, str(job.document_id), int(job.version or 0), int(job.generation_id or 0), chunks, terms)
            self._end(c, job)
            note_change(c, job.knowledge_base_id)

    def skip(self, job: Job) -> None:
        """End the job without work: its version or its generation is gone, or answers no more."""
        with self.database.write() as c:
            self._locked(c, job.knowledge_base_id)
            require_held(c, job)
            self._end(c, job)

    def _end(self, c: Connection, job: Job) -> None:
        c.execute(jobs.delete().where(jobs.c.id == job.id))
        self._switch_if_complete(c, job.knowledge_base_id, int(job.generation_id or 0))

    def fail(self, job: Job, detail: str) -> None:
        """Give up the whole rebuild because one document cannot be part of it; the old generation goes on answering."""
        with self.database.write() as c:
            base = self._locked(c, job.knowledge_base_id)
            require_held(c, job)
            c.execute(jobs.delete().where(jobs.c.id == job.id))
            if base.building is not None and base.building.id == job.generation_id:
                self._give_up(c, base.building, error=detail)

    def finish_retire(self, job: Job) -> None:
        """Remove a generation whose collection is dropped."""
        with self.database.write() as c:
            require_held(c, job)
            c.execute(jobs.delete().where(jobs.c.id == job.id))
            c.execute(generations.delete().where(generations.c.id == job.generation_id))

    def reconcile(self) -> None:
        """Give up what died too often, queue what a running rebuild lacks, and switch those that lack nothing."""
        with self.database.read() as c:
            dead = c.execute(
                sa.select(jobs.c.id, jobs.c.knowledge_base_id, jobs.c.generation_id).where(
                    jobs.c.kind == JobKind.REBUILD,
                    jobs.c.lease_until <= self.database.now(),
                    jobs.c.attempts >= MAX_ATTEMPTS,
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
                c.execute(jobs.delete().where(jobs.c.id == row.id))
                if current is not None and current.id == row.generation_id:
                    self._give_up(c, current, error=f"The worker died {MAX_ATTEMPTS} times on one of the documents.")
        for base_id, generation_id in building:
            with self.database.write() as c:
                current = self._locked(c, base_id).building
                if current is not None and current.id == generation_id:
                    self._queue_missing(c, base_id, generation_id, None)
                    self._switch_if_complete(c, base_id, generation_id)

    def reindex(self, base: KnowledgeBase, document_id: str, version: int) -> None:
        """Queue a live version to be indexed again into the live generation: what `fsck` repairs with."""
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

    # Within a transaction

    @staticmethod
    def _locked(c: Connection, base_id: str, name: str = "") -> KnowledgeBase:
        c.execute(sa.select(knowledge_bases.c.id).where(knowledge_bases.c.id == base_id).with_for_update())
        return read_knowledge_base(c, knowledge_bases.c.id == base_id, name)

    def _queue_missing(self, c: Connection, base_id: str, generation_id: int, request_id: str | None) -> None:
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
                request_id=request_id,
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
        note_change(c, base_id)
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
        c.execute(jobs.delete().where(of_generation, jobs.c.lease_owner.is_(None)))
        c.execute(jobs.update().where(of_generation).values(cancelled=True))
        c.execute(
            knowledge_bases.update()
            .where(knowledge_bases.c.id == base_id)
            .values(building_generation=None, rebuild_error=error, updated_at=now)
        )
        add_job(c, now, JobKind.RETIRE, base_id, generation_id=building.id)


def _live_in(base_id: str) -> sa.ColumnElement[bool]:
    return (documents.c.knowledge_base_id == base_id) & documents.c.live_version.is_not(None)


def _missing(base_id: str, generation_id: int) -> sa.Select[Any]:
    """The (document, live version) pairs that do not stand in a generation."""
    stands = sa.exists().where(
        indexed.c.document_id == documents.c.id,
        indexed.c.version == documents.c.live_version,
        indexed.c.generation_id == generation_id,
    )
    return sa.select(documents.c.id, documents.c.live_version).where(_live_in(base_id), ~stands)
