"""How sure the built-in answer is: the probability that the quotes hold the answer to the question. Pure.

It is a logistic regression on what the search and the quoting know, fitted and calibrated by `training/fit_answers.py`
on questions with marked answers and on questions whose answer is not there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from zhiwen.common.answering import constants
from zhiwen.common.answering.features import NAMES as FEATURES
from zhiwen.common.answering.knowledge import WordKnowledge, built_in_knowledge
from zhiwen.common.answering.pieces import Passage
from zhiwen.common.answering.question_type import Kind
from zhiwen.common.answering.quoting import Quoting, choose_quotes
from zhiwen.common.lexical.analysis import is_chinese
from zhiwen.common.models import Hit

FIRST_HITS: Final = 5
"""The hits that count. The built-in answerer quotes from no more."""

NAMES: Final = (
    "score",  # of the first hit
    "score squared",
    "lead",  # of the first hit before the second
    "second",  # the score of the second hit, relative to the first
    "lead on all",  # of the first hit before the mean of the others
    "full text",  # the full-text part of the first hit
    "dense",  # the dense part of the first hit
    "best dense",
    "coverage",  # share of the question's weight in the best quote
    "coverage by all",  # in all quotes together
    "covered in passages",  # in all passages together
    "most telling missing",  # weight of the most telling term that no quote holds, relative to the question's
    "most telling absent",  # the same for the passages
    "near",  # what the neighbours and titles of the best quote add
    "run",  # the longest common run of the best quote, as a share of the question
    "margin",  # of the best quote before the best piece of another passage, in log odds
    "sharpness",  # probability of the chosen quotes among all pieces, by their scores
    "kind missing",  # a number, time, person, place or reason is asked, and no quote holds one
    "kind held",
    "number agrees",
    "terms",  # log of the number of the question's terms
    "Chinese question",
    "across",  # the best quote is in the other language
    "score across",
    "coverage across",
)
_PLACE_OF: Final = {name: place for place, name in enumerate(FEATURES)}
_KINDS: Final = (Kind.NUMBER, Kind.TIME, Kind.PERSON, Kind.PLACE, Kind.REASON)


def passages_of(hits: Sequence[Hit]) -> list[Passage]:
    """Return the first hits as the passages that are quoted."""
    return [Passage(number, hit.heading, hit.text) for number, hit in enumerate(hits[:FIRST_HITS], 1)]


def confidence(question: str, hits: Sequence[Hit]) -> float:
    """Return the probability that the built-in answer from these hits, best first, answers the question: 0..1.

    It is 0 when there is nothing to quote.
    """
    return confidence_with(question, hits, built_in_knowledge())


def confidence_with(question: str, hits: Sequence[Hit], words: WordKnowledge) -> float:
    """Return `confidence` with this knowledge of words."""
    quoting = choose_quotes(question, passages_of(hits), words)
    return calibrated(evidence(question, hits, quoting)) if quoting.quotes else 0.0


def calibrated(values: Sequence[float | None]) -> float:
    """Return the probability for a row of `NAMES`. An unknown value counts as the usual one."""
    logit = constants.CONFIDENCE_BIAS + sum(
        weight * (usual if value is None else value)
        for weight, usual, value in zip(constants.CONFIDENCE, constants.USUAL, values, strict=True)
    )
    return 1 / (1 + math.exp(-min(30.0, max(-30.0, logit))))


def evidence(question: str, hits: Sequence[Hit], quoting: Quoting) -> list[float | None]:
    """Return what speaks for the quotes, in the order of `NAMES`; None where the search did not say. Needs a quote."""
    described = quoting.described
    terms = described.terms
    scores = [hit.score for hit in hits[:FIRST_HITS]]
    others = scores[1:] or [0.0]
    dense = [hit.dense_score for hit in hits[:FIRST_HITS] if hit.dense_score is not None]
    best = quoting.chosen[0]
    piece = described.pieces[best]
    row = dict(zip(FEATURES, described.rows[best], strict=True))
    by_quotes = _union(quoting, quoting.chosen)
    by_passages = _union(quoting, range(len(described.pieces)))
    heaviest = max(terms.weights.values(), default=0.0) or 1.0
    kinds = described.wanted.kinds.intersection(_KINDS)
    held = {kind for place in quoting.chosen for kind in kinds if described.rows[place][_PLACE_OF[f"{kind} held"]]}
    across = float(is_chinese(question) != is_chinese(piece.text))
    elsewhere = [s for s, p in zip(quoting.scores, described.pieces, strict=True) if p.passage != piece.passage]
    top = quoting.scores[best]
    odds = [math.exp(max(-50.0, score - top)) for score in quoting.scores]
    coverage = row["coverage"]
    return [
        scores[0],
        scores[0] ** 2,
        scores[0] - others[0],
        others[0] / scores[0] if scores[0] else 1.0,
        scores[0] - sum(others) / len(others),
        hits[0].full_text_score,
        hits[0].dense_score,
        max(dense) if dense else None,
        coverage,
        sum(by_quotes.values()),
        sum(by_passages.values()),
        max((w for term, w in terms.weights.items() if term not in by_quotes), default=0.0) / heaviest,
        max((w for term, w in terms.weights.items() if term not in by_passages), default=0.0) / heaviest,
        row["near"],
        row["run"],
        min(6.0, top - max(elsewhere)) if elsewhere else 3.0,
        sum(odds[place] for place in quoting.chosen) / sum(odds),
        float(bool(kinds - held)),
        float(bool(held)),
        row["number agrees"],
        math.log1p(len(terms.weights)),
        float(is_chinese(question)),
        across,
        across * scores[0],
        across * coverage,
    ]


def _union(quoting: Quoting, places: Sequence[int]) -> dict[str, float]:
    """Return the terms that any of these pieces holds, each with its largest weight."""
    together: dict[str, float] = {}
    for place in places:
        for term, weight in quoting.described.found[place].items():
            together[term] = max(weight, together.get(term, 0.0))
    return together
