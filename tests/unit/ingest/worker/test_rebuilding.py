"""Knowledge bases whose built-in model is retired are rebuilt by the worker, once, and stay usable meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import pytest

from tests.servers.ledgers import add, claim, index, new_base
from zhiwen.common.errors import ServiceError, Unavailable
from zhiwen.common.ledger import Ledger, NewGeneration
from zhiwen.common.models import ChunkingSpec, IndexSpec, JobKind, KnowledgeBase
from zhiwen.common.settings import BUILT_IN_MODEL
from zhiwen.common.store import ChunkStore
from zhiwen.ingest.worker.broker import Broker
from zhiwen.ingest.worker.rebuilding import COLLECTION_PREFIX, Rebuilder

RETIRED = "zhiwen-static-v1"
SPEC = IndexSpec(type="HNSW", params={"M": 8})


@dataclass
class Collections:
    """The names of the collections that exist. `before` is what happens just before one is created."""

    names: set[str] = field(default_factory=set)
    before: Callable[[str], None] | None = None

    def create(self, name: str, dimension: int, index: IndexSpec) -> None:
        assert (dimension, index) == (384, SPEC)
        if self.before is not None:
            self.before(name)
        self.names.add(name)

    def drop(self, name: str) -> None:
        self.names.discard(name)


class Bell:
    """A broker that counts how often it was rung."""

    rung = 0

    def wake(self) -> None:
        self.rung += 1


def base_of(ledger: Ledger, model: str, name: str) -> KnowledgeBase:
    """Create a knowledge base of a model, with one indexed document."""
    generation = NewGeneration(f"kb_{name}", model, 384, SPEC, ChunkingSpec(100, 10))
    base = new_base(ledger, name, generation=generation)
    add(ledger, base)
    index(ledger, base)
    return ledger.bases.get(name)


def test_only_bases_of_a_retired_model_are_rebuilt_and_only_once(ledger: Ledger) -> None:
    old, present = base_of(ledger, RETIRED, "old"), base_of(ledger, BUILT_IN_MODEL, "present")
    store, bell = Collections(), Bell()
    rebuilder = Rebuilder(ledger, cast(ChunkStore, store), cast(Broker, bell))
    for _ in range(2):
        rebuilder.replace_retired_models()
    building = ledger.bases.get("old").building
    assert building is not None
    assert (building.embedding_model, building.dimension, building.index) == (BUILT_IN_MODEL, 384, SPEC)
    assert building.chunking == old.live.chunking
    assert building.collection.startswith(f"{COLLECTION_PREFIX}{old.id}_")
    assert (store.names, bell.rung) == ({building.collection}, 1)
    assert ledger.bases.get("present") == present
    job = claim(ledger)
    assert (job.kind, job.generation_id) == (JobKind.REBUILD, building.id)
    ledger.rebuilds.finish(job, 3, None)
    assert ledger.bases.get("old").live.embedding_model == BUILT_IN_MODEL
    rebuilder.replace_retired_models()
    assert bell.rung == 1


def test_rebuild_that_failed_or_that_another_worker_began_is_not_begun_again(ledger: Ledger) -> None:
    base_of(ledger, RETIRED, "old")
    store = Collections()
    rebuilder = Rebuilder(ledger, cast(ChunkStore, store), cast(Broker, Bell()))

    def begun_by_another(_name: str) -> None:
        store.before = None  # nothing stands before the other worker's collection
        rebuilder.replace_retired_models()

    store.before = begun_by_another
    rebuilder.replace_retired_models()
    building = ledger.bases.get("old").building
    assert building is not None
    assert store.names == {building.collection}
    job = claim(ledger)
    ledger.rebuilds.fail(job, "The document cannot be read.")
    rebuilder.replace_retired_models()
    stopped = ledger.bases.get("old")
    assert (stopped.building, stopped.rebuild_error) == (None, "The document cannot be read.")


def test_a_base_that_milvus_refuses_keeps_no_other_from_its_rebuild_and_leaves_nothing(ledger: Ledger) -> None:
    base_of(ledger, RETIRED, "bad")
    base_of(ledger, RETIRED, "good")
    store = Collections()
    refused: list[str] = []

    def refusing(name: str) -> None:
        if not refused:
            store.names.add(name)  # the collection is there, and its index is not
            refused.append(name)
            raise ServiceError("milvus-refused", "The index type is not known.", status=502)

    store.before = refusing
    rebuilder = Rebuilder(ledger, cast(ChunkStore, store), cast(Broker, Bell()))
    for _ in range(2):
        rebuilder.replace_retired_models()
    bases = [ledger.bases.get("bad"), ledger.bases.get("good")]
    stopped = [base for base in bases if base.rebuild_error == "The index type is not known."]
    assert (len(stopped), stopped[0].building) == (1, None)
    (building,) = [base.building.collection for base in bases if base.building]
    assert store.names == {building}


def test_rebuild_begins_later_while_milvus_does_not_answer(ledger: Ledger) -> None:
    base_of(ledger, RETIRED, "old")
    store = Collections()

    def silent(_name: str) -> None:
        raise Unavailable("milvus-unavailable", "Milvus does not answer.")

    store.before = silent
    rebuilder = Rebuilder(ledger, cast(ChunkStore, store), cast(Broker, Bell()))
    with pytest.raises(Unavailable):
        rebuilder.replace_retired_models()
    assert ledger.bases.get("old").rebuild_error is None
    store.before = None  # Milvus is back
    rebuilder.replace_retired_models()
    assert ledger.bases.get("old").building is not None


def test_worker_that_comes_late_does_not_rebuild_what_another_has_rebuilt(ledger: Ledger) -> None:
    base_of(ledger, RETIRED, "old")
    store = Collections()
    rebuilder = Rebuilder(ledger, cast(ChunkStore, store), cast(Broker, Bell()))

    def rebuilt_by_another(_name: str) -> None:
        store.before = None  # nothing stands before the other worker's collection
        rebuilder.replace_retired_models()
        ledger.rebuilds.finish(claim(ledger), 3, None)

    store.before = rebuilt_by_another
    rebuilder.replace_retired_models()
    base = ledger.bases.get("old")
    assert (base.live.embedding_model, base.building, base.rebuild_error) == (BUILT_IN_MODEL, None, None)
    assert store.names == {base.live.collection}
