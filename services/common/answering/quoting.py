"""Chooses the sentences of passages that answer a question, at most three. Pure.

Each piece of the passages gets a score: a weighted sum of its features (`features.NAMES`). The weights were fitted so
that the best pieces hold the answers that people marked (`training/fit_answers.py`); a few are set by hand and say why.
"""

from __future__ import annotations

import re
from collections.abc import Sequence, Set
from dataclasses import dataclass
from operator import mul
from typing import Final

from zhiwen.common.answering import constants
from zhiwen.common.answering.features import NAMES, Described, describe
from zhiwen.common.answering.knowledge import WordKnowledge
from zhiwen.common.answering.pieces import Passage, Piece
from zhiwen.common.lexical.analysis import fold_text

MAX_QUOTES: Final = 3
LONGEST_ANSWER: Final = 700
"""Characters of all quotes together."""
MARGIN: Final = 3.5
"""A further quote may score this much less than the best one: it then is e**3.5 = 33 times less likely to answer."""
NEW_TERMS: Final = 1.0
"""What is added to the score of a further quote that holds all of the question's terms that are still missing."""
_AS_MUCH: Final = 0.9
_SENTENCE: Final = re.compile(r"(?:[A-Za-z]{2,}\W+){3}")
_CODE: Final = re.compile(r"[a-z]+\d+|\d+[a-z]+")
_FEW: Final = 8  # pieces with the best scores
_NEAR: Final = NAMES.index("near")
_OTHER_LANGUAGE: Final = NAMES.index("other language")
_AGREES: Final = NAMES.index("number agrees")
_DIFFERS: Final = NAMES.index("number differs")


@dataclass(frozen=True, slots=True)
class Quote:
    """A quoted piece of the passage `number`, which stands at `passage.text[start:end]`.

    `text` is on one line. A row of a table has the names of its columns.
    """

    number: int
    text: str
    start: int
    end: int
    is_row: bool = False


@dataclass(frozen=True, slots=True)
class Quoting:
    """The quotes in reading order, and what confidence needs to know about them.

    `chosen` are the places of the quoted pieces in `described`, best first, and `scores` `(pieces,)` the scores of all.
    """

    quotes: tuple[Quote, ...]
    described: Described
    chosen: tuple[int, ...]
    scores: tuple[float, ...]


def choose_quotes(question: str, passages: Sequence[Passage], words: WordKnowledge) -> Quoting:
    """Return the quotes that answer a question best, from passages in the order of a search.

    There are none when no piece shares anything with the question: no term, and no translation of one.
    """
    return quoting_of(describe(question, passages, words), passages, constants.QUOTING)


def quoting_of(described: Described, passages: Sequence[Passage], weights: Sequence[float]) -> Quoting:
    """Return the quotes for pieces with their features. `weights` are in the order of `features.NAMES`."""
    scores = tuple(sum(map(mul, weights, row)) for row in described.rows)
    chosen = _choose(described, scores)
    quotes = tuple(_quote(described.pieces[place], passages) for place in sorted(chosen))
    return Quoting(quotes, described, tuple(chosen), scores)


def _choose(described: Described, scores: Sequence[float]) -> list[int]:
    """Return the places of the chosen pieces, best first. Each further one is chosen for what it adds."""
    if not any(described.found):
        return []
    first, *others = _without_other_rows(described, sorted(range(len(scores)), key=lambda p: (-scores[p], p)))
    chosen, length = [first], len(described.pieces[first].quoted)
    left = [place for place in others if scores[place] >= scores[first] - MARGIN and _belongs(described, place, first)]
    weights = described.terms.weights
    while left and len(chosen) < MAX_QUOTES:
        missing = weights.keys() - {term for place in chosen for term in described.found[place]}
        best = max(left, key=lambda place: (scores[place] + NEW_TERMS * _adds(described, place, missing), -place))
        left.remove(best)
        size = len(described.pieces[best].quoted)
        worse = any(_is_worse_row(described, best, other) for other in chosen)
        if length + size <= LONGEST_ANSWER and not worse and not _repeats(described.pieces, best, chosen):
            chosen.append(best)
            length += size
    return chosen


def _without_other_rows(described: Described, order: list[int]) -> list[int]:
    """Return the places without those that a row of a table rules out: it alone holds the asked number or code.

    Asked for 30 years, `满10年` holds them too, and the row `满20年` is meant. Asked for E55, its row is meant. Where
    number and code mean different rows, the code decides. Something is always left of `order`.
    """
    rows, found, everything = described.rows, described.found, order
    firsts = [place for place in order[:_FEW] if described.pieces[place].columns]
    if best := max((rows[place][_AGREES] for place in firsts), default=0.0):
        order = [place for place in order if not 0 < rows[place][_AGREES] < best and not rows[place][_DIFFERS]]
    codes = {term for term in described.terms.weights if _CODE.fullmatch(term)}
    if codes and any(codes <= found[place].keys() for place in firsts):
        with_code = [place for place in everything if codes <= found[place].keys()]
        order = [place for place in with_code if place in order] or with_code
    return order


def _belongs(described: Described, place: int, first: int) -> bool:
    """Return whether a further piece may stand beside the first one.

    It, or one near it, shares something with the question if the first one does. Beside Chinese, an English sentence
    has a word of the question as it stands, and not only a translation of one.
    """
    rows, text = described.rows, described.pieces[place].text
    if rows[place][_OTHER_LANGUAGE] != rows[first][_OTHER_LANGUAGE] and _SENTENCE.search(text):
        folded = fold_text(text)
        return any(term in folded for term in described.found[place])
    return not described.found[first] or bool(described.found[place]) or rows[place][_NEAR] > 0


def _is_worse_row(described: Described, place: int, other: int) -> bool:
    """Return whether two pieces are rows of one table, and the question means the other one rather than this one."""
    columns = described.pieces[place].columns
    if not columns or columns != described.pieces[other].columns:
        return False
    return described.cells[place] < _AS_MUCH * described.cells[other]


def _adds(described: Described, place: int, missing: Set[str]) -> float:
    """Return the share of the missing terms' weight that a piece holds, 0..1."""
    weights = described.terms.weights
    whole = sum(weights[term] for term in missing)
    return sum(weights[term] for term in missing & described.found[place].keys()) / whole if whole else 0.0


def _repeats(pieces: Sequence[Piece], place: int, chosen: Sequence[int]) -> bool:
    """Return whether a piece says nothing that the chosen ones do not say: chunks overlap, and documents repeat."""
    text = "".join(pieces[place].text.split())
    return any(text in other or other in text for other in ("".join(pieces[c].text.split()) for c in chosen))


def _quote(piece: Piece, passages: Sequence[Passage]) -> Quote:
    return Quote(passages[piece.passage].number, piece.quoted, piece.start, piece.end, bool(piece.columns))
