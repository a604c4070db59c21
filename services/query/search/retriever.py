"""Finding chunks: the dense and the full-text half, fused, checked against the ledger (design sections 2.4 and 3)."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from zhiwen.common.embedding.registry import Embedders
from zhiwen.common.errors import NotFound, ServiceError
from zhiwen.common.ledger import Ledger
from zhiwen.common.lexical.bm25 import ACROSS_LANGUAGES, QueryWeighting, is_relevant, query_vector
from zhiwen.common.lexical.translations import Translations
from zhiwen.common.models import Fusion, Hit, KnowledgeBase, Mode, parse_chunk_id
from zhiwen.common.store import ChunkStore, CollectionGone, Ranking, require_full_text
from zhiwen.query.answer.passages import distinct, with_neighbours
from zhiwen.query.search.fusion import Halves, rest_of
from zhiwen.query.search.reranking import RERANKED_HITS, Reranker, required, rerank
from zhiwen.query.search.statistics import CollectionStatistics

OVERFETCH = 10
"""Hits fetched beyond those asked for, since some may be of versions that no longer answer."""
SPARE = 3
"""Rows looked up beyond those asked for, since some may hold a text that another has already."""
WIDEN, WIDEST = 8, 16384
"""Where that was not enough, so many times more are fetched, up to Milvus's limit."""
LONGEST_STEP = 1000
"""Rows looked up at a time at most."""
EMBEDDED_QUESTIONS = 2048
MOST_ROUNDS = 4
"""Searches made at most while versions go live all the time."""
Version = tuple[str, int]
"""A document's id and one of its versions."""
SAME_LANGUAGE = QueryWeighting(translation_weight=0.0)


@dataclass(frozen=True, slots=True)
class Search:
    """A search, checked and compiled. `expression` is Milvus's filter language.

    Hits below `min_score` are left out; without one, those that `min_relevance`, the threshold of refusal, refuses.
    `strong` is the store's.
    """

    query: str
    top_k: int
    mode: Mode = "hybrid"
    fusion: Fusion | None = None
    expression: str = ""
    min_score: float | None = None
    min_relevance: float | None = None
    neighbours: int = 0
    params: Mapping[str, int] | None = None
    cross_language: bool = True
    rerank: bool | None = None
    strong: bool = False

    def passes(self, hit: Hit) -> bool:
        """Say whether the hit scores as much as is asked for."""
        if self.min_score is not None:
            return hit.score >= self.min_score
        return self.min_relevance is None or is_relevant(self.query, hit.text, hit.score, self.min_relevance)

    @property
    def least(self) -> float:
        """The least score that can pass."""
        if self.min_score is not None:
            return self.min_score
        return ACROSS_LANGUAGES * (self.min_relevance or 0.0)


@dataclass(frozen=True, slots=True)
class Found:
    """Hits, best first; the mode that was possible; milliseconds spent."""

    hits: list[Hit]
    mode: Mode
    embed_ms: float
    search_ms: float
    total_ms: float
    reranked: bool = False


class Retriever:
    """Searches knowledge bases. Blocking and thread-safe."""

    def __init__(
        self,
        ledger: Ledger,
        store: ChunkStore,
        embedders: Embedders,
        translations: Translations,
        *,
        candidates: int,
        dense_weight: float | None,
        fusion: Fusion = "relevance",
        reranker: Reranker | None = None,
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._embedders = embedders
        self._translations = translations
        self._statistics = CollectionStatistics(ledger)
        self._candidates = candidates
        self._dense_weight = dense_weight
        self._fusion = fusion
        self._reranker = reranker
        self._pool = ThreadPoolExecutor(max_workers=16, thread_name_prefix="dense")
        self._embed = lru_cache(maxsize=EMBEDDED_QUESTIONS)(self._embed_uncached)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._reranker is not None:
            self._reranker.close()

    def check_rerank(self, asked: bool | None) -> None:
        """Raise `InvalidRequest` (`rerank-not-configured`) when a reranker is asked for and there is none."""
        required(self._reranker, asked)

    def search(self, base: KnowledgeBase, search: Search) -> Found:
        """Return the best hits that the ledger says are live and that pass, no text twice."""
        try:
            return self._search(base, search)
        except CollectionGone:  # a rebuild has replaced it, or the knowledge base is gone
            return self._search(self._reloaded(base), search)

    def _search(self, base: KnowledgeBase, search: Search) -> Found:
        started = time.perf_counter()
        mode = self._possible(search.mode)
        reranker = required(self._reranker, search.rerank)
        enough = max(search.top_k, RERANKED_HITS if reranker else 0)
        limit = max(enough + OVERFETCH, self._candidates if mode == "hybrid" else 0)
        answering = self._answering(base, search, mode, limit, enough)
        embed_ms = answering.embed_ms
        while len(answering.hits) < enough and answering.rest >= search.least and limit < WIDEST:
            limit = min(limit * WIDEN, WIDEST)
            answering = self._answering(answering.base, search, mode, limit, enough)
            embed_ms += answering.embed_ms
        hits, reranked = answering.hits, False
        if reranker is not None:
            hits, reranked = rerank(reranker, search.query, hits)
        hits = self._with_neighbours(answering.base, hits[: search.top_k], search.neighbours)
        total_ms = (time.perf_counter() - started) * 1000
        return Found(hits, mode, embed_ms, total_ms - embed_ms, total_ms, reranked)

    def _reloaded(self, base: KnowledgeBase) -> KnowledgeBase:
        """Return the knowledge base as it is now. Raises `NotFound` when it is gone."""
        again = self._ledger.bases.get_by_id(base.id)
        if again.deleting:
            raise NotFound("knowledge-base-not-found", f"There is no knowledge base named {base.name}.")
        return again

    def _answering(self, base: KnowledgeBase, search: Search, mode: Mode, limit: int, enough: int) -> _Answering:
        """Return the best `enough` hits that answer and pass among the best `limit` of each half.

        When a newer version of a hit's document has gone live, it may have done so since Milvus was asked, which then
        knew only the one before: neither would answer. So that is searched again, with all that is written by then,
        until nothing new goes live.
        """
        embed_ms = 0.0
        overtaking: set[Version] = set()
        for round_ in range(MOST_ROUNDS):
            ranked = self._ranked(base, replace(search, strong=round_ > 0), mode, limit)
            embed_ms += ranked.embed_ms
            ranking = {id: score for id, score in ranked.ranking.items() if score >= search.least}
            checked = _Checked(self._ledger, self._store, base.live.collection, ranking, step=enough + SPARE)
            hits = list(islice(filter(search.passes, distinct(checked)), enough))
            if checked.newer <= overtaking:
                break
            overtaking |= checked.newer
            base = self._reloaded(base)  # another generation may answer as well
        return _Answering(base, hits, ranked.rest, embed_ms)

    def _ranked(self, base: KnowledgeBase, search: Search, mode: Mode, limit: int) -> _Ranked:
        """Return the best `limit` of each half, live or not."""
        match mode:
            case "full_text":
                lexical = self._full_text(base, search, limit)
                return _Ranked(lexical, rest_of(lexical, limit))
            case "dense":
                dense, embed_ms = self._dense(base, search, limit)
                return _Ranked(dense, rest_of(dense, limit), embed_ms)
            case "hybrid":
                pending = self._pool.submit(self._dense, base, search, limit)
                lexical = self._full_text(base, search, limit)
                dense, embed_ms = pending.result()
                halves = Halves(lexical, dense, limit, self._weight(base))
                return _Ranked(halves.fused(search.fusion or self._fusion), halves.rest, embed_ms)

    def _weight(self, base: KnowledgeBase) -> float:
        if self._dense_weight is not None:
            return self._dense_weight
        return self._embedders.get(base.live.embedding_model).fusion_weight

    def _possible(self, mode: Mode) -> Mode:
        if mode == "dense":
            return mode
        capabilities = self._store.capabilities()
        if mode == "hybrid":
            return "hybrid" if capabilities.sparse else "dense"
        require_full_text(capabilities)
        return mode

    def _dense(self, base: KnowledgeBase, search: Search, limit: int) -> tuple[Ranking, float]:
        started = time.perf_counter()
        vector = self._embed(base.live.embedding_model, search.query)
        embed_ms = (time.perf_counter() - started) * 1000
        if vector.shape[0] != base.live.dimension:
            raise ServiceError(
                "dimension-mismatch",
                f"The model {base.live.embedding_model} gives {vector.shape[0]} numbers, "
                f"the knowledge base {base.name} was made for {base.live.dimension}.",
            )
        ranking = self._store.search_dense(
            base.live, vector, limit=limit, expression=search.expression, params=search.params, strong=search.strong
        )
        return ranking, embed_ms

    def _embed_uncached(self, model: str, query: str) -> NDArray[np.float32]:
        vector: NDArray[np.float32] = self._embedders.get(model).embed_queries([query])[0]
        return vector

    def _full_text(self, base: KnowledgeBase, search: Search, limit: int) -> Ranking:
        settings = QueryWeighting() if search.cross_language else SAME_LANGUAGE
        query = query_vector(search.query, self._statistics.of(base), self._translations, settings)
        ranking = self._store.search_sparse(
            base.live, query.weights, limit=limit, expression=search.expression, strong=search.strong
        )
        return {id: query.relevance(product) for id, product in ranking.items()}

    def _with_neighbours(self, base: KnowledgeBase, hits: list[Hit], neighbours: int) -> list[Hit]:
        if not neighbours:
            return hits

        def around(hit: Hit) -> list[Hit]:
            first = max(0, hit.ordinal - neighbours)
            count = hit.ordinal + neighbours - first + 1
            return self._store.chunks(base.live.collection, hit.document_id, hit.version, first=first, count=count)

        return [with_neighbours(hit, around(hit)) for hit in hits]


@dataclass(frozen=True, slots=True)
class _Ranked:
    """The best chunks, the most that any other can score (below 0: there is no other), milliseconds embedding."""

    ranking: Ranking
    rest: float
    embed_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class _Answering:
    """The hits of a search of `base`, and of `_Ranked` the rest."""

    base: KnowledgeBase
    hits: list[Hit]
    rest: float
    embed_ms: float


class _Checked:
    """The hits of a ranking that answer, best first, looked up as they are asked for: `step` of them, then twice as
    many each time.

    `newer` holds the versions that answer instead of what was found. What the ledger has said of a document once stands
    for all of its chunks, so that never two versions answer.
    """

    def __init__(self, ledger: Ledger, store: ChunkStore, collection: str, ranking: Ranking, *, step: int) -> None:
        self.newer: set[Version] = set()
        self._ledger = ledger
        self._store = store
        self._collection = collection
        self._ranking = ranking
        self._asked: set[str] = set()
        self._live: dict[str, int] = {}
        self._step = step

    def __iter__(self) -> Iterator[Hit]:
        ranked, step = iter(self._ranking.items()), self._step
        while found := dict(islice(ranked, step)):
            yield from self._answering(found)
            step = min(2 * step, LONGEST_STEP)

    def _answering(self, found: Ranking) -> list[Hit]:
        of = {id: parse_chunk_id(id)[:2] for id in found}
        live = self._live_among({document_id for document_id, _ in of.values()})
        self.newer |= {
            (document_id, live.get(document_id, 0))
            for document_id, version in of.values()
            if live.get(document_id, 0) > version
        }
        answering = {id: score for id, score in found.items() if live.get(of[id][0]) == of[id][1]}
        hits = self._store.hits(self._collection, answering)
        if len(hits) < len(answering):  # removed since: something else answers now, or nothing
            there = {hit.chunk_id for hit in hits}
            self.newer |= {of[id] for id in answering if id not in there}
        return hits

    def _live_among(self, documents: set[str]) -> Mapping[str, int]:
        """Return the versions that answer of these documents, and of those asked for before."""
        if unasked := documents - self._asked:
            self._asked |= unasked
            self._live |= self._ledger.documents.live_versions(unasked)
        return self._live
