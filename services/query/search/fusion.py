"""Makes one ranking of two: the dense half and the full-text half of a hybrid search. Pure.

The score of a hit is always its relevance, also when another fusion gives the order. Relevance is absolute, so that
`min_score` and refusal mean the same for every question.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from zhiwen.common.models import Fusion
from zhiwen.common.store import Ranking

RRF_K = 60
"""The constant k of reciprocal rank fusion (Cormack, Clarke & Büttcher 2009)."""


@dataclass(frozen=True, slots=True)
class Halves:
    """The best chunks of each half, at most `limit` of each, with scores in 0..1.

    `weight` is the weight of the dense half; that of the full-text half is 1.
    """

    lexical: Ranking
    dense: Ranking
    limit: int
    weight: float

    def relevance(self) -> Ranking:
        """Return (lexical + weight * dense) / (1 + weight) for every chunk, best first.

        The full-text half decides when the collection holds the question's words. Otherwise all full-text scores are
        small, and the dense half decides. A chunk that one half did not return gets the score of that half's last
        chunk, because it cannot have more. A half that returned fewer than `limit` chunks has no other chunk, so the
        missing score is 0.
        """
        return self._summed(self.lexical, self.dense, self._floor(self.lexical), self._floor(self.dense))

    def min_max(self) -> Ranking:
        """Return the weighted mean of the scores, best first. Each half is scaled to 0..1; a missing score is 0."""
        return self._summed(scaled(self.lexical), scaled(self.dense), 0.0, 0.0)

    def rrf(self) -> Ranking:
        """Return the sum of 1 / (60 + rank) over both halves, best first. Weights do not count."""
        ranks = [{id: 1 / (RRF_K + rank) for rank, id in enumerate(half, 1)} for half in (self.lexical, self.dense)]
        return best_first({id: ranks[0].get(id, 0.0) + ranks[1].get(id, 0.0) for id in {**self.dense, **self.lexical}})

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

    @property
    def rest(self) -> float:
        """The highest relevance that a chunk outside both halves can have; -1 when there is no such chunk."""
        if rest_of(self.lexical, self.limit) < 0 and rest_of(self.dense, self.limit) < 0:
            return -1.0
        return (self._floor(self.lexical) + self.weight * self._floor(self.dense)) / (1.0 + self.weight)

    def _floor(self, half: Ranking) -> float:
        return max(0.0, rest_of(half, self.limit))

    def _summed(self, lexical: Ranking, dense: Ranking, no_lexical: float, no_dense: float) -> Ranking:
        whole = 1.0 + self.weight
        return best_first(
            {
                id: (lexical.get(id, no_lexical) + self.weight * dense.get(id, no_dense)) / whole
                for id in {**dense, **lexical}
            }
        )


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
