"""Checks each mark [n] of an answer against the passage that it names. Pure.

A mark stands for the statement before it: the sentence that ends at the mark, or the sentence before when the mark
follows its full stop. `support` says what carries a statement. The row of a table, quoted with the names of its columns
as the built-in answerer does it, is carried by this row.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from zhiwen.common.answering.marks import opens_line, runs_of_marks, thought_end
from zhiwen.common.answering.pieces import Passage, Piece, cut
from zhiwen.common.answering.support import Evidence, Span, Statement
from zhiwen.common.api.questions import Citation, SourceOut
from zhiwen.common.lexical.sentences import split_sentences
from zhiwen.common.lexical.translations import Translations

_LONGEST_STATEMENT: Final = 1000
_LABEL: Final = re.compile(r"[\s>#]*(?:[-*•·]\s+|\(?\d{1,2}[.)、）]\s*|[(（]\d{1,2}[)）]\s*)?")
_LAST_MARKS: Final = " \n。.；;，,：:"
_HAS_WORD: Final = re.compile(r"\w")


def citations_of(
    answer: str, passages: Sequence[SourceOut], translations: Translations | None = None
) -> list[Citation]:
    """Return every mark of an answer in order, checked for the statement before it.

    A run of marks shares one statement. A number without a passage is not supported and names no document. Marks in
    code and in links are none. `translations` compares a statement with passages in the other language.
    """
    index = {passage.n: _Cited(passage, translations) for passage in passages}
    found: list[Citation] = []
    for statement, written, numbers in _marked_statements(answer):
        for n in numbers:
            passage = index.get(n)
            found.append(_unknown(n) if passage is None else passage.citation(statement, written))
    return found


def _unknown(n: int) -> Citation:
    return Citation(n=n, document_id=None, page=None, heading="", quote=None, start=None, end=None, supported=False)


@dataclass(frozen=True)
class _Cited:
    """A passage that marks name. It is cut into sentences when the first mark names it."""

    source: SourceOut
    translations: Translations | None
    known: dict[str, Citation] = field(default_factory=dict)

    @cached_property
    def evidence(self) -> Evidence:
        about = f"{self.source.heading}\n{self.source.source}"
        return Evidence.of(self.source.text, about=about, translations=self.translations)

    @cached_property
    def rows(self) -> Sequence[Piece]:
        source = self.source
        return [piece for piece in cut(0, Passage(source.n, source.heading, source.text)) if piece.columns]

    def citation(self, statement: Statement, written: str) -> Citation:
        """Return the mark of this passage after `statement`. `written` is what stands before the mark."""
        if row := next((row for row in self.rows if _is_quoted_at_end(row, written)), None):
            return self._carried_by(row)
        if statement.text not in self.known:
            self.known[statement.text] = self._carried_by(self.evidence.carrier(statement))
        return self.known[statement.text]

    def _carried_by(self, carrier: Span | Piece | None) -> Citation:
        return Citation(
            n=self.source.n,
            document_id=self.source.document_id,
            page=self.source.page,
            heading=self.source.heading,
            quote=carrier.text if carrier else None,
            start=carrier.start if carrier else None,
            end=carrier.end if carrier else None,
            supported=carrier is not None,
        )


def _is_quoted_at_end(row: Piece, written: str) -> bool:
    quoted = row.quoted.rstrip(_LAST_MARKS)
    return bool(quoted) and written.rstrip(_LAST_MARKS).endswith(quoted)


# Statements


def _marked_statements(answer: str) -> Iterator[tuple[Statement, str, Sequence[int]]]:
    """Yield each statement with all that stands before its marks, and their numbers."""
    found = runs_of_marks(answer)
    nexts = [*(run.start for run in found), len(answer)][1:]
    statement, end = Statement(""), thought_end(answer)
    for run, next_start in zip(found, nexts, strict=True):
        written = answer[max(end, run.start - _LONGEST_STATEMENT) : run.start]
        before = Statement(_last_sentence(written))
        after = Statement(_rest_of_line(answer[run.end : min(next_start, run.end + _LONGEST_STATEMENT)]))
        if after.says_something and (opens_line(answer, run.start) or (before.text and not before.says_something)):
            statement = after  # "[1] Leave is ten days.", "According to [1], leave is ten days."
        elif before.text:
            statement = before
        yield statement, written, run.numbers
        end = run.end


def _rest_of_line(text: str) -> str:
    """Return the first sentence of a text on its first line."""
    return split_sentences(text.partition("\n")[0])[0].lstrip(" \t,，、:：").rstrip()


def _last_sentence(text: str) -> str:
    """Return the last sentence or line of a text that holds a word, without the label of a list item."""
    for sentence in reversed(split_sentences(text, clauses=True)):
        labelled = _LABEL.match(sentence)
        plain = sentence[labelled.end() :] if labelled else sentence
        if _HAS_WORD.search(plain):
            return plain.strip()
    return ""
