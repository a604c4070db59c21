"""How sure it is that what was found answers a question. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from zhiwen.common.models import Hit

EVIDENCE: Final = 5
"""How many of the first hits count."""
_EVEN: Final = 0.26
"""The relevance at which an answer is as likely as none."""
_STEEPNESS: Final = 14.0


def confidence(question: str, hits: Sequence[Hit]) -> float:
    """Return the probability, 0..1, that the first `EVIDENCE` hits answer the question: 0 without hits.

    It is a logistic function of the best hit's relevance, so the words of the question do not count yet.
    """
    if not hits:
        return 0.0
    best = max(hit.score for hit in hits[:EVIDENCE])
    return 1.0 / (1.0 + math.exp(-_STEEPNESS * (best - _EVEN)))
