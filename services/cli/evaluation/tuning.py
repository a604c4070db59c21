"""Fits `dense_weight` and `min_confidence` of a knowledge base to questions (`zhiwen eval --tune`).

The questions are split in two halves. Values are chosen on one half and judged on the other, which had no part in the
choice. A value that is no better there is not kept.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Protocol

from zhiwen.cli.evaluation.metrics import Outcome, figures_of, judge, mean
from zhiwen.cli.evaluation.passages import Question
from zhiwen.cli.evaluation.run import Tell, asked_at_once, right_hits
from zhiwen.cli.values import Json, Usage
from zhiwen.client import SearchOut

GRID: Final = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0)
"""The weights of the dense half that are tried, where the full-text half has 1."""
UNSURE: Final = 0.05
"""The greatest share of the answerable questions that choose `min_confidence` and may be below it."""
FEWEST: Final = 10
"""The fewest answerable questions of a half."""
HITS: Final = 20
PASSAGES: Final = 5
"""The hits of a question to `/ask`, whose confidence counts."""


class Tunable(Protocol):
    """What tuning needs of a client."""

    def search(
        self, kb: str, query: str, *, top_k: int, mode: str, fusion: str | None, dense_weight: float | None
    ) -> SearchOut:
        """Search the knowledge base `kb` for `query`.

        A `dense_weight` of None is that of the knowledge base. `top_k`, `mode` and `fusion` are those of `Client`.
        """
        ...

    def update_knowledge_base(self, name: str, **changes: Any) -> object:
        """Change `dense_weight` and `min_confidence` of a knowledge base."""
        ...


@dataclass(frozen=True, slots=True)
class Change:
    """A setting's new value, and what the half that did not choose it says: a figure `before` and `after`, 0..1.

    The figure of `dense_weight` is MRR@10. That of `min_confidence` is the share of right decisions: the mean, over the
    kinds of questions there are, of the answerable ones at or above it and of the unanswerable ones below it.
    """

    value: float
    before: float
    after: float

    @property
    def is_better(self) -> bool:
        """Whether the new value is better."""
        return self.after > self.before

    def to_json(self) -> Json:
        """Return the change as JSON."""
        return {**asdict(self), "better": self.is_better}


@dataclass(frozen=True, slots=True)
class Tuning:
    """The result of tuning. `choosing` and `testing` are how many questions each half has."""

    choosing: int
    testing: int
    dense_weight: Change
    min_confidence: Change

    @property
    def better(self) -> dict[str, float]:
        """The values that are better than what they would replace, by setting."""
        changes = {"dense_weight": self.dense_weight, "min_confidence": self.min_confidence}
        return {name: change.value for name, change in changes.items() if change.is_better}


@dataclass(frozen=True, slots=True)
class Confidence:
    """How sure a search was. `is_sure` says whether the service took it for an answer."""

    answerable: bool
    value: float
    is_sure: bool


@dataclass(frozen=True, slots=True)
class Tuner:
    """Tunes one knowledge base."""

    client: Tunable
    base: str
    clients: int = 1
    fusion: str | None = None
    tell: Tell = lambda what, done, total: None

    def tune(self, questions: Sequence[Question]) -> Tuning:
        """Choose both values on one half of the questions, and compare them on the other. Nothing is stored.

        Raises `Usage` when a half has fewer than ten answerable questions.
        """
        choosing, testing = halves(questions)
        fewest = min(sum(question.answerable for question in half) for half in (choosing, testing))
        if fewest < FEWEST:
            raise Usage(
                f"Half of the questions choose and half test, and one half has {fewest} answerable questions; "
                f"it takes {FEWEST}."
            )
        weight = self._weight(choosing, testing)
        used = weight.value if weight.is_better else None
        return Tuning(len(choosing), len(testing), weight, self._least_confidence(choosing, testing, used))

    def store(self, tuning: Tuning) -> None:
        """Store what is better with the knowledge base."""
        if tuning.better:
            self.client.update_knowledge_base(self.base, **tuning.better)

    def _weight(self, choosing: Sequence[Question], testing: Sequence[Question]) -> Change:
        value = best_weight([(weight, self._mrr(choosing, weight)) for weight in GRID])
        return Change(value, self._mrr(testing, None), self._mrr(testing, value))

    def _mrr(self, questions: Sequence[Question], weight: float | None) -> float:
        answerable = [question for question in questions if question.answerable]

        def ask(question: Question) -> Outcome:
            right = right_hits(question, self._search(question, HITS, weight).hits)
            return judge(question, right, 0.0, refused=False, milliseconds=0.0)

        what = "as it is" if weight is None else f"dense_weight {weight:g}"
        return figures_of(asked_at_once(self.clients, what, answerable, ask, self.tell)).mrr_at_10

    def _least_confidence(
        self, choosing: Sequence[Question], testing: Sequence[Question], weight: float | None
    ) -> Change:
        seen = self._confidences(choosing, weight)
        value = least_confidence([confidence.value for confidence in seen if confidence.answerable])
        tested = self._confidences(testing, weight)
        before = right_decisions([(each.answerable, each.is_sure) for each in tested])
        return Change(value, before, right_decisions([(each.answerable, each.value >= value) for each in tested]))

    def _confidences(self, questions: Sequence[Question], weight: float | None) -> list[Confidence]:
        def ask(question: Question) -> Confidence:
            found = self._search(question, PASSAGES, weight)
            return Confidence(question.answerable, found.confidence, found.answerable)

        return asked_at_once(self.clients, "confidence", questions, ask, self.tell)

    def _search(self, question: Question, hits: int, weight: float | None) -> SearchOut:
        return self.client.search(
            self.base, question.text, top_k=hits, mode="hybrid", fusion=self.fusion, dense_weight=weight
        )


def halves(questions: Sequence[Question]) -> tuple[list[Question], list[Question]]:
    """Return the half that chooses and the half that tests.

    A hash decides, so the halves do not depend on the order. Questions about the same passage are in the same half.
    Where a whole document answers, and where nothing does, the hash is that of the question.
    """
    halves: tuple[list[Question], list[Question]] = ([], [])
    for question in questions:
        halves[hashlib.sha256(_half_of(question).encode()).digest()[0] % 2].append(question)
    return halves


def _half_of(question: Question) -> str:
    if question.gold_text:
        return question.gold_text
    about = min(question.passages, default="")
    return about if about.startswith("p/") else question.text


def best_weight(figures: Sequence[tuple[float, float]]) -> float:
    """Return the weight of the greatest figure; of equals, the one in the middle: it is the least sensitive choice."""
    greatest = max(figure for _, figure in figures)
    best = [weight for weight, figure in figures if figure == greatest]
    return best[len(best) // 2]


def least_confidence(answerable: Sequence[float]) -> float:
    """Return the greatest threshold, in steps of .001, below which at most 5 % of these confidences are."""
    below = int(UNSURE * len(answerable))
    return math.floor(sorted(answerable)[below] * 1000) / 1000


def right_decisions(decisions: Sequence[tuple[bool, bool]]) -> float:
    """Return the share of right decisions: the mean of that of the answerable and that of the unanswerable questions.

    A decision is (answerable, sure). A kind without questions does not count.
    """
    kinds = [[sure is kind for answerable, sure in decisions if answerable is kind] for kind in (True, False)]
    return mean([mean([float(right) for right in kind]) for kind in kinds if kind])
