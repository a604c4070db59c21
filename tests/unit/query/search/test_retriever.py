"""How the retriever treats what Milvus returns: low scores, stale versions, and what was deleted meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.servers.ledgers import add, index, new_base
from zhiwen.common.embedding.fake import HashEmbedder
from zhiwen.common.embedding.registry import Embedders
from zhiwen.common.errors import Conflict, InvalidRequest, NotFound
from zhiwen.common.ledger import Ledger, NewGeneration
from zhiwen.common.lexical.translations import Translations
from zhiwen.common.models import ChunkingSpec, Generation, Hit, IndexSpec, KnowledgeBase, chunk_id, parse_chunk_id
from zhiwen.common.store import Capabilities, ChunkStore, CollectionGone, Ranking
from zhiwen.query.search.request import Search
from zhiwen.query.search.reranking import Reranker
from zhiwen.query.search.retriever import Found, Retriever


@dataclass
class FakeStore:
    """Collections as texts and scores by chunk id. Counts what it was asked."""

    collections: dict[str, dict[str, tuple[str, float]]] = field(default_factory=dict)
    searches: int = 0
    lookups: int = 0
    sparse: bool = True
    strong: list[bool] = field(default_factory=list)
    words: dict[str, float] = field(default_factory=dict)
    before_search: Callable[[], None] = lambda: None
    before_look_up: Callable[[], None] = lambda: None

    def capabilities(self) -> Capabilities:
        return Capabilities("2.3.5", sparse=self.sparse, aliases=False, index_types=frozenset())

    def _of(self, collection: str) -> dict[str, tuple[str, float]]:
        if collection not in self.collections:
            raise CollectionGone("milvus-refused", "gone")
        return self.collections[collection]

    def search_dense(
        self, generation: Generation, _vector: NDArray[np.float32], *, limit: int, **asked: Any
    ) -> Ranking:
        self.strong.append(asked["strong"])
        self.before_search()
        self.searches += 1
        ranked = sorted(self._of(generation.collection).items(), key=lambda item: -item[1][1])
        return {id: score for id, (_text, score) in ranked[:limit]}

    def search_sparse(self, _generation: Generation, _vector: Mapping[int, float], **_: Any) -> Ranking:
        return dict(self.words)

    def hits(self, collection: str, ranking: Ranking) -> list[Hit]:
        self.lookups += 1
        self.before_look_up()
        rows = self._of(collection)
        return [_hit(id, rows[id][0], score) for id, score in ranking.items() if id in rows]

    def chunks(self, collection: str, document_id: str, version: int, *, first: int, count: int) -> list[Hit]:
        ids = [chunk_id(document_id, version, ordinal) for ordinal in range(first, first + count)]
        return self.hits(collection, dict.fromkeys(ids, 1.0))


def _hit(id: str, text: str, score: float) -> Hit:
    document_id, version, ordinal = parse_chunk_id(id)
    return Hit(id, document_id, version, ordinal, "手册.txt", None, "", text, score, {})


@pytest.fixture
def base(ledger: Ledger) -> KnowledgeBase:
    return new_base(ledger)


@pytest.fixture
def document(ledger: Ledger, base: KnowledgeBase) -> str:
    found = add(ledger, base)
    index(ledger, base)
    return found.id


@dataclass
class Searching:
    ledger: Ledger
    store: FakeStore
    reranker: Reranker | None = None

    def __call__(self, base: KnowledgeBase, **asked: Any) -> list[Hit]:
        return self.found(base, **asked).hits

    def found(self, base: KnowledgeBase, **asked: Any) -> Found:
        embedders = Embedders(lambda _model: HashEmbedder())
        retriever = Retriever(
            self.ledger,
            cast(ChunkStore, self.store),
            embedders,
            Translations.load(),
            candidates=100,
            dense_weight=None,
            reranker=self.reranker,
        )
        try:
            search = Search("年假有几天", **{"top_k": 3, "mode": "dense", "rerank": self.reranker is not None, **asked})
            return retriever.search(base, search)
        finally:
            retriever.close()


def filled(base: KnowledgeBase, document: str, texts: list[tuple[str, float]]) -> FakeStore:
    rows = {chunk_id(document, 1, n): (text, score) for n, (text, score) in enumerate(texts)}
    return FakeStore({base.live.collection: rows})


def test_hits_below_the_asked_score_make_room_for_those_above(
    ledger: Ledger, base: KnowledgeBase, document: str
) -> None:
    store = filled(base, document, [(f"第{n}条", (60 - 5 * n) / 100) for n in range(10)])
    hits = Searching(ledger, store, Backwards())(base, min_score=0.4)
    assert [round(hit.score, 2) for hit in hits] == [0.4, 0.45, 0.5]
    assert store.searches == 1  # what is beyond scores less


class Backwards:
    """A reranker that reverses the order."""

    def scores(self, query: str, passages: Sequence[str]) -> list[float]:
        return [n / len(passages) for n in range(len(passages))]

    def close(self) -> None: ...


def test_server_without_sparse_vectors_searches_dense_and_says_so(
    ledger: Ledger, base: KnowledgeBase, document: str
) -> None:
    store = filled(base, document, [("年假十天", 0.9)])
    store.sparse = False
    searching = Searching(ledger, store)
    for mode in ("hybrid", "dense"):
        found = searching.found(base, mode=mode)
        assert (found.mode, [hit.text for hit in found.hits]) == ("dense", ["年假十天"])
    with pytest.raises(InvalidRequest, match="full-text-not-available"):
        searching(base, mode="full_text")


def test_vectors_of_a_retired_model_are_not_searched(ledger: Ledger) -> None:
    made_before = NewGeneration("kb_old", "zhiwen-static-v1", 64, IndexSpec(), ChunkingSpec())
    base = new_base(ledger, generation=made_before)
    document = add(ledger, base)
    index(ledger, base)
    store = filled(base, document.id, [("年假十天", 0.9)])
    store.words = {chunk_id(document.id, 1, 0): 100.0}
    searching = Searching(ledger, store)
    found = searching.found(base, mode="hybrid")
    assert (found.mode, [hit.text for hit in found.hits], store.searches) == ("full_text", ["年假十天"], 0)
    with pytest.raises(Conflict, match="kb rebuild 员工手册 --embedding-model zhiwen-static-v2"):
        searching(base, mode="dense")
    store.sparse = False
    with pytest.raises(Conflict, match="retired-embedding-model"):
        searching(base, mode="hybrid")


def test_reranker_orders_only_the_searches_that_ask_for_it(ledger: Ledger, base: KnowledgeBase, document: str) -> None:
    searching = Searching(ledger, filled(base, document, [("好", 0.9), ("差", 0.5)]), Backwards())
    best, reranked = searching.found(base, rerank=False), searching.found(base, rerank=True)
    assert (best.reranked, [hit.text for hit in best.hits]) == (False, ["好", "差"])
    assert (reranked.reranked, [hit.text for hit in reranked.hits]) == (True, ["差", "好"])
    assert Searching(ledger, searching.store).found(base, rerank=True).reranked is False


def test_text_repeated_ten_thousand_times_costs_few_look_ups(
    ledger: Ledger, base: KnowledgeBase, document: str
) -> None:
    store = filled(base, document, [("第 1 页 共 9 页", 0.9)] * 10_000 + [("年假十天", 0.5)])
    assert [hit.text for hit in Searching(ledger, store)(base)] == ["第 1 页 共 9 页", "年假十天"]
    assert store.lookups < 60


def test_version_that_goes_live_while_it_is_searched_never_stands_beside_the_one_before(
    ledger: Ledger, base: KnowledgeBase, document: str
) -> None:
    old = [("第 1 页 共 9 页", 0.9)] * 6  # all that is looked up at first, and one text
    store = filled(base, document, old)
    rows = store.collections[base.live.collection]

    def replaced() -> None:
        store.before_search = lambda: None
        replace_document(ledger, base)
        rows.update({chunk_id(document, 2, n): (f"年假{n}天", 0.5 - n / 10) for n in range(3)})

    store.before_search = replaced
    hits = Searching(ledger, store)(ledger.bases.get_by_id(base.id), mode="hybrid")
    assert [(hit.version, hit.text) for hit in hits] == [(2, f"年假{n}天") for n in range(3)]


def test_version_that_goes_live_between_two_look_ups_never_stands_beside_the_one_before(
    ledger: Ledger, base: KnowledgeBase, document: str
) -> None:
    store = filled(base, document, [("第 1 页 共 9 页", 0.9)] * 6)  # all that is looked up at first, and one text
    rows = store.collections[base.live.collection]
    rows.update({chunk_id(document, 2, n): (f"年假{n}天", 0.5 - n / 10) for n in range(3)})  # written, not yet live

    def replaced() -> None:
        store.before_look_up = lambda: None
        replace_document(ledger, base)

    store.before_look_up = replaced
    assert [hit.version for hit in Searching(ledger, store)(base)] == [1]


def rebuilt(ledger: Ledger, base: KnowledgeBase) -> str:
    """Let a new generation answer in place of the live one; return its collection."""
    made = NewGeneration("kb_new", "hash-64", 64, IndexSpec(), ChunkingSpec())
    again = ledger.rebuilds.begin(base, made)
    job = ledger.jobs.claim("worker", 60)
    assert job is not None
    assert again.building is not None
    ledger.rebuilds.finish(job, 3, None)
    return made.collection


def test_collection_that_a_rebuild_dropped_is_left_for_the_new_one(
    ledger: Ledger, base: KnowledgeBase, document: str
) -> None:
    store = filled(base, document, [("旧", 0.9)])
    new = rebuilt(ledger, base)
    store.collections = {new: {chunk_id(document, 1, n): (f"新{n}", 0.9 - n / 10) for n in range(3)}}
    hits = Searching(ledger, store)(base, top_k=1, neighbours=1)
    assert [hit.text for hit in hits] == ["新0\n新1"]


def test_neighbours_come_from_the_generation_that_was_found(ledger: Ledger, base: KnowledgeBase, document: str) -> None:
    store = filled(base, document, [("旧0", 0.9), ("旧1", 0.8)])

    def switch() -> None:
        store.before_search = lambda: None
        new = rebuilt(ledger, base)
        ledger_document = replace_document(ledger, base)
        store.collections[new] = {chunk_id(ledger_document, 2, n): (f"新{n}", 0.9 - n / 10) for n in range(2)}

    store.before_search = switch
    hits = Searching(ledger, store)(base, top_k=1, neighbours=1)
    assert [hit.text for hit in hits] == ["新0\n新1"]
    assert store.strong == [False, True]  # a server that is seconds behind would know neither version


def replace_document(ledger: Ledger, base: KnowledgeBase) -> str:
    """Index another version of the document into the generation that answers now."""
    document = add(ledger, base, content=b"another")
    index(ledger, replace(base, live=ledger.bases.get_by_id(base.id).live))
    return document.id


def test_knowledge_base_that_goes_while_it_is_searched_is_not_found(
    ledger: Ledger, base: KnowledgeBase, document: str
) -> None:
    ledger.bases.begin_drop(base.name)
    with pytest.raises(NotFound, match="no knowledge base named 员工手册"):
        Searching(ledger, FakeStore())(base)
