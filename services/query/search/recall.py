"""Measures an index: its recall compared with an exact search, and its latency."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zhiwen.common.models import Generation
from zhiwen.common.store import ChunkStore

SEED = 20
TIES = 20
"""Rows kept after the k best ones, because rows with the same score are equally good."""
SAME_SCORE = 1e-5
"""Scores that differ by less than this count as equal."""

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Recall:
    """The figures of one measurement.

    `recall` is the mean share, 0..1, of the `k` nearest other chunks that the index returned. `p50_ms` and `p99_ms` are
    milliseconds of one search.
    """

    chunks: int
    queries: int
    k: int
    recall: float
    p50_ms: float
    p99_ms: float


def measure_recall(store: ChunkStore, live: Generation, *, queries: int, k: int) -> Recall:
    """Ask the live index for the `k` neighbours of `queries` stored chunks, and compare with all stored vectors.

    The vectors are read in pages, so that one page and `queries` rows are in memory at a time. The chunk itself is not
    counted, because every index finds it. Blocking: 100,000 chunks take seconds.
    """
    asked, vectors, chunks = _sampled(store, live, queries)
    if len(asked) == 0 or chunks < 2:
        return Recall(chunks, 0, k, 1.0, 0.0, 0.0)
    exact = Exact(asked, vectors, k)
    for ids, page in store.vectors(live.collection):
        exact.add(ids, page)
    shares: list[float] = []
    spent: list[float] = []
    for number, vector in enumerate(vectors):
        started = time.perf_counter()
        found = store.search_dense(live, vector, limit=k + 1)
        spent.append((time.perf_counter() - started) * 1000)
        shares.append(exact.share(number, list(found)))
    p50, p99 = np.percentile(spent, [50, 99])
    return Recall(chunks, len(asked), k, float(np.mean(shares)), float(p50), float(p99))


def _sampled(store: ChunkStore, live: Generation, queries: int) -> tuple[list[str], Vectors, int]:
    """Return the ids and vectors of `queries` chunks, and the number of all chunks. The choice is always the same."""
    ids = sorted(key.id for key in store.keys(live.collection))
    chosen = random.Random(SEED).sample(ids, min(queries, len(ids)))  # noqa: S311 (a seeded choice, no secret)
    found, vectors = store.vectors_of(live.collection, chosen) if chosen else ([], np.empty((0, 0), np.float32))
    return found, vectors, len(ids)


class Exact:
    """The exact search: the best rows of each query so far, by cosine.

    `asked` are the queries' ids, `vectors` are `(queries, dimension) float32` of length 1.
    """

    def __init__(self, asked: Sequence[str], vectors: Vectors, k: int) -> None:
        self._asked = asked
        self._vectors = vectors
        self._k = k
        self._ids: list[list[str]] = [[] for _ in asked]
        self._scores: list[Vectors] = [np.empty(0, np.float32) for _ in asked]

    def add(self, ids: Sequence[str], page: Vectors) -> None:
        """Compare a page of rows, `(rows, dimension) float32`, with the best so far."""
        for number, row in enumerate(self._vectors @ page.T):
            scores = np.concatenate([self._scores[number], row])
            known = [*self._ids[number], *ids]
            best = np.argsort(-scores, kind="stable")[: self._k + 1 + TIES]
            self._scores[number] = scores[best]
            self._ids[number] = [known[place] for place in best]

    def share(self, number: int, found: Sequence[str]) -> float:
        """Return which share, 0..1, of the nearest other rows of query `number` is among the ids `found`."""
        own = self._asked[number]
        others = [(i, s) for i, s in zip(self._ids[number], self._scores[number], strict=True) if i != own]
        wanted = min(self._k, len(others))
        if not wanted:
            return 1.0
        enough = others[wanted - 1][1] - SAME_SCORE
        near = {id for id, score in others if score >= enough}
        return min(wanted, len(near & set(found))) / wanted
