"""Finding chunks: the dense and the full-text half, fused, checked against the ledger (design sections 2.4 and 3)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from services.common.embedding import Embedders
from services.common.errors import ServiceError
from services.common.ledger import Ledger
from services.common.lexical import QuerySettings as LexicalSettings
from services.common.lexical import fuse, query_vector
from services.common.models import Hit, KnowledgeBase
from services.common.store import ChunkStore, require_full_text
from services.common.translations import Translations
from services.query.passages import collapse, with_neighbours
from services.query.reranking import RERANKED_HITS, Reranker, required, rerank
from services.query.schemas import Mode
from services.query.statistics import CollectionStatistics

OVERFETCH = 10
"""Hits fetched beyond those asked for, since some may be of versions that no longer answer."""
WIDEN, WIDEST = 8, 16384
"""Where that was not enough, so many times more are fetched, up to Milvus's limit."""
EMBEDDED_QUESTIONS = 2048
MOST_ROUNDS = 4
"""Searches made at most while versions go live all the time."""
SAME_LANGUAGE = LexicalSettings(translation_weight=0.0)


@dataclass(frozen=True, slots=True)
class Search:
    """A search, checked and compiled. `expression` is Milvus's filter language."""

    query: str
    top_k: int
    mode: Mode = "hybrid"
    expression: str = ""
    min_score: float | None = None
    neighbours: int = 0
    params: Mapping[str, int] | None = None
    cross_language: bool = True
    rerank: bool | None = None


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
        reranker: Reranker | None = None,
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._embedders = embedders
        self._translations = translations
        self._statistics = CollectionStatistics(ledger)
        self._candidates = candidates
        self._dense_weight = dense_weight
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
        """Return the best hits that the ledger says are live, no text twice."""
        started = time.perf_counter()
        mode = self._possible(search.mode)
        reranker = required(self._reranker, search.rerank)
        enough = max(search.top_k, RERANKED_HITS if reranker else 0)
        limit = max(enough + OVERFETCH, self._candidates if mode == "hybrid" else 0)
        hits, more, embed_ms = self._answering(base, search, mode, limit)
        while len(hits) < enough and more and limit < WIDEST:
            limit = min(limit * WIDEN, WIDEST)
            hits, more, spent = self._answering(base, search, mode, limit)
            embed_ms += spent
        if search.min_score is not None:
            hits = [hit for hit in hits if hit.score >= search.min_score]
        reranked = False
        if reranker is not None:
            hits, reranked = rerank(reranker, search.query, hits)
        hits = self._with_neighbours(base, hits[: search.top_k], search.neighbours)
        total_ms = (time.perf_counter() - started) * 1000
        return Found(hits, mode, embed_ms, total_ms - embed_ms, total_ms, reranked)

    def _answering(self, base: KnowledgeBase, search: Search, mode: Mode, limit: int) -> tuple[list[Hit], bool, float]:
        """Return what answers among the best `limit` of each half, if there may be more, and milliseconds embedding.

        When a newer version of a hit's document has gone live, it may have done so since Milvus was asked, which then
        knew only the one before: neither would answer. So that is searched again, until nothing new goes live.
        """
        embed_ms = 0.0
        overtaking: set[tuple[str, int]] = set()
        for _ in range(MOST_ROUNDS):
            hits, more, spent = self._ranked(base, search, mode, limit)
            embed_ms += spent
            live = self._ledger.documents.live_versions(hit.document_id for hit in hits)
            newest = [(hit, live.get(hit.document_id, 0)) for hit in hits]
            newer = {(hit.document_id, version) for hit, version in newest if version > hit.version}
            if newer <= overtaking:
                break
            overtaking |= newer
            base = self._ledger.bases.get_by_id(base.id)  # another generation may answer as well
        answering = [hit for hit in hits if live.get(hit.document_id) == hit.version]
        return collapse(answering), more, embed_ms

    def _ranked(self, base: KnowledgeBase, search: Search, mode: Mode, limit: int) -> tuple[list[Hit], bool, float]:
        """Return the best `limit` of each half, live or not, if there may be more, and milliseconds embedding."""
        dense: list[Hit] = []
        lexical: list[Hit] = []
        embed_ms = 0.0
        match mode:
            case "full_text":
                hits = lexical = self._full_text(base, search, limit)
            case "dense":
                dense, embed_ms = self._dense(base, search, limit)
                hits = dense
            case "hybrid":
                pending = self._pool.submit(self._dense, base, search, limit)
                lexical = self._full_text(base, search, limit)
                dense, embed_ms = pending.result()
                hits = fuse_hits(lexical, dense, self._weight(base))
        return hits, max(len(dense), len(lexical)) >= limit, embed_ms

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

    def _dense(self, base: KnowledgeBase, search: Search, limit: int) -> tuple[list[Hit], float]:
        started = time.perf_counter()
        vector = self._embed(base.live.embedding_model, search.query)
        embed_ms = (time.perf_counter() - started) * 1000
        if vector.shape[0] != base.live.dimension:
            raise ServiceError(
                "dimension-mismatch",
                f"The model {base.live.embedding_model} gives {vector.shape[0]} numbers, "
                f"the knowledge base {base.name} was made for {base.live.dimension}.",
            )
        hits = self._store.search_dense(
            base.live, vector, limit=limit, expression=search.expression, params=search.params
        )
        return hits, embed_ms

    def _embed_uncached(self, model: str, query: str) -> NDArray[np.float32]:
        vector: NDArray[np.float32] = self._embedders.get(model).embed_queries([query])[0]
        return vector

    def _full_text(self, base: KnowledgeBase, search: Search, limit: int) -> list[Hit]:
        settings = LexicalSettings() if search.cross_language else SAME_LANGUAGE
        query = query_vector(search.query, self._statistics.of(base), self._translations, settings)
        hits = self._store.search_sparse(base.live, query.weights, limit=limit, expression=search.expression)
        return [replace(hit, score=query.relevance(hit.score)) for hit in hits]

    def _with_neighbours(self, base: KnowledgeBase, hits: list[Hit], neighbours: int) -> list[Hit]:
        if not neighbours:
            return hits

        def around(hit: Hit) -> list[Hit]:
            first = max(0, hit.ordinal - neighbours)
            count = hit.ordinal + neighbours - first + 1
            return self._store.chunks(base.live.collection, hit.document_id, hit.version, first=first, count=count)

        return [with_neighbours(hit, around(hit)) for hit in hits]


def fuse_hits(lexical: Sequence[Hit], dense: Sequence[Hit], weight: float) -> list[Hit]:
    """Fuse two rankings into one by `fuse`, best first. Pure.

    A chunk that one half did not return scores there what that half's last hit did, which it can at most have.
    """
    by_id: dict[str, Hit] = {hit.chunk_id: hit for hit in (*dense, *lexical)}
    lexical_scores = {hit.chunk_id: hit.score for hit in lexical}
    dense_scores = {hit.chunk_id: hit.score for hit in dense}
    lexical_floor = min(lexical_scores.values(), default=0.0)
    dense_floor = min(dense_scores.values(), default=0.0)
    fused = [
        replace(hit, score=fuse(lexical_scores.get(id, lexical_floor), dense_scores.get(id, dense_floor), weight))
        for id, hit in by_id.items()
    ]
    return sorted(fused, key=lambda hit: (-hit.score, hit.chunk_id))
