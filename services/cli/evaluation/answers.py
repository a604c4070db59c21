"""Judges the answers of `/ask`, and computes the figures of how they ended and how well their confidence fits. Pure.

The calibration error is the expected calibration error over ten bins of equal width (Naeini et al. 2015): the mean
distance between the confidence and the share of right answers in a bin, weighted by the questions in the bin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from zhiwen.cli.evaluation.gold import holds_one, holds_text, marks, sentences_of, tells
from zhiwen.cli.evaluation.metrics import auroc, mean, share_of
from zhiwen.cli.evaluation.passages import Question
from zhiwen.cli.values import Json
from zhiwen.client import Answer, HitOut

BINS: Final = 10
Ending = Literal["answered", "closest", "refused"]


@dataclass(frozen=True, slots=True)
class AnswerOutcome:
    """How one question ended.

    `holds_gold` is None where it is not known what a right answer says. `cites_right` says whether a passage that the
    answer cites is a right one. `called` says whether a model wrote the answer. `sentences` is the answer's length.
    """

    answerable: bool
    ending: Ending
    confidence: float
    holds_gold: bool | None
    cites_right: bool
    called: bool
    sentences: int

    @property
    def is_right(self) -> bool:
        """Whether the answer is right: it holds the gold or, where that is not known, cites a right passage.

        A refusal and the answer to a question that cannot be answered are never right: confidence is the probability
        that the answer is.
        """
        told = self.cites_right if self.holds_gold is None else self.holds_gold
        return self.answerable and self.ending != "refused" and told


@dataclass(frozen=True, slots=True)
class Bin:
    """The questions whose confidence is in one tenth of the scale. `low` belongs to the bin, and of the last `high`."""

    low: float
    high: float
    questions: int
    mean_confidence: float
    share_right: float


@dataclass(frozen=True, slots=True)
class AnswerFigures:
    """How the questions of a set ended. Shares are in 0..1, and None where there are no questions of the kind.

    Of the answerable questions: `holds_gold` is the share whose answer holds the gold (of the `with_gold` ones),
    `cites_right` the share whose answer cites a right passage, `falsely_refused`, `closest` (answered with the closest
    passages) and `ended_without_call` (refused, and no model was asked). Of the unanswerable ones: `rightly_refused`,
    and `rightly_unsure` (refused or closest). `auroc` is that of the confidence between both kinds. `longest_answer` is
    the number of sentences of the longest answer that is no refusal and no list of closest passages.
    """

    asked: int
    answerable: int
    unanswerable: int
    with_gold: int
    holds_gold: float | None
    cites_right: float | None
    falsely_refused: float | None
    closest: float | None
    ended_without_call: float | None
    rightly_refused: float | None
    rightly_unsure: float | None
    auroc: float | None
    calibration_error: float
    longest_answer: int
    reliability: tuple[Bin, ...]

    def to_json(self) -> Json:
        """Return the figures as JSON, with the bins as {from, to, questions, mean_confidence, share_right}."""
        figures: Json = {name: getattr(self, name) for name in self.__slots__}
        figures["reliability"] = [
            {
                "from": found.low,
                "to": found.high,
                "questions": found.questions,
                "mean_confidence": found.mean_confidence,
                "share_right": found.share_right,
            }
            for found in self.reliability
        ]
        return figures


def is_right_passage(question: Question, hit: HitOut) -> bool:
    """Return whether a hit is a right passage: it holds the gold text or, where there is none, is of a right document.

    A question that cannot be answered has no right passage.
    """
    if not question.answerable:
        return False
    if question.gold_text:
        return holds_text(hit.text, question.gold_text)
    return hit.source in question.passages


def judge_answer(question: Question, answer: Answer) -> AnswerOutcome:
    """Return how a question ended. An answer without marks cites the first passage that it shows."""
    shown = answer.sources or answer.closest
    cited = set(marks(answer.answer))
    ending: Ending = "refused" if answer.refused else "closest" if answer.outcome == "closest" else "answered"
    return AnswerOutcome(
        answerable=question.answerable,
        ending=ending,
        confidence=answer.confidence,
        holds_gold=holds_gold(question, answer.answer) if question.has_gold else None,
        cites_right=ending != "refused"
        and any(is_right_passage(question, hit) for hit in shown if hit.n in cited or (not cited and hit is shown[0])),
        called=answer.model is not None,
        sentences=sentences_of(answer.answer),
    )


def holds_gold(question: Question, answer: str) -> bool:
    """Return whether an answer says what a right answer to this question says (see `gold`)."""
    if question.answers:
        return holds_one(answer, question.answers)
    return tells(answer, question.short_answer, question.gold_text)


def answer_figures_of(outcomes: Sequence[AnswerOutcome]) -> AnswerFigures:
    """Return the figures of a set of answers."""
    answerable = [outcome for outcome in outcomes if outcome.answerable]
    unanswerable = [outcome for outcome in outcomes if not outcome.answerable]
    golden = [outcome for outcome in answerable if outcome.holds_gold is not None]
    bins = reliability_of(outcomes)
    return AnswerFigures(
        asked=len(outcomes),
        answerable=len(answerable),
        unanswerable=len(unanswerable),
        with_gold=len(golden),
        holds_gold=share_of(golden, lambda o: o.ending != "refused" and o.holds_gold is True) if golden else None,
        cites_right=share_of(answerable, lambda o: o.cites_right) if answerable else None,
        falsely_refused=share_of(answerable, lambda o: o.ending == "refused") if answerable else None,
        closest=share_of(answerable, lambda o: o.ending == "closest") if answerable else None,
        ended_without_call=(
            share_of(answerable, lambda o: o.ending == "refused" and not o.called) if answerable else None
        ),
        rightly_refused=share_of(unanswerable, lambda o: o.ending == "refused") if unanswerable else None,
        rightly_unsure=share_of(unanswerable, lambda o: o.ending != "answered") if unanswerable else None,
        auroc=auroc([o.confidence for o in answerable], [o.confidence for o in unanswerable]),
        calibration_error=calibration_error(bins),
        longest_answer=max((o.sentences for o in outcomes if o.ending == "answered"), default=0),
        reliability=bins,
    )


def reliability_of(outcomes: Sequence[AnswerOutcome]) -> tuple[Bin, ...]:
    """Return the bins of confidence that hold questions."""
    found: dict[int, list[AnswerOutcome]] = {}
    for outcome in outcomes:
        found.setdefault(min(BINS - 1, int(outcome.confidence * BINS)), []).append(outcome)
    return tuple(
        Bin(
            index / BINS,
            (index + 1) / BINS,
            len(members),
            mean([outcome.confidence for outcome in members]),
            share_of(members, lambda o: o.is_right),
        )
        for index, members in sorted(found.items())
    )


def calibration_error(bins: Sequence[Bin]) -> float:
    """Return the expected calibration error, 0..1; 0 without questions."""
    asked = sum(found.questions for found in bins)
    return sum(found.questions * abs(found.mean_confidence - found.share_right) for found in bins) / max(asked, 1)
