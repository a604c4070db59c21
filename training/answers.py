"""The questions of a set as the built-in answerer gets them: with the hits of a simulated search, and what is right."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from training.sets import Asked
from training.simulation import MOST_OF_GOLD, Scores, Searched, compact, parts_of, relevance_of, share_held
from zhiwen.common.answering.confidence import FIRST_HITS, passages_of
from zhiwen.common.answering.features import Described, describe
from zhiwen.common.answering.knowledge import WordKnowledge
from zhiwen.common.answering.pieces import Passage
from zhiwen.common.answering.quoting import Quoting
from zhiwen.common.lexical.analysis import HAN, fold_text
from zhiwen.common.models import Hit
from zhiwen.query.search.relevance import Values

MASKED_OF_7: Final = 3
"""Of seven answerable questions, so many are asked again with their right passages taken away: 30 % of all."""
_TOKEN: Final = re.compile(rf"\d+(?:\.\d+)*|[^\W\d_{HAN}]+|[{HAN}]")
_GROUPED: Final = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")


@dataclass(frozen=True, slots=True)
class Example:
    """A question with the hits that the service would find. `right` marks the right hits.

    `answerable` is false when the set says so, or when the right passages were taken away (`masked`).
    """

    asked: Asked
    hits: tuple[Hit, ...]
    right: tuple[bool, ...]
    answerable: bool
    masked: bool = False

    @property
    def passages(self) -> list[Passage]:
        """The hits as passages to quote from."""
        return passages_of(self.hits)

    def described(self, words: WordKnowledge) -> Described:
        """Return the pieces of the hits with their features."""
        return describe(self.asked.text, self.passages, words)

    def good_pieces(self, described: Described) -> list[bool]:
        """Return for each piece whether it holds a marked answer, or else whether its passage is right."""
        golds = [tokens(answer) for answer in self.asked.answers]
        if not golds or self.asked.gold:
            return [self.right[piece.passage] for piece in described.pieces]
        texts = [tokens(piece.quoted) for piece in described.pieces]
        return [any(gold in text for gold in golds) for text in texts]

    def is_answered(self, quoting: Quoting) -> bool:
        """Return whether the quotes hold a marked answer, or most of the gold text.

        In a set without either, return whether the first quoted passage is right.
        """
        if not self.answerable or not quoting.quotes:
            return False
        if self.asked.gold:
            raw = "".join(self.hits[q.number - 1].text[q.start : q.end] for q in quoting.quotes)
            return share_held(compact(self.asked.gold), compact(raw)) >= MOST_OF_GOLD
        if self.asked.answers:
            text = tokens(" ".join(quote.text for quote in quoting.quotes))
            return any(tokens(answer) in text for answer in self.asked.answers)
        return self.right[quoting.quotes[0].number - 1]


def tokens(text: str) -> str:
    """Return the words, numbers and Chinese characters of a text between spaces, to find whole words in it."""
    return f" {' '.join(_TOKEN.findall(_GROUPED.sub('', fold_text(text))))} "


def examples(of: Searched, *, mask: bool = True) -> Iterator[Example]:
    """Yield the questions of a set with their hits. With `mask`, some follow again without their right passages.

    A set of which half cannot be answered gives every second one of these, so that no more than a third are such.
    """
    parts = parts_of(of)
    shown = _Shown(of, relevance_of(of, parts), parts.full_text, parts.dense)
    unanswerable = sum(not question.right for question in of.questions)
    keep = 2 if unanswerable * 2 > len(of.questions) * 0.9 else 1
    labelled = unanswerable > 0
    for place, question in enumerate(of.questions):
        key = zlib.crc32(f"mask:{question.text}".encode())
        if not question.right:
            if key % keep == 0:
                yield shown.example(place, answerable=False)
            continue
        yield shown.example(place, answerable=True)
        if mask and not labelled and key % 7 < MASKED_OF_7:
            yield shown.example(place, answerable=False, masked=True)


@dataclass(frozen=True, slots=True)
class _Shown:
    """All scores that hits show, each `(questions, chunks)`."""

    of: Searched
    scores: Values
    full_text: Scores
    dense: Values

    def example(self, place: int, *, answerable: bool, masked: bool = False) -> Example:
        """Return a question with its best hits, without the right ones when they are `masked`."""
        of, row = self.of, self.scores[place]
        if masked:
            row = np.where(np.isin(of.unit, list(of.right[place])), -1, row)
        top = np.argsort(-row, kind="stable")[:FIRST_HITS].tolist()
        right = tuple(int(of.unit[chunk]) in of.right[place] for chunk in top)
        hits = tuple(self._hit(place, chunk) for chunk in top)
        return Example(of.questions[place], hits, right, answerable, masked)

    def _hit(self, question: int, chunk: int) -> Hit:
        of, text = self.of, self.of.chunks[chunk]
        return Hit(
            chunk_id=str(chunk),
            document_id=str(of.unit[chunk]),
            version=1,
            ordinal=text.ordinal,
            source=of.name,
            page=text.page,
            heading=text.heading,
            text=text.text,
            score=float(self.scores[question, chunk]),
            metadata={},
            full_text_score=float(self.full_text[question, chunk]),
            dense_score=float(self.dense[question, chunk]),
        )


def halves(found: Sequence[Example], half: str) -> list[Example]:
    """Return the examples of one half."""
    return [example for example in found if example.asked.half == half]
