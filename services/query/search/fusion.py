"""Makes one ranking of two: the dense half and the full-text half of a hybrid search. Pure.

The score of a hit is always its relevance, also when another fusion gives the order. Relevance is absolute, so that
`min_score` means the same for every question.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from zhiwen.common.embedding.background import Standard
from zhiwen.common.models import Fusion
from zhiwen.common.store import Ranking
from zhiwen.query.search.relevance import NO_EVIDENCE, DenseWeight, Values, dense_score, emphasis, evidence, relevance

RRF_K = 60
"""The constant k of reciprocal rank fusion (Cormack, Clarke & Büttcher 2009)."""

Parts = Mapping[str, tuple[float | None, float | None]]
"""The full-text score and the dense score of chunks, each in 0..1; None: not asked for."""


@dataclass(frozen=True, slots=True)
class Measure:
    """Turns the cosines of one question into evidence: `standard` is the question's, and `spread` the collection's.

    `chunks` is the number of chunks in the collection.
    """

    standard: Standard
    spread: float
    chunks: int

    def evidence(self, cosines: Iterable[float]) -> Values:
        """Return the evidence of cosines, in nats."""
        return evidence(self.standard.of(np.fromiter(cosines, np.float64)), self.spread, self.chunks)

    def parts(self, dense: Ranking) -> Parts:
        """Return the parts of the hits of a search in vectors alone."""
        scores = dense_score(self.evidence(dense.values())).tolist()
        return {id: (None, score) for id, score in zip(dense, scores, strict=True)}


@dataclass(frozen=True, slots=True)
class Weighing:
    """How the two halves of one question are weighed: `normaliser` and `own_language` are those of `SparseQuery`."""

    weight: DenseWeight
    measure: Measure
    normaliser: float
    own_language: float


class Halves:
    """The best chunks of each half, at most `limit` of each, and their relevance.

    A chunk that one half did not return gets the score of that half's last chunk, because it cannot have more. A half
    that returned fewer than `limit` chunks has no other chunk, so the missing score is 0.
    """

    def __init__(self, lexical: Ranking, dense: Ranking, limit: int, weighing: Weighing) -> None:
        """`lexical` holds shares of the question, 0..1, and `dense` cosines, 0..1."""
        self._weighing = weighing
        self._ids = list({**dense, **lexical})
        found = dict(zip(dense, weighing.measure.evidence(dense.values()).tolist(), strict=True))
        self._no_lexical = max(0.0, rest_of(lexical, limit))
        self._no_dense = min(found.values()) if dense and len(dense) >= limit else NO_EVIDENCE
        self._is_all = len(lexical) < limit and len(dense) < limit
        self._lexical, self._dense = lexical, dense
        self._shares = np.array([lexical.get(id, self._no_lexical) for id in self._ids])
        self._evidence = np.array([found.get(id, self._no_dense) for id in self._ids])
        best = max(lexical.values(), default=0.0)
        self._emphasis = emphasis(np.array(weighing.normaliser), np.array(best), weighing.own_language)

    def relevance(self) -> Ranking:
        """Return the relevance of every chunk, best first."""
        scores = self._relevance(self._shares, self._evidence)
        return best_first(dict(zip(self._ids, scores.tolist(), strict=True)))

    def min_max(self) -> Ranking:
        """Return the weighted mean of the scores, best first. Each half is scaled to 0..1; a missing score is 0."""
        lexical, dense, weight = scaled(self._lexical), scaled(self._dense), self._weighing.weight.value
        return best_first({id: (lexical.get(id, 0.0) + weight * dense.get(id, 0.0)) / (1 + weight) for id in self._ids})

    def rrf(self) -> Ranking:
        """Return the sum of 1 / (60 + rank) over both halves, best first. Weights do not count."""
        ranks = [{id: 1 / (RRF_K + rank) for rank, id in enumerate(half, 1)} for half in (self._lexical, self._dense)]
        return best_first({id: ranks[0].get(id, 0.0) + ranks[1].get(id, 0.0) for id in self._ids})

    def fused(self, fusion: Fusion) -> Ranking:
        """Return the relevance of every chunk, in the order that `fusion` gives."""
        relevance = self.relevance()
        match fusion:
            case "relevance":
                return relevance
            case "min_max":
                return {id: relevance[id] for id in self.min_max()}
            case "rrf":
                return {id: relevance[id] for id in self.rrf()}

    def parts(self) -> Parts:
        """Return the two scores of every chunk."""
        dense = dense_score(self._evidence).tolist()
        return dict(zip(self._ids, zip(self._shares.tolist(), dense, strict=True), strict=True))

    @property
    def rest(self) -> float:
        """The highest relevance that a chunk outside both halves can have; -1 when there is no such chunk."""
        if self._is_all:
            return -1.0
        return float(self._relevance(np.array([self._no_lexical]), np.array([self._no_dense]))[0])

    def _relevance(self, shares: Values, evidence: Values) -> Values:
        return relevance(shares, evidence, self._weighing.weight, self._emphasis)


def rest_of(half: Ranking, limit: int) -> float:
    """Return the highest score that a chunk after the best `limit` can have; -1 when there is no such chunk."""
    return min(half.values()) if half and len(half) >= limit else -1.0


def scaled(half: Ranking) -> Ranking:
    """Return the scores scaled so that the worst is 0 and the best is 1. Equal scores all become 1."""
    if not half:
        return {}
    low, high = min(half.values()), max(half.values())
    return {id: (score - low) / (high - low) if high > low else 1.0 for id, score in half.items()}


def best_first(scores: Mapping[str, float]) -> Ranking:
    """Return the scores in falling order. Equal ones are ordered by id, so that a search repeats exactly."""
    return {id: -negative for negative, id in sorted((-score, id) for id, score in scores.items())}
