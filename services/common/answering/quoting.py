"""Chooses the sentences of passages that answer a question, at most three. Pure.

Each piece of the passages gets a score: a weighted sum of its features (`features.NAMES`). The weights were fitted so
that the best pieces hold the answers that people marked (`training/fit_answers.py`); a few are set by hand and say why.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from operator import mul
from typing import Final

from zhiwen.common.answering import constants
from zhiwen.common.answering.features import NAMES, Described, describe
from zhiwen.common.answering.knowledge import WordKnowledge
from zhiwen.common.answering.pieces import Passage, Piece

MAX_QUOTES: Final = 3
LONGEST_ANSWER: Final = 600
"""Characters of all quotes together."""
MARGIN: Final = 3.5
"""A further quote may score this much less than the best one: it then is e**3.5 = 33 times less likely to answer."""
NEW_TERMS: Final = 1.0
"""What is added to the score of a further quote that holds all of the question's terms that are still missing."""
_NEAR: Final = NAMES.index("near")


@dataclass(frozen=True, slots=True)
class Quote:
    """A quoted piece of the passage `number`, which stands at `passage.text[start:end]`.

    `text` is on one line. A row of a table has the names of its columns.
    """

    number: int
    text: str
    start: int
    end: int


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
    first, *others = sorted(range(len(scores)), key=lambda place: (-scores[place], place))
    chosen, length = [first], len(described.pieces[first].quoted)
    left = [place for place in others if scores[place] >= scores[first] - MARGIN and _belongs(described, place, first)]
    weights = described.terms.weights
    while left and len(chosen) < MAX_QUOTES:
        missing = weights.keys() - {term for place in chosen for term in described.found[place]}
        best = max(left, key=lambda place: (scores[place] + NEW_TERMS * _adds(described, place, missing), -place))
        left.remove(best)
        size = len(described.pieces[best].quoted)
        if length + size <= LONGEST_ANSWER and not _repeats(described.pieces, best, chosen):
            chosen.append(best)
            length += size
    return chosen


def _belongs(described: Described, place: int, first: int) -> bool:
    """Return whether a further piece, or one near it, shares something with the question, if the first one does."""
    return not described.found[first] or bool(described.found[place]) or described.rows[place][_NEAR] > 0


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
    return Quote(passages[piece.passage].number, piece.quoted, piece.start, piece.end)
