"""A knowledge base that is dropped while somebody rebuilds or repairs it leaves no collection behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from tests.servers.ledgers import Clock, claim, new_base
from zhiwen.common.api.knowledge_bases import Chunking, UpdateKnowledgeBase
from zhiwen.common.errors import NotFound
from zhiwen.common.ledger import Ledger, NewGeneration
from zhiwen.common.models import ChunkingSpec, IndexSpec, JobKind, KnowledgeBase
from zhiwen.common.originals import DiskOriginals
from zhiwen.ingest.fsck import Fsck
from zhiwen.ingest.knowledge_bases import KnowledgeBaseManager
from zhiwen.ingest.settings import IngestSettings

UNUSED = cast(Any, None)

Meanwhile = Callable[[], object]


class Collections:
    """A store of empty collections where something happens just before one is made, or after they are listed."""

    def __init__(self, *names: str, before_create: Meanwhile = lambda: None, after_list: Meanwhile = lambda: None):
        self.names = set(names)
        self.before_create = before_create
        self.after_list = after_list

    def collections(self) -> list[str]:
        listed = sorted(self.names)
        self.after_list()
        return listed

    def create(self, name: str, dimension: int, index: IndexSpec) -> None:
        self.before_create()
        self.names.add(name)

    def drop(self, name: str) -> None:
        self.names.remove(name)

    def capabilities(self) -> None:
        return None

    def keys(self, name: str) -> list[Any]:
        assert name in self.names
        return []

    def point_alias(self, name: str, collection: str) -> None:
        assert collection in self.names


@pytest.fixture
def base(own_ledger: Ledger) -> KnowledgeBase:
    return new_base(own_ledger)


def drop(ledger: Ledger, base: KnowledgeBase, *, finished: bool) -> None:
    ledger.bases.begin_drop(base.name)
    if finished:
        job = claim(ledger)
        assert job.kind is JobKind.DROP
        ledger.endings.finish_drop(job)


@pytest.mark.parametrize("finished", [False, True])
def test_rebuild_of_a_base_that_is_dropped_is_not_found_and_leaves_no_collection(
    own_ledger: Ledger, tmp_path: Path, finished: bool
) -> None:
    settings = IngestSettings(data_dir=tmp_path)
    base = new_base(
        own_ledger, generation=NewGeneration("kb_old", settings.embedding_model, 64, IndexSpec(), ChunkingSpec())
    )
    store = Collections(before_create=lambda: drop(own_ledger, base, finished=finished))
    manager = KnowledgeBaseManager(own_ledger, cast(Any, store), UNUSED, settings)
    change = UpdateKnowledgeBase(chunking=Chunking(size=40, overlap=4))
    with pytest.raises(NotFound, match=base.name):
        manager.update(base, change)
    assert store.names == set()


@pytest.mark.parametrize("finished", [False, True])
def test_repair_makes_no_collection_for_a_base_that_is_dropped(
    own_ledger: Ledger, base: KnowledgeBase, tmp_path: Path, finished: bool
) -> None:
    store = Collections(after_list=lambda: drop(own_ledger, base, finished=finished))
    findings = Fsck(own_ledger, cast(Any, store), DiskOriginals(tmp_path)).run(repair=True)
    assert (store.names, findings.missing_collections) == (set(), [])


def test_repair_makes_no_collection_for_a_generation_that_was_replaced(
    own_ledger: Ledger, base: KnowledgeBase, clock: Clock, tmp_path: Path
) -> None:
    new = NewGeneration("kb_new", "hash-64", 64, IndexSpec(), ChunkingSpec())
    store = Collections(after_list=lambda: own_ledger.rebuilds.begin(base, new))
    findings = Fsck(own_ledger, cast(Any, store), DiskOriginals(tmp_path)).run(repair=True)
    assert (store.names, findings.missing_collections) == (set(), [])


def test_repair_makes_the_collection_that_is_missing(own_ledger: Ledger, base: KnowledgeBase, tmp_path: Path) -> None:
    store = Collections()
    findings = Fsck(own_ledger, cast(Any, store), DiskOriginals(tmp_path)).run(repair=True)
    assert (store.names, findings.missing_collections) == ({base.live.collection}, [base.live.collection])
