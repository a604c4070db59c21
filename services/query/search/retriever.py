"""Finds chunks: it searches vectors and words, fuses the two rankings, and returns only live hits."""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from zhiwen.common.embedding.registry import Embedders, present_model
from zhiwen.common.errors import Conflict, NotFound, ServiceError
from zhiwen.common.ledger import Ledger
from zhiwen.common.lexical.bm25 import QueryWeighting, query_vector
from zhiwen.common.lexical.translations import Translations
from zhiwen.common.models import Hit, KnowledgeBase, Mode
from zhiwen.common.store import ChunkStore, CollectionGone, Ranking, require_full_text
from zhiwen.query.search.backgrounds import Backgrounds
from zhiwen.query.search.fusion import Halves, Measure, Parts, Weighing, rest_of
from zhiwen.query.search.hits import distinct, with_neighbours
from zhiwen.query.search.live import LiveResult, LiveSearch, Ranked
from zhiwen.query.search.relevance import DenseWeight, chance_score
from zhiwen.query.search.request import Search
from zhiwen.query.search.reranking import RERANKED_HITS, Reranker, rerank
from zhiwen.query.search.statistics import CollectionStatistics

OVERFETCH = 10
"""Chunks to ask for in addition to the wanted hits, because some may not be live."""
SPARE = 3
"""Rows to look up in addition to the wanted hits, because some may repeat the text of another."""
WIDEN, WIDEST = 8, 16384
"""When too few hits were live, ask for `WIDEN` times as many chunks, and at most `WIDEST`, Milvus's limit."""
EMBEDDED_QUESTIONS = 2048
"""How many questions' vectors stay in memory."""
SAME_LANGUAGE = QueryWeighting(translation_weight=0.0)


@dataclass(frozen=True, slots=True)
class Found:
    """The hits of a search, best first. `mode` is the mode that was searched, which may differ from the one asked for.

    Times are in milliseconds. `reranked` is True when a reranker gave the order. `chance_score` is the dense score that
    unrelated chunks of the collection reach.
    """

    hits: list[Hit]
    mode: Mode
    embed_ms: float
    search_ms: float
    total_ms: float
    reranked: bool = False
    chance_score: float = 0.0


class Retriever:
    """Searches knowledge bases. Blocking and thread-safe.

    `ledger` says which versions are live, `store` holds the chunks, and `embedders` make vectors of questions.
    `translations` is the word table for searches across languages. `candidates` is how many chunks each half of a
    hybrid search gives. `dense_weight` is the weight of the dense half, where the full-text half has 1, for searches
    and knowledge bases without their own; None means the embedding model's. `reranker` reorders the first hits of
    searches that ask for it.
    """

    def __init__(
        self,
        ledger: Ledger,
        store: ChunkStore,
        embedders: Embedders,
        translations: Translations,
        *,
        candidates: int,
        dense_weight: float | None,
        reranker: Reranker | None = None,
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._embedders = embedders
        self._translations = translations
        self._statistics = CollectionStatistics(ledger)
        self._backgrounds = Backgrounds(ledger, embedders)
        self._live = LiveSearch(ledger.documents.live_versions, store.hits, self._reloaded)
        self._candidates = candidates
        self._dense_weight = dense_weight
        self._reranker = reranker
        self._pool = ThreadPoolExecutor(max_workers=16, thread_name_prefix="dense")
        self._embed = lru_cache(maxsize=EMBEDDED_QUESTIONS)(self._embed_uncached)

    def close(self) -> None:
        """Stop the threads and close the reranker."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._reranker is not None:
            self._reranker.close()

    def search(self, base: KnowledgeBase, search: Search) -> Found:
        """Return the best live hits that score enough, without repeated texts.

        Raises `NotFound` (`knowledge-base-not-found`) when the knowledge base is deleted meanwhile, `InvalidRequest`
        (`full-text-not-available`) when the connected Milvus has no sparse vectors, and what the store raises.
        """
        try:
            return self._search(base, search)
        except CollectionGone:  # a rebuild has replaced it, or the knowledge base is gone
            return self._search(self._reloaded(base), search)

    def _search(self, base: KnowledgeBase, search: Search) -> Found:
        started = time.perf_counter()
        mode = self._possible_mode(base, search.mode)
        reranker = self._reranker if search.rerank else None
        result = self._live_hits(base, search, mode, max(search.top_k, RERANKED_HITS if reranker else 0))
        hits, reranked = [_with_parts(hit, result.parts) for hit in result.hits], False
        if reranker is not None:
            hits, reranked = rerank(reranker, search.query, hits)
        hits = self._with_neighbours(result.base, hits[: search.top_k], search.neighbours)
        total_ms = (time.perf_counter() - started) * 1000
        chance = chance_score(self._statistics.of(result.base).chunks)
        return Found(hits, mode, result.embed_ms, total_ms - result.embed_ms, total_ms, reranked, chance)

    def _live_hits(self, base: KnowledgeBase, search: Search, mode: Mode, wanted: int) -> LiveResult:
        """Return `wanted` live hits that score enough, or all if there are fewer. Ask for more chunks until then."""
        limit = max(wanted + OVERFETCH, self._candidates if mode == "hybrid" else 0)
        embed_ms = 0.0

        def rank(base: KnowledgeBase, strong: bool) -> Ranked:
            return self._ranked(_Lookup(base, search, mode, limit, strong))

        def choose(live: Iterable[Hit]) -> list[Hit]:
            return list(islice(filter(search.passes, distinct(live)), wanted))

        while True:
            result = self._live.search(base, rank, choose, step=wanted + SPARE)
            embed_ms += result.embed_ms
            if len(result.hits) >= wanted or result.rest < search.least_score or limit >= WIDEST:
                return replace(result, embed_ms=embed_ms)
            base, limit = result.base, min(limit * WIDEN, WIDEST)

    def _reloaded(self, base: KnowledgeBase) -> KnowledgeBase:
        """Return the knowledge base as it is now. Raises `NotFound` when it is gone."""
        again = self._ledger.bases.get_by_id(base.id)
        if again.deleting:
            raise NotFound("knowledge-base-not-found", f"There is no knowledge base named {base.name}.")
        return again

    def _possible_mode(self, base: KnowledgeBase, mode: Mode) -> Mode:
        """Return the mode that can be searched.

        Without sparse vectors in the connected Milvus, hybrid becomes dense. With vectors of a retired model, which no
        question can be compared with, it becomes full text until the worker has rebuilt the index.
        """
        if mode == "full_text":
            require_full_text(self._store.capabilities())
            return mode
        if present_model(base.live.embedding_model) != base.live.embedding_model:
            return self._mode_without_vectors(base, mode)
        if mode == "hybrid":
            return "hybrid" if self._store.capabilities().sparse else "dense"
        return mode

    def _mode_without_vectors(self, base: KnowledgeBase, mode: Mode) -> Mode:
        """Return full text in place of hybrid, or raise `Conflict` (`retired-embedding-model`)."""
        if mode == "hybrid" and self._store.capabilities().sparse:
            return "full_text"
        model = base.live.embedding_model
        present = present_model(model)
        raise Conflict(
            "retired-embedding-model",
            f"{base.name} was indexed with {model}, which is retired. It is being rebuilt with {present}, and its "
            "vectors cannot be searched until then. If its rebuild failed, begin another: "
            f"zhiwen kb rebuild {base.name} --embedding-model {present}",
        )

    def _ranked(self, lookup: _Lookup) -> Ranked:
        """Return the best chunks that score enough, live or not."""
        least = lookup.search.least_score
        match lookup.mode:
            case "full_text":
                lexical = self._full_text(lookup)
                return Ranked(
                    _at_least(least, lexical.ranking),
                    rest_of(lexical.ranking, lookup.limit),
                    {id: (score, None) for id, score in lexical.ranking.items()},
                )
            case "dense":
                dense = self._dense(lookup)
                return Ranked(
                    _at_least(least, dense.ranking),
                    rest_of(dense.ranking, lookup.limit),
                    dense.measure.parts(dense.ranking),
                    dense.embed_ms,
                )
            case "hybrid":
                pending = self._pool.submit(self._dense, lookup)
                lexical = self._full_text(lookup)
                dense = pending.result()
                weighing = Weighing(self._weight(lookup), dense.measure, lexical.normaliser, lexical.own_language)
                halves = Halves(lexical.ranking, dense.ranking, lookup.limit, weighing)
                found = _at_least(least, halves.fused(lookup.search.fusion))
                return Ranked(found, halves.rest, halves.parts(), dense.embed_ms)

    def _weight(self, lookup: _Lookup) -> DenseWeight:
        """Return the weight of the dense half: request, knowledge base, service, then model decide."""
        chosen = (lookup.search.dense_weight, lookup.base.dense_weight, self._dense_weight)
        weight = next((weight for weight in chosen if weight is not None), None)
        return self._backgrounds.weight(lookup.base) if weight is None else DenseWeight(weight)

    def _dense(self, lookup: _Lookup) -> _Dense:
        """Return the chunks nearest to the question."""
        base, search = lookup.base, lookup.search
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
            base.live,
            vector,
            limit=lookup.limit,
            expression=search.expression,
            params=search.params,
            strong=lookup.strong,
        )
        background = self._backgrounds.of(base)
        chunks = self._statistics.of(base).chunks
        return _Dense(ranking, Measure(background.standard(vector), background.spread, chunks), embed_ms)

    def _embed_uncached(self, model: str, query: str) -> NDArray[np.float32]:
        vector: NDArray[np.float32] = self._embedders.get(model).embed_queries([query])[0]
        return vector

    def _full_text(self, lookup: _Lookup) -> _Lexical:
        """Return the chunks that hold words of the question. The score is the share of the question that they match."""
        base, search = lookup.base, lookup.search
        settings = QueryWeighting() if search.cross_language else SAME_LANGUAGE
        query = query_vector(search.query, self._statistics.of(base), self._translations, settings)
        ranking = self._store.search_sparse(
            base.live, query.weights, limit=lookup.limit, expression=search.expression, strong=lookup.strong
        )
        return _Lexical(
            {id: query.relevance(product) for id, product in ranking.items()}, query.normaliser, query.own_language
        )

    def _with_neighbours(self, base: KnowledgeBase, hits: list[Hit], neighbours: int) -> list[Hit]:
        if not neighbours:
            return hits

        def around(hit: Hit) -> list[Hit]:
            first = max(0, hit.ordinal - neighbours)
            count = hit.ordinal + neighbours - first + 1
            return self._store.chunks(base.live.collection, hit.document_id, hit.version, first=first, count=count)

        return [with_neighbours(hit, around(hit)) for hit in hits]


@dataclass(frozen=True, slots=True)
class _Lookup:
    """One query to Milvus: for the best `limit` chunks of each half that `mode` has.

    `strong` asks for strong consistency.
    """

    base: KnowledgeBase
    search: Search
    mode: Mode
    limit: int
    strong: bool


@dataclass(frozen=True, slots=True)
class _Dense:
    """The nearest chunks with their cosines, what the cosines mean, and the milliseconds to embed the question."""

    ranking: Ranking
    measure: Measure
    embed_ms: float


@dataclass(frozen=True, slots=True)
class _Lexical:
    """The chunks that share words with the question. `normaliser` and `own_language` are those of `SparseQuery`."""

    ranking: Ranking
    normaliser: float
    own_language: float


def _with_parts(hit: Hit, parts: Parts) -> Hit:
    full_text, dense = parts[hit.chunk_id]
    return replace(hit, full_text_score=full_text, dense_score=dense)


def _at_least(score: float, ranking: Ranking) -> Ranking:
    """Return the part of a ranking that scores `score` or more."""
    return {id: found for id, found in ranking.items() if found >= score}
