"""The weight of the dense half of a hybrid search for models that somebody has measured.

A model for one language is missing on purpose: it is strong in that language and weak in the other. For such a model,
and for every unknown one, the weight is estimated from the collection's own text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from zhiwen.common.embedding.background import Background

_MEASURED: Final[Mapping[str, float]] = {
    # Chosen on the choosing halves of our question sets: training/RESULTS.md.
    "zhiwen-static-v2": 0.18,
}
_LEAST_SKILL: Final = 1.5
_FULL_SKILL: Final = 4.5
_FULL_WEIGHT: Final = 1.2
"""Measured with all-MiniLM-L6-v2: its skill is 4.5 to 6.3 in English, where 1.2 is best, and 1.3 to 1.9 in Chinese,
which it does not know: training/RESULTS.md."""


def known_weight(model: str) -> float | None:
    """Return the weight of a model that was measured; None for any other."""
    return _MEASURED.get(model)


def estimated_weight(background: Background) -> float:
    """Return the weight of an unknown model, 0 to 1.2, from how well it finds the other half of a chunk."""
    if background.skill is None:
        return 0.0
    share = (background.skill - _LEAST_SKILL) / (_FULL_SKILL - _LEAST_SKILL)
    return _FULL_WEIGHT * min(1.0, max(0.0, share))
