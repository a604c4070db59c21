"""The fitted numbers of quoting and of confidence, read once from a file. `training/fit_answers.py` writes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from zhiwen.common.answering.features import NAMES

FILE: Final = Path(__file__).parents[1] / "data" / "answering" / "fitted.json"


def fitted() -> dict[str, Any]:
    """Return what the file holds."""
    return dict(json.loads(FILE.read_text(encoding="utf-8")))


_fitted: Final = fitted()

QUOTING: Final[tuple[float, ...]] = tuple(float(_fitted["quoting"].get(name, 0.0)) for name in NAMES)
"""The weight of each feature of a piece, in the order of `features.NAMES`."""

CONFIDENCE: Final[tuple[float, ...]] = tuple(float(weight) for weight, _ in _fitted["confidence"].values())
"""The weight of each kind of evidence, in the order of `confidence.NAMES`."""
USUAL: Final[tuple[float, ...]] = tuple(float(mean) for _, mean in _fitted["confidence"].values())
"""The mean of each kind of evidence, which stands for an unknown one."""
CONFIDENCE_BIAS: Final = float(_fitted["confidence_bias"])
MIN_CONFIDENCE: Final = float(_fitted["min_confidence"])
"""Below this, an answer is shown as the closest passages (`MINIMUM` in `training/fit_answers.py`)."""
