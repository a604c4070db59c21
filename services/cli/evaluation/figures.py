"""All figures of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from zhiwen.cli.evaluation.answers import AnswerFigures
from zhiwen.cli.evaluation.metrics import ModeFigures, RefusalFigures
from zhiwen.cli.values import Json


@dataclass(frozen=True, slots=True)
class Report:
    """All figures of an evaluation.

    `passages` is how many passages or documents were searched. `answers` is None when `/ask` was not asked. `scores`
    are the best scores of the hybrid searches, for the plots.
    """

    passages: int
    modes: Mapping[str, ModeFigures]
    refusal: RefusalFigures
    answers: AnswerFigures | None = None
    scores: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def to_json(self) -> Json:
        """Return the figures as JSON, without `scores`."""
        return {
            "passages": self.passages,
            "modes": {mode: asdict(figures) for mode, figures in self.modes.items()},
            "refusal": asdict(self.refusal),
            "answers": self.answers.to_json() if self.answers else None,
        }
