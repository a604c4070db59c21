"""Knowledge bases and their generations."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from zhiwen.common.errors import Conflict, NotFound
from zhiwen.common.ledger.database import Database, from_driver, utc_datetime
from zhiwen.common.ledger.jobs import add_job, cancel_jobs
from zhiwen.common.ledger.schema import api_keys, generations, jobs, knowledge_bases
from zhiwen.common.models import ChunkingSpec, Generation, IndexSpec, JobKind, KnowledgeBase


@dataclass(frozen=True, slots=True)
class NewGeneration:
    """A generation before the ledger has recorded it and given it a number."""

    collection: str
    embedding_model: str
    dimension: int
    index: IndexSpec
    chunking: ChunkingSpec


class KnowledgeBases:
    """The knowledge bases. Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def create(
        self,
        *,
        id: str,
        name: str,
        description: str,
        prompt_template: str | None,
        generation: NewGeneration,
        cross_language: bool | None = None,
        dense_weight: float | None = None,
        min_confidence: float | None = None,
    ) -> KnowledgeBase:
        """Add a knowledge base with this `id` and `name`. The collection of its first `generation` already exists.

        `description` is shown to users. `prompt_template` None means the service's own template, and `cross_language`
        None the service's setting. `dense_weight` None means the weight of the embedding model, and `min_confidence`
        None the service's setting. Raises `Conflict` (`knowledge-base-exists`) when the name is taken.
        """
        now = self.database.now()
        try:
            with self.database.write() as c:
                c.execute(
                    knowledge_bases.insert().values(
                        id=id,
                        name=name,
                        description=description,
                        prompt_template=prompt_template,
                        cross_language=cross_language,
                        dense_weight=dense_weight,
                        min_confidence=min_confidence,
                        deleting=False,
                        revision=0,
                        served_at=0.0,
                        created_at=now,
                        updated_at=now,
                    )
                )
                generation_id = insert_generation(c, id, generation, now)
                c.execute(
                    knowledge_bases.update().where(knowledge_bases.c.id == id).values(live_generation=generation_id)
                )
                return read_knowledge_base(c, knowledge_bases.c.id == id)
        except IntegrityError as exc:
            raise Conflict("knowledge-base-exists", f"There is already a knowledge base named {name}.") from exc

    def get(self, name: str) -> KnowledgeBase:
        """Return a knowledge base by name. Raises `NotFound`, also when it is being deleted."""
        found = self.database.look_up(_NAMED, name=name)
        return _one(found[0] if found else None, name)

    def get_by_id(self, id: str) -> KnowledgeBase:
        """Return a knowledge base by id, even while it is being deleted. Raises `NotFound`."""
        with self.database.read() as c:
            return read_knowledge_base(c, knowledge_bases.c.id == id, id)

    def list(self, *, after: str = "", limit: int = 50) -> list[KnowledgeBase]:
        """Return up to `limit` knowledge bases in order of name, beginning after the name `after`."""
        with self.database.read() as c:
            listed = _BASES.where(knowledge_bases.c.name > after, ~knowledge_bases.c.deleting)
            return [_to_base(row) for row in c.execute(listed.order_by(knowledge_bases.c.name).limit(limit)).mappings()]

    def all(self) -> Sequence[KnowledgeBase]:
        """Return every knowledge base that is not being deleted."""
        with self.database.read() as c:
            return [_to_base(row) for row in c.execute(_BASES.where(~knowledge_bases.c.deleting)).mappings()]

    def of_models(self, models: Collection[str]) -> Sequence[KnowledgeBase]:
        """Return the knowledge bases whose live generation was made with one of these embedding models."""
        with self.database.read() as c:
            found = _BASES.where(_LIVE.c.embedding_model.in_(models), ~knowledge_bases.c.deleting)
            return [_to_base(row) for row in c.execute(found.order_by(knowledge_bases.c.name)).mappings()]

    def generations(self, id: str) -> Sequence[Generation]:
        """Return all generations of a knowledge base: the live one, the building one, and the retired ones."""
        with self.database.read() as c:
            rows = c.execute(sa.select(generations).where(generations.c.knowledge_base_id == id))
            return [_to_generation(row._mapping, "") for row in rows]

    def collections(self, id: str) -> Sequence[str]:
        """Return the names of the collections of all generations of a knowledge base."""
        with self.database.read() as c:
            return c.scalars(sa.select(generations.c.collection).where(generations.c.knowledge_base_id == id)).all()

    def update(self, name: str, changes: Mapping[str, Any]) -> KnowledgeBase:
        """Change what needs no rebuild: `description`, `prompt_template`, `dense_weight`, …. Raises `NotFound`."""
        with self.database.write() as c:
            base = read_knowledge_base(c, (knowledge_bases.c.name == name) & ~knowledge_bases.c.deleting, name)
            values = {**changes, "updated_at": self.database.now()}
            c.execute(knowledge_bases.update().where(knowledge_bases.c.id == base.id).values(values))
            return read_knowledge_base(c, knowledge_bases.c.id == base.id)

    def begin_drop(self, name: str) -> None:
        """Hide a knowledge base and queue the removal of its content. Its name is free at once. Raises `NotFound`.

        API keys for this base alone are revoked: a key holds the name, and would open the next base of that name.
        """
        now = self.database.now()
        with self.database.write() as c:
            base = read_knowledge_base(c, (knowledge_bases.c.name == name) & ~knowledge_bases.c.deleting, name)
            c.execute(
                knowledge_bases.update()
                .where(knowledge_bases.c.id == base.id)
                .values(deleting=True, name=f"{base.id}/deleting", updated_at=now)
            )
            for_it_alone = (api_keys.c.knowledge_base == name) & api_keys.c.revoked_at.is_(None)
            c.execute(api_keys.update().where(for_it_alone).values(revoked_at=now))
            cancel_jobs(c, jobs.c.knowledge_base_id == base.id)
            add_job(c, now, JobKind.DROP, base.id)


# Within the caller's transaction


def lock_base(c: Connection, knowledge_base_id: str) -> None:
    """Lock a knowledge base: one transaction at a time changes the versions and jobs of its documents.

    Every transaction locks in this order, which prevents deadlocks: knowledge base, jobs, documents.
    """
    row = sa.select(knowledge_bases.c.id).where(knowledge_bases.c.id == knowledge_base_id)
    c.execute(row.with_for_update(key_share=True))


def bump_revision(c: Connection, knowledge_base_id: str) -> None:
    """Increase the revision of a knowledge base: caches are stale because searches find something else now."""
    changed = knowledge_bases.c.id == knowledge_base_id
    c.execute(knowledge_bases.update().where(changed).values(revision=knowledge_bases.c.revision + 1))


def insert_generation(c: Connection, knowledge_base_id: str, new: NewGeneration, now: float) -> int:
    """Insert a generation and return its number."""
    statement = generations.insert().values(
        knowledge_base_id=knowledge_base_id,
        collection=new.collection,
        embedding_model=new.embedding_model,
        dimension=new.dimension,
        index_spec=asdict(new.index),
        chunking=asdict(new.chunking),
        created_at=now,
    )
    return int(c.scalars(statement.returning(generations.c.id)).one())


_LIVE = generations.alias("live")
_BUILDING = generations.alias("building")
_BASES = (
    sa.select(knowledge_bases, *(column.label(f"live_{column.name}") for column in _LIVE.c))
    .add_columns(*(column.label(f"building_{column.name}") for column in _BUILDING.c))
    .select_from(
        knowledge_bases.join(_LIVE, _LIVE.c.id == knowledge_bases.c.live_generation).outerjoin(
            _BUILDING, _BUILDING.c.id == knowledge_bases.c.building_generation
        )
    )
)
_NAMED = _BASES.where(knowledge_bases.c.name == sa.bindparam("name"), ~knowledge_bases.c.deleting)
"""Built once, because every question runs it."""


def read_knowledge_base(c: Connection, condition: sa.ColumnElement[bool], name: str = "") -> KnowledgeBase:
    """Return the one knowledge base that meets `condition`.

    Raises `NotFound`. The error names the base by `name`; without a name it says that the base was deleted meanwhile.
    """
    return _one(c.execute(_BASES.where(condition)).mappings().one_or_none(), name)


def _one(row: Mapping[Any, Any] | None, name: str) -> KnowledgeBase:
    if row is None:
        missing = f"There is no knowledge base named {name}." if name else "The knowledge base was deleted meanwhile."
        raise NotFound("knowledge-base-not-found", missing)
    return _to_base(row)


def _to_base(row: Mapping[Any, Any]) -> KnowledgeBase:
    return KnowledgeBase(
        id=row["id"],
        name=row["name"],
        description=row["description"],
        prompt_template=row["prompt_template"],
        cross_language=None if row["cross_language"] is None else bool(row["cross_language"]),
        live=_to_generation(row, "live_"),
        building=_to_generation(row, "building_") if row["building_generation"] else None,
        rebuild_error=row["rebuild_error"],
        deleting=bool(row["deleting"]),
        revision=row["revision"],
        created_at=utc_datetime(row["created_at"]),
        updated_at=utc_datetime(row["updated_at"]),
        dense_weight=row["dense_weight"],
        min_confidence=row["min_confidence"],
    )


def read_generation(c: Connection, generation_id: int) -> Generation:
    """Return a generation by its number; it must exist."""
    row = c.execute(sa.select(generations).where(generations.c.id == generation_id)).mappings().one()
    return _to_generation(row, "")


def _to_generation(values: Mapping[Any, Any], prefix: str) -> Generation:
    return Generation(
        id=values[f"{prefix}id"],
        knowledge_base_id=values[f"{prefix}knowledge_base_id"],
        collection=values[f"{prefix}collection"],
        embedding_model=values[f"{prefix}embedding_model"],
        dimension=values[f"{prefix}dimension"],
        index=IndexSpec(**from_driver(values[f"{prefix}index_spec"])),
        chunking=ChunkingSpec(**from_driver(values[f"{prefix}chunking"])),
    )
