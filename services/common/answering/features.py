"""What is known about each piece of the passages as an answer to a question, as numbers. Pure.

`NAMES` says what the numbers mean, in the order of a row. `training/fit_answers.py` fits one weight to each.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from zhiwen.common.answering.knowledge import WordKnowledge
from zhiwen.common.answering.matching import Matchable, QuestionTerms, matchable, question_terms
from zhiwen.common.answering.pieces import LONGEST_PASSAGE, Passage, Piece, cut
from zhiwen.common.answering.quantities import Range, ranges_of
from zhiwen.common.answering.question_type import Kind, Wanted, counts, holds, wanted
from zhiwen.common.lexical.analysis import is_chinese

MOST_PIECES: Final = 400
"""Pieces beyond this number are not read."""
LONGEST_QUESTION: Final = 1_000
"""Characters of a question that are read."""
_NEAR: Final = 0.5
"""What a term counts for in the next piece; in the one after that, the square of it."""
_REACH: Final = 3
ENOUGH_WORDS: Final = 0.6
"""When the best piece holds this share of the question's weight, the words decide alone."""
_THINGS: Final = frozenset("个件册杯台页次人名")
_ENDS: Final = re.compile(r"[。｡！!….;；]['\"”’」』）)\]】]*$")

NAMES: Final = (
    "coverage",  # share of the question's weight in the piece
    "coverage squared",
    "of the best",  # coverage relative to the best piece
    "is the best",
    "rarest",  # weight of the most telling term found, relative to the question's most telling term
    "run",  # longest common run, as a share of the question
    "near",  # share of the question's weight that is not in the piece but near it; a title is near
    "passage",  # share of the question's weight in the whole passage
    "before",  # coverage of the piece before
    "after",  # coverage of the piece after
    "rank",  # 1 / rank of the passage
    "first passage",
    "length",  # log of its units
    "short",  # less than 8 units
    "new",  # log of its units that the question does not hold
    "asks back",  # it is a question itself
    "unfinished",  # it has no mark at its end
    "first in passage",
    "row",
    *(f"{kind} held" for kind in Kind),
    *(f"{kind} missing" for kind in Kind),
    "unit counted",
    "unit missing",
    "number agrees",
    "number differs",
    "other language",
    "less similar",  # how far its cosine with the question is below the best, when the words find little
)


@dataclass(frozen=True, slots=True)
class Described:
    """The pieces of the passages, and for each: the terms it holds with their weights, and a row of `NAMES`.

    `cells` is the share of the question's weight in the text of a piece alone, without the names of its columns.
    """

    wanted: Wanted
    terms: QuestionTerms
    pieces: tuple[Piece, ...]
    found: tuple[Mapping[str, float], ...]
    rows: tuple[tuple[float, ...], ...]
    cells: tuple[float, ...]


def describe(question: str, passages: Sequence[Passage], words: WordKnowledge) -> Described:
    """Return the pieces of passages, best passage first, with their features."""
    question = question[:LONGEST_QUESTION]
    all_pieces = (piece for place, passage in enumerate(passages) for piece in cut(place, passage))
    pieces = list(islice(all_pieces, MOST_PIECES))  # the passages behind them are not even cut
    texts = [matchable("\n".join([*piece.columns, piece.text])) for piece in pieces]
    across = any(is_chinese(question) != is_chinese(passage.text[:LONGEST_PASSAGE]) for passage in passages)
    terms = question_terms(question, texts, words.translations, across=across)
    found = [terms.found(text) for text in texts]
    titles = {title: terms.found(matchable(title)) for title in dict.fromkeys(piece.titles for piece in pieces)}
    farther = _less_similar(question, pieces, found, words)
    describer = _Describer(wanted(terms.question.folded), terms, pieces, texts, found, titles)
    rows = tuple((*describer.row(place), farther[place]) for place in range(len(pieces)))
    cells = tuple(
        sum((terms.found(matchable(piece.text)) if piece.columns else held).values())
        for piece, held in zip(pieces, found, strict=True)
    )
    return Described(describer.wanted, terms, tuple(pieces), tuple(found), rows, cells)


def _less_similar(
    question: str, pieces: Sequence[Piece], found: Sequence[Mapping[str, float]], words: WordKnowledge
) -> Sequence[float]:
    """Return how far each piece's cosine with the question is below the best one, the less the more words match."""
    little = 1 - max((sum(held.values()) for held in found), default=0.0) / ENOUGH_WORDS
    if words.embedder is None or little <= 0 or not pieces:
        return [0.0] * len(pieces)
    texts = [" ".join([piece.titles.rpartition("\n")[2], *piece.columns, piece.text]) for piece in pieces]
    cosines = words.embedder.embed_passages(texts) @ words.embedder.embed_queries([question])[0]
    return [little * float(value) for value in cosines.max() - cosines]


class _Describer:
    def __init__(
        self,
        asked: Wanted,
        terms: QuestionTerms,
        pieces: Sequence[Piece],
        texts: Sequence[Matchable],
        found: Sequence[Mapping[str, float]],
        titles: Mapping[str, Mapping[str, float]],
    ) -> None:
        """`texts` and `found` belong to the pieces; `titles` holds the terms found in each title."""
        self.wanted = asked
        self._terms = terms
        self._pieces = pieces
        self._texts = texts
        self._found = found
        self._titles = titles
        self._coverage = [sum(held.values()) for held in found]
        self._best = max(self._coverage, default=0.0)
        self._heaviest = max(terms.weights.values(), default=0.0) or 1.0
        self._ranges = _asked_numbers(terms.question.folded)
        self._chinese = is_chinese(terms.question.folded)
        self._passages = self._passage_coverage()

    def _passage_coverage(self) -> dict[int, float]:
        together: dict[int, dict[str, float]] = {}
        for piece, held in zip(self._pieces, self._found, strict=True):
            mine = together.setdefault(piece.passage, dict(self._titles[piece.titles]))
            for term, weight in held.items():
                mine[term] = max(weight, mine.get(term, 0.0))
        return {place: sum(held.values()) for place, held in together.items()}

    def row(self, place: int) -> tuple[float, ...]:
        """Return the features of a piece."""
        piece, text, held = self._pieces[place], self._texts[place], self._found[place]
        coverage = self._coverage[place]
        kinds = {kind: holds(kind, text.folded, piece.text) for kind in self.wanted.kinds}
        counted = counts(self.wanted.unit, text.folded)
        agreement = self.number_agreement(place)
        known = sum(1 if term.isascii() else 2 for term in held)
        return (
            coverage,
            coverage * coverage,
            coverage / self._best if self._best else 0.0,
            float(0 < coverage == self._best),
            max(held.values(), default=0.0) / self._heaviest,
            self._terms.longest_run(text),
            self._near(place),
            self._passages[piece.passage],
            self._beside(place, -1),
            self._beside(place, 1),
            1 / (1 + piece.passage),
            float(piece.passage == 0),
            math.log1p(text.units),
            float(text.units < 8),
            math.log1p(max(0, text.units - known)),
            float(piece.text.endswith(("?", "？"))),
            float(not piece.columns and _ENDS.search(piece.text) is None),
            float(place == 0 or self._pieces[place - 1].passage != piece.passage),
            float(bool(piece.columns)),
            *(float(kinds.get(kind, False)) for kind in Kind),
            *(float(not kinds.get(kind, True)) for kind in Kind),
            float(bool(self.wanted.unit) and counted),
            float(bool(self.wanted.unit) and not counted),
            max(0.0, agreement),
            max(0.0, -agreement),
            float(is_chinese(piece.text) != self._chinese),
        )

    def _beside(self, place: int, step: int) -> float:
        other = place + step
        if 0 <= other < len(self._pieces) and self._pieces[other].passage == self._pieces[place].passage:
            return self._coverage[other]
        return 0.0

    def _near(self, place: int) -> float:
        """Return what the terms of neighbouring pieces and of the titles add to the coverage; they count in part."""
        piece = self._pieces[place]
        near = dict(self._found[place])
        for term, weight in self._titles[piece.titles].items():
            near[term] = max(near.get(term, 0.0), _NEAR * weight)
        for step in range(-_REACH, _REACH + 1):
            other = place + step
            if step and 0 <= other < len(self._pieces) and self._pieces[other].passage == piece.passage:
                for term, weight in self._found[other].items():
                    near[term] = max(near.get(term, 0.0), _NEAR ** abs(step) * weight)
        return sum(near.values()) - self._coverage[place]

    def number_agreement(self, place: int) -> float:
        """Return how the piece's numbers agree with those of the question, -1..1; 0 when nothing compares."""
        if not self._ranges:
            return 0.0
        theirs = ranges_of(self._texts[place].folded)
        scores = [agreement(number, theirs) for number in self._ranges]
        return sum(scores) / len(scores)


def _asked_numbers(question: str) -> list[Range]:
    """Return the numbers of a question. Beside others, a 1 is mostly none: 一年有几天, "a day"; nor is 多少钱一个."""
    numbers = ranges_of(question)
    several = [number for number in numbers if number.low != 1 or not number.exact]
    return several or [number for number in numbers if number.unit not in _THINGS]


def agreement(asked: Range, numbers: Sequence[Range]) -> float:
    """Return how numbers agree with an asked one: 1 the same or within both bounds, -1 beside it.

    Within one bound it is .5, or up to .6 if the bound is near: of 10 years or more and 20 years or more, 30 years mean
    the latter.

    Only numbers of the asked unit compare. Without a unit, every number does, and none disagrees.
    """
    value = asked.low if math.isfinite(asked.low) else asked.high
    same = [number for number in numbers if number.unit == asked.unit or not asked.unit or not number.unit]
    scores = [_agrees(value, number) for number in same]
    if not scores:
        return 0.0
    best = max(scores)
    return best if best > 0 or asked.unit else 0.0


def _agrees(value: float, number: Range) -> float:
    if not number.holds(value):
        return -1.0
    if number.exact or number.bounded or value in (number.low, number.high):
        return 1.0
    bound = number.low if math.isfinite(number.low) else number.high
    larger = max(abs(value), abs(bound))
    return 0.5 + 0.1 * min(abs(value), abs(bound)) / larger if larger else 0.5
