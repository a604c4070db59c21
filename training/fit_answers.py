"""Fits quoting and confidence to the question sets, prints what they are worth, and writes their numbers.

`python -m training.fit_answers --data ../shared/data` takes about 4 minutes on one core. The numbers are fitted on the
choose halves. The tables show both halves of every set. The office set is only tested on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from training.answers import Example, examples, halves
from training.sets import ACROSS, EVERYDAY, SHARED, Half, QuestionSet, all_sets, pair_set, pooled, small
from training.simulation import Engine, searched
from zhiwen.common.answering import constants
from zhiwen.common.answering.confidence import NAMES as EVIDENCE
from zhiwen.common.answering.confidence import evidence
from zhiwen.common.answering.features import NAMES as FEATURES
from zhiwen.common.answering.knowledge import WordKnowledge, built_in_knowledge
from zhiwen.common.answering.quoting import quoting_of

Numbers = NDArray[np.float64]

TESTED_ONLY: Final = ("office", "zh_xquad traditional")
"""Sets that nothing is fitted on. The Traditional set repeats another one."""
PAIRS: Final = 1000
SMALL: Final = (*SHARED, *EVERYDAY, *(f"{asked} -> {held}" for asked, held in ACROSS))
SMALL_MIXED: Final = (
    ("zh_cmrc2018", "en_squad2_third"),
    ("zh_xquad", "en_squad2_third"),
    ("zh_cmrc2018", "en_xquad"),
    ("zh_faq", "en_faq"),
)
"""Pairs of sets that are drawn from together, because many collections have texts in both languages."""
SMALL_SIZES: Final = (4, 4, 4, 8, 8, 16, 16, 40)
"""Passages of the small collections that are drawn from each half of each of these sets."""
MINIMUM: Final = 0.1
"""The default minimum of confidence: a round value below which few rightly answered questions of any set are (1.6 % at
most on the test halves, office left out), and a quarter to a third of those that cannot be answered."""
BINS: Final = 10
QUOTING_RIDGE: Final = 5.0
CONFIDENCE_RIDGE: Final = 3.0
BY_HAND: Final = {
    # The sets have hardly any tables, and few questions with a number that tells rows apart.
    "number agrees": 1.5,
    "number differs": -2.5,
    "row": 0.0,
    # A set has passages in one language only.
    "other language": -1.0,
}


def main() -> None:
    """Fit, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--only-test", action="store_true", help="print the tables for the numbers as they are")
    args = parser.parse_args()
    words = built_in_knowledge()
    engine = _engine(words)
    found = {of.name: list(examples(searched(engine, of))) for of in _sets(args.data)}
    found["small collections"] = _small_collections(engine, args.data)
    weights = np.array(constants.QUOTING)
    if not args.only_test:
        weights = fit_quoting(found, words)
    judged = {name: [judge(example, words, weights) for example in rows] for name, rows in found.items()}
    if args.only_test:
        fitted = _current()
    else:
        fitted = fit_confidence(judged)
        write(weights, fitted)
    report(judged, fitted)


def _engine(words: WordKnowledge) -> Engine:
    assert words.embedder is not None
    return Engine(words.embedder, words.translations)


def _small_collections(engine: Engine, data: Path) -> list[Example]:
    """Return questions to collections of 4 to 40 passages, as people first try a service with."""
    by_name = {of.name: of for of in all_sets(data)}
    sources = [by_name[name] for name in SMALL] + [pooled(by_name[zh], by_name[en]) for zh, en in SMALL_MIXED]
    drawn = [
        small(of, half, passages, draw)
        for of in sources
        for half in get_args(Half)
        for draw, passages in enumerate(SMALL_SIZES)
    ]
    return [example for of in drawn for example in examples(searched(engine, of))]


def _sets(data: Path) -> Iterator[QuestionSet]:
    yield from all_sets(data)
    for language in ("zh", "en"):
        yield pair_set(data / "train", language, limit=PAIRS)


# Quoting


def fit_quoting(found: Mapping[str, Sequence[Example]], words: WordKnowledge) -> Numbers:
    """Return the weights `(features,)` under which a softmax over the pieces gives most to those with the answer."""
    rows: list[Numbers] = []
    good: list[NDArray[np.bool_]] = []
    for name, of_set in found.items():
        if name in TESTED_ONLY:
            continue
        for example in halves(of_set, "choose"):
            if example.answerable:
                described = example.described(words)
                marks = np.array(example.good_pieces(described), bool)
                if marks.any():
                    rows.append(np.array(described.rows))
                    good.append(marks)
    weights = _softmax_weights(rows, good)
    by_name = dict(zip(FEATURES, weights.tolist(), strict=True)) | BY_HAND
    return np.array([round(by_name[name], 4) for name in FEATURES])


def _softmax_weights(rows: Sequence[Numbers], good: Sequence[NDArray[np.bool_]]) -> Numbers:
    """Minimise -log of the good pieces' share of exp(score), summed over the questions, with a ridge penalty."""
    features, marks = np.concatenate(rows), np.concatenate(good)
    scale = features.std(0) + 1e-6
    features = (features - features.mean(0)) / scale
    starts = np.cumsum([0] + [len(part) for part in rows[:-1]])
    question = np.repeat(np.arange(len(rows)), [len(part) for part in rows])

    def loss(weights: Numbers) -> tuple[float, Numbers]:
        scores = features @ weights
        powers = np.exp(scores - np.maximum.reduceat(scores, starts)[question])
        total, held = np.bincount(question, powers), np.bincount(question, powers * marks)
        slope = powers / total[question] - powers * marks / np.maximum(held, 1e-30)[question]
        value = float(np.log(total).sum() - np.log(np.maximum(held, 1e-30)).sum())
        penalty = QUOTING_RIDGE / 2 * float(weights @ weights)
        return value + penalty, features.T @ slope + QUOTING_RIDGE * weights

    found = minimize(loss, np.zeros(features.shape[1]), jac=True, method="L-BFGS-B")
    return np.asarray(found.x / scale)


# Confidence


@dataclass(frozen=True, slots=True)
class Judged:
    """What is known about one answer: the evidence for it, whether it is right, and its length in characters."""

    half: str
    evidence: tuple[float, ...] | None  # None: nothing was quoted
    right: bool
    answerable: bool
    masked: bool
    length: int


@dataclass(frozen=True, slots=True)
class Fitted:
    """A logistic regression, and the default minimum."""

    weights: Numbers
    bias: float
    usual: Numbers
    minimum: float

    def probability(self, of: Sequence[Judged]) -> Numbers:
        """Return the confidence of each answer, 0 where nothing was quoted."""
        quoted = np.array([one.evidence is not None for one in of], bool)
        rows = np.array([one.evidence or tuple(self.usual) for one in of]).reshape(len(of), len(self.weights))
        return np.where(quoted, _sigmoid(rows @ self.weights + self.bias), 0.0)


def judge(example: Example, words: WordKnowledge, weights: Numbers) -> Judged:
    """Quote for an example and say whether that is right."""
    quoting = quoting_of(example.described(words), example.passages, weights.tolist())
    values = evidence(example.asked.text, example.hits, quoting) if quoting.quotes else None
    return Judged(
        half=example.asked.half,
        evidence=tuple(0.0 if value is None else value for value in values) if values else None,
        right=example.is_answered(quoting),
        answerable=example.answerable,
        masked=example.masked,
        length=sum(len(quote.text) for quote in quoting.quotes),
    )


def fit_confidence(judged: Mapping[str, Sequence[Judged]]) -> Fitted:
    """Fit the probability of a right answer on the choose halves. Every set counts the same."""
    rows: list[tuple[float, ...]] = []
    right: list[bool] = []
    counts: list[float] = []
    fitted_on = [of for name, of in judged.items() if name not in TESTED_ONLY]
    chosen = [[one for one in of if one.half == "choose"] for of in fitted_on]
    for of in chosen:
        quoted = [(one.evidence, one.right) for one in of if one.evidence is not None]
        rows += [values for values, _ in quoted]
        right += [good for _, good in quoted]
        counts += [1000 / len(quoted)] * len(quoted)
    weights, bias, usual = _logistic(np.array(rows), np.array(right, np.float64), np.array(counts))
    return Fitted(weights.round(4), round(bias, 4), usual.round(4), MINIMUM)


def _logistic(rows: Numbers, right: Numbers, counts: Numbers) -> tuple[Numbers, float, Numbers]:
    """Return weights, bias and means of a logistic regression with a ridge penalty. `counts` weigh the rows."""
    usual, scale = rows.mean(0), rows.std(0) + 1e-6
    inputs = np.hstack([(rows - usual) / scale, np.ones((len(rows), 1))])

    def loss(weights: Numbers) -> tuple[float, Numbers]:
        logits = inputs @ weights
        value = counts @ (np.logaddexp(0, logits) - right * logits)
        slope = inputs.T @ (counts * (_sigmoid(logits) - right))
        ridge = np.append(weights[:-1], 0) * CONFIDENCE_RIDGE
        return float(value + ridge @ weights / 2), slope + ridge

    found = minimize(loss, np.zeros(inputs.shape[1]), jac=True, method="L-BFGS-B").x
    weights = found[:-1] / scale
    return weights, float(found[-1] - weights @ usual), usual


def _sigmoid(logits: Numbers) -> Numbers:
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -30, 30))))


# What it is worth


def report(judged: Mapping[str, Sequence[Judged]], fitted: Fitted) -> None:
    """Print two tables: one line for each half of each set."""
    print("| set | half | holds the answer | characters |")
    print("| --- | --- | --- | --- |")
    for name, half, of in _by_half(judged):
        asked = [one for one in of if one.answerable]
        print(
            f"| {name} | {half} | {_mean([one.right for one in asked]):.3f} | {_mean([o.length for o in asked]):.0f} |"
        )
    print(f"\nminimum {fitted.minimum}\n")
    print(
        "| set | half | right | confidence | ECE | AUROC right | AUROC answerable | answerable below | others below |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, half, of in _by_half(judged):
        sure = fitted.probability(of)
        right = np.array([one.right for one in of])
        able = np.array([one.answerable for one in of])
        below = sure < fitted.minimum
        print(
            f"| {name} | {half} | {right.mean():.3f} | {sure.mean():.3f} | {calibration_error(sure, right):.3f} "
            f"| {auroc(sure, right):.3f} | {auroc(sure, able):.3f} "
            f"| {_mean(below[able]):.3f} | {_mean(below[~able]):.3f} |"
        )


def _by_half(judged: Mapping[str, Sequence[Judged]]) -> Iterator[tuple[str, str, list[Judged]]]:
    for name, of in judged.items():
        for half in ("choose", "test"):
            yield name, half, [one for one in of if one.half == half]


def calibration_error(sure: Numbers, right: NDArray[np.bool_]) -> float:
    """Return the expected calibration error over ten bins of equal width (Guo and others 2017)."""
    bins = np.minimum((sure * BINS).astype(int), BINS - 1)
    parts = [(bins == place) for place in range(BINS)]
    return float(sum(part.mean() * abs(sure[part].mean() - right[part].mean()) for part in parts if part.any()))


def auroc(sure: Numbers, right: NDArray[np.bool_]) -> float:
    """Return the chance that a right one has more confidence than a wrong one; ties count half."""
    good, bad = np.sort(sure[right]), sure[~right]
    if not len(good) or not len(bad):
        return float("nan")
    above = len(good) - (np.searchsorted(good, bad, "left") + np.searchsorted(good, bad, "right")) / 2
    return float(above.mean() / len(good))


def _mean(values: Sequence[Any] | NDArray[np.bool_]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


# The file


def write(weights: Numbers, fitted: Fitted) -> None:
    """Write the constants of `zhiwen.common.answering`."""
    confidence = zip(EVIDENCE, fitted.weights.tolist(), fitted.usual.tolist(), strict=True)
    constants.FILE.write_text(
        json.dumps(
            {
                "made by": "python -m training.fit_answers; training/RESULTS.md has the sets and the figures",
                "quoting": dict(zip(FEATURES, weights.tolist(), strict=True)),
                "confidence": {name: [weight, usual] for name, weight, usual in confidence},
                "confidence_bias": fitted.bias,
                "min_confidence": fitted.minimum,
            },
            indent=1,
        )
        + "\n",
        encoding="utf-8",
    )


def _current() -> Fitted:
    return Fitted(
        np.array(constants.CONFIDENCE), constants.CONFIDENCE_BIAS, np.array(constants.USUAL), constants.MIN_CONFIDENCE
    )


if __name__ == "__main__":
    main()
