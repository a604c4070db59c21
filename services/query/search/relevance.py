"""The relevance of a chunk, 0..1, from what the words and the model say. Pure; `training/simulation.py` uses it, too.

The evidence of a cosine is -ln(N P): N unrelated chunks reach this cosine P N times by chance. At 0 one of them does,
at 3 one of twenty collections has such a chunk. P has a normal core and an exponential tail (peaks over threshold:
Davison and Smith 1990), because texts of one subject are not quite unrelated. So the best of many random cosines is no
evidence, and it does not matter where a model's cosines lie.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from zhiwen.common.embedding.background import TAIL

Values = NDArray[np.float64]

NO_EVIDENCE: Final = -1e9
"""The evidence for a chunk that the dense half does not hold."""
_HALF_WAY: Final = 3.0
_SOFTNESS: Final = 4.0
_POWER: Final = 1.4
"""Small shares of the question count less than in proportion: a common word is in many chunks."""
_USUAL_LENGTH: Final = 45.0
"""The normaliser of a usual question. The words of a short question say less, so the dense half counts for more."""
_LEAST_LENGTH: Final = 5.0
_LEADS: Final = 0.05
_FOLLOWS: Final = 0.25
"""Where no chunk matches more than `_LEADS` of the question, the words found little, and the dense half leads. From
`_FOLLOWS` on it has its usual weight."""
_LEAD: Final = 2.5
"""What the lead adds to the weight, as a multiple of it."""
_SURPRISE: Final = 5.0
"""Where evidence begins to count for itself: 1 of 150 collections of unrelated chunks has such a chunk."""
_SURPRISE_SOFTNESS: Final = 2.0
_NEARER_THAN_ONE_IN_90: Final = 4.5
_GRID: Final = np.linspace(-8.0, TAIL, 1001)
_CORE: Final = np.array([-math.log(0.5 * math.erfc(z / math.sqrt(2))) for z in _GRID.tolist()])


@dataclass(frozen=True, slots=True)
class DenseWeight:
    """The weight of the dense half; that of the full-text half is 1.

    `estimated`: nobody knows the model. Then evidence far beyond chance counts for itself, whatever the weight.
    """

    value: float
    estimated: bool = False


def evidence(standardised: NDArray[np.floating], spread: float, chunks: int) -> Values:
    """Return the evidence of cosines, in nats.

    `standardised` are cosines in deviations from the mean, `spread` is the mean excess of their tail over `TAIL`, and
    `chunks` the number of chunks in the collection.
    """
    found: Values = np.interp(standardised, _GRID, _CORE) + np.maximum(standardised - TAIL, 0.0) / spread
    return found - math.log(max(chunks, 1))


def dense_score(evidence: Values) -> Values:
    """Return what the model says about chunks, 0..1."""
    found: Values = 1.0 / (1.0 + np.exp(np.minimum((_HALF_WAY - evidence) / _SOFTNESS, 700.0)))
    return found


def chance_score(chunks: int) -> float:
    """Return the dense score below which a hit is no nearer to a question than unrelated chunks are.

    The best of `chunks` unrelated chunks reaches it. In a small collection, so does one of 90 unrelated texts.
    """
    return float(dense_score(np.array(max(0.0, _NEARER_THAN_ONE_IN_90 - math.log(max(chunks, 1))))))


def emphasis(
    normaliser: NDArray[np.floating], best_full_text: NDArray[np.floating], own_language: float | NDArray[np.floating]
) -> Values:
    """Return how much more the dense half counts for a question than for a usual one: a factor of its weight.

    It counts for more in a short question, and where the words find little: `best_full_text` is the highest share of
    the question that a chunk matches. That says nothing in a collection without texts in the question's language,
    where only translations match; `own_language` (see `SparseQuery`, as `normaliser`) is 0 then.
    """
    short: Values = np.sqrt(_USUAL_LENGTH / np.maximum(normaliser, _LEAST_LENGTH))
    lead = np.clip((_FOLLOWS - best_full_text) / (_FOLLOWS - _LEADS), 0.0, 1.0)
    emphasised: Values = short * (1.0 + _LEAD * own_language * lead)
    return emphasised


def relevance(full_text: NDArray[np.floating], evidence: Values, weight: DenseWeight, emphasis: Values) -> Values:
    """Return the relevance of chunks, 0..1: not less with more of either.

    `full_text` is the share of the question that a chunk matches, 0..1. `emphasis` is that of the question, in any
    shape that fits. With a weight of 0 only the words count.
    """
    if not weight.value and not weight.estimated:
        return full_text.astype(np.float64) ** _POWER
    own = weight.value * emphasis
    mean: Values = (full_text.astype(np.float64) ** _POWER + own * dense_score(evidence)) / (1.0 + own)
    if not weight.estimated:
        return mean
    by_chance = np.exp(-np.maximum(evidence - _SURPRISE, 0.0) / _SURPRISE_SOFTNESS)
    surprising: Values = 1.0 - (1.0 - mean) * by_chance
    return surprising
