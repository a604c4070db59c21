"""Finds the marks [n] of an answer, and checks each against the passage that it names. Pure.

A mark stands for the statement before it: the sentence that ends at the mark, or the sentence before when the mark
follows its full stop. `support` says what carries a statement.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from zhiwen.common.answering.support import Evidence, Statement
from zhiwen.common.api.questions import Citation, SourceOut
from zhiwen.common.lexical.sentences import split_sentences
from zhiwen.common.lexical.translations import Translations

MOST_MARKS: Final = 200
"""Marks after these are not checked, and not returned."""
_LONGEST_STATEMENT: Final = 600

_HIDDEN: Final = re.compile(r"```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)|`[^`\n]*`", re.DOTALL)
_MARK: Final = re.compile(
    r"[\[［【]\^?[ \t]{0,3}(?P<numbers>\d{1,3}(?:[ \t]{0,3}[,，、;；\-–—~～][ \t]{0,3}\^?\d{1,3}){0,30})"
    r"[ \t]{0,3}[\]］】](?!\(|（https?:)"
)
_DEFINITION: Final = re.compile(r"[ \t]*[:：]")
_BETWEEN: Final = re.compile(r"[ \t,，、;；和与]*(?:and[ \t])?")
_RANGE: Final = re.compile(r"(\d{1,3})[ \t]{0,3}[\-–—~～][ \t]{0,3}\^?(\d{1,3})")
_LONGEST_RANGE: Final = 50
_LABEL: Final = re.compile(r"[\s>#]*(?:[-*•·]\s+|\(?\d{1,2}[.)、）]\s*|[(（]\d{1,2}[)）]\s*)?")
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
    for statement, numbers in _marked_statements(_without_thinking(answer)):
        for n in numbers:
            passage = index.get(n)
            found.append(_unknown(n) if passage is None else passage.citation(statement))
            if len(found) == MOST_MARKS:
                return found
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

    def citation(self, statement: Statement) -> Citation:
        """Return the mark of this passage after `statement`."""
        if statement.text not in self.known:
            self.known[statement.text] = self._checked(statement)
        return self.known[statement.text]

    def _checked(self, statement: Statement) -> Citation:
        carrier = self.evidence.carrier(statement)
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


# Marks


def _without_thinking(answer: str) -> str:
    before, closed, after = answer.partition("</think>")
    return after if closed else before


@dataclass(slots=True)
class _Run:
    """Neighbouring marks: where they begin and end in the answer, and their numbers."""

    start: int
    end: int
    numbers: list[int]


def _marked_statements(answer: str) -> Iterator[tuple[Statement, list[int]]]:
    """Yield each statement with the numbers of the marks that stand for it."""
    visible = _HIDDEN.sub(lambda match: " " * len(match[0]), answer)
    found = _runs_of_marks(visible)
    ends = [*(run.start for run in found), len(answer)][1:]
    statement, end = Statement(""), 0
    for run, next_start in zip(found, ends, strict=True):
        before = Statement(_last_sentence(answer[max(end, run.start - _LONGEST_STATEMENT) : run.start]))
        after = Statement(_rest_of_line(answer[run.end : min(next_start, run.end + _LONGEST_STATEMENT)]))
        if after.says_something and (_opens_line(visible, run.start) or (before.text and not before.says_something)):
            statement = after  # "[1] Leave is ten days.", "According to [1], leave is ten days."
        elif before.text:
            statement = before
        yield statement, run.numbers
        end = run.end


def _runs_of_marks(visible: str) -> list[_Run]:
    found: list[_Run] = []
    count = 0
    for match in _MARK.finditer(visible):
        if _DEFINITION.match(visible, match.end()) and _opens_line(visible, match.start()):
            continue
        numbers = _numbers(match["numbers"])
        if found and _BETWEEN.fullmatch(visible, found[-1].end, match.start()):
            found[-1].end = match.end()
            found[-1].numbers += numbers
        else:
            found.append(_Run(match.start(), match.end(), numbers))
        count += len(numbers)
        if count >= MOST_MARKS:
            break
    return found


def _numbers(text: str) -> list[int]:
    """Return the numbers of a mark; `1-3` is 1, 2, 3."""
    found: list[int] = []
    at = 0
    for match in re.finditer(r"\d{1,3}", text):
        if match.start() < at:
            continue
        span = _RANGE.match(text, match.start())
        low, high = (int(span[1]), int(span[2])) if span else (int(match[0]), int(match[0]))
        at = span.end() if span else match.end()
        found += range(low, high + 1) if 0 <= high - low <= _LONGEST_RANGE else [low, high]
    return found


def _opens_line(text: str, start: int) -> bool:
    return not text[text.rfind("\n", 0, start) + 1 : start].strip(" \t>#*-")


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
