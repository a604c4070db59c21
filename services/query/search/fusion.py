"""One ranking of two: the dense and the full-text half of a hybrid search. Pure.

The score of a hit is always its relevance, whatever gives the order. Relevance is absolute, so that `min_score` and
refusal mean the same for every question.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from zhiwen.common.models import Fusion
from zhiwen.common.store import Ranking

RRF_K = 60
"""Of reciprocal rank fusion (Cormack, Clarke & Büttcher 2009)."""


@dataclass(frozen=True, slots=True)
class Halves:
    """The best chunks of each half, at most `limit` of each, with scores in 0..1.

    `weight` is the weight of the dense half; the full-text half has 1.
    """

    lexical: Ranking
    dense: Ranking
    limit: int
    weight: float

    def relevance(self) -> Ranking:
        """Return (lexical + weight * dense) / (1 + weight) for every chunk, best first.

        The full-text half leads where the collection holds the question's words. Where it does not, that half is small
        for every chunk, and the dense half decides. A chunk that one half did not return gets the score of that half's
        last chunk, which is the most that it can have. Where a half returned fewer than `limit`, it has no more chunks,
        and the score is 0.
        """
        return self._summed(self.lexical, self.dense, self._floor(self.lexical), self._floor(self.dense))

    def min_max(self) -> Ranking:
        """Return the weighted mean of the scores, stretched to 0..1 within each half, best first; absent ones are 0."""
        return self._summed(stretched(self.lexical), stretched(self.dense), 0.0, 0.0)

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
        """The most relevance that a chunk of neither half can have; -1 where there is no such chunk."""
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
    """Return the most that a chunk beyond the best `limit` can score; -1 where there is no such chunk."""
    return min(half.values()) if half and len(half) >= limit else -1.0


def stretched(half: Ranking) -> Ranking:
    """Return scores stretched so that the worst is 0 and the best is 1; where all are the same, they are 1."""
    if not half:
        return {}
    low, high = min(half.values()), max(half.values())
    return {id: (score - low) / (high - low) if high > low else 1.0 for id, score in half.items()}


def best_first(scores: Mapping[str, float]) -> Ranking:
    """Return the scores in falling order, equal ones in order of id, so that the same search gives the same order."""
    return {id: -negative for negative, id in sorted((-score, id) for id, score in scores.items())}
