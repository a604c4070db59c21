"""Computes the figures of an evaluation from the results of its searches. Pure.

The metrics are the usual ones. recall@k counts a question as found when one of its passages is among the first k.
MRR@10 and nDCG@10 are those of Järvelin & Kekäläinen 2002 with binary relevance. AUROC is the probability that an
answerable question scores above an unanswerable one (Hanley & McNeil 1982).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from zhiwen.cli.evaluation.passages import Question

T = TypeVar("T")
DEPTH = 10


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one question in one mode.

    `rank` is the rank of the first right passage, counted from 1, or None after the tenth. `gain` is the nDCG@10,
    `score` the best score, and `milliseconds` the time of the search.
    """

    answerable: bool
    rank: int | None
    gain: float
    score: float
    refused: bool
    milliseconds: float


@dataclass(frozen=True, slots=True)
class ModeFigures:
    """Figures of one mode: retrieval over the answerable questions, and latency over all, in milliseconds."""

    questions: int
    recall_at_1: float
    recall_at_5: float
    recall_at_10: float
    mrr_at_10: float
    ndcg_at_10: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class RefusalFigures:
    """How well hybrid scores separate answerable from unanswerable questions; None if one kind is missing."""

    answerable: int
    unanswerable: int
    rightly_refused: float | None
    wrongly_refused: float | None
    auroc: float | None


def judge(question: Question, right: Sequence[bool], score: float, *, refused: bool, milliseconds: float) -> Outcome:
    """Return the outcome of a question.

    `right` says of each distinct passage that was found, best first, whether it is a right one. `score` is the best
    score, `refused` whether the question was refused, and `milliseconds` the time of the search.
    """
    ranks = [rank for rank, is_right in enumerate(right[:DEPTH], 1) if is_right]
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(len(question.passages), DEPTH) + 1))
    gain = sum(1 / math.log2(rank + 1) for rank in ranks[: len(question.passages)]) / ideal if ideal else 0.0
    rank = ranks[0] if ranks else None
    return Outcome(question.answerable, rank, gain, score, refused, milliseconds)


def figures_of(outcomes: Sequence[Outcome]) -> ModeFigures:
    """Return the figures of one mode."""
    answerable = [outcome for outcome in outcomes if outcome.answerable]
    latencies = sorted(outcome.milliseconds for outcome in outcomes)
    return ModeFigures(
        questions=len(outcomes),
        recall_at_1=share_of(answerable, lambda o: o.rank is not None and o.rank <= 1),
        recall_at_5=share_of(answerable, lambda o: o.rank is not None and o.rank <= 5),
        recall_at_10=share_of(answerable, lambda o: o.rank is not None),
        mrr_at_10=mean([1 / outcome.rank if outcome.rank else 0.0 for outcome in answerable]),
        ndcg_at_10=mean([outcome.gain for outcome in answerable]),
        p50_ms=_percentile(latencies, 0.5),
        p99_ms=_percentile(latencies, 0.99),
    )


def refusal_of(outcomes: Sequence[Outcome]) -> RefusalFigures:
    """Return the figures of refusal."""
    answerable = [outcome for outcome in outcomes if outcome.answerable]
    unanswerable = [outcome for outcome in outcomes if not outcome.answerable]
    return RefusalFigures(
        answerable=len(answerable),
        unanswerable=len(unanswerable),
        rightly_refused=share_of(unanswerable, lambda o: o.refused) if unanswerable else None,
        wrongly_refused=share_of(answerable, lambda o: o.refused) if answerable else None,
        auroc=auroc([o.score for o in answerable], [o.score for o in unanswerable]),
    )


def auroc(positive: Sequence[float], negative: Sequence[float]) -> float | None:
    """Return the probability that a positive scores above a negative; a tie counts half. None if either is empty."""
    if not positive or not negative:
        return None
    ranked = sorted([(score, True) for score in positive] + [(score, False) for score in negative])
    rank_sum, index = 0.0, 0
    while index < len(ranked):
        end = index
        while end < len(ranked) and ranked[end][0] == ranked[index][0]:
            end += 1
        middle = (index + 1 + end) / 2  # the mean of the ranks index+1 .. end
        rank_sum += middle * sum(1 for _, is_positive in ranked[index:end] if is_positive)
        index = end
    wins = rank_sum - len(positive) * (len(positive) + 1) / 2
    return wins / (len(positive) * len(negative))


def share_of(outcomes: Sequence[T], condition: Callable[[T], bool]) -> float:
    """Return the share, 0..1, of the outcomes that meet a condition; 0 without outcomes."""
    return mean([1.0 if condition(outcome) else 0.0 for outcome in outcomes])


def mean(values: Sequence[float]) -> float:
    """Return the mean; 0 without values."""
    return sum(values) / len(values) if values else 0.0


def _percentile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0
