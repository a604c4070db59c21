"""Checks the marks [n] of an answer against the passages that they name. Pure.

The statement before a mark is compared with each sentence and line of the passage. Every number of the statement must
be in the passage, and every name; so must enough of its other words, most of them in one sentence. Words only show
what a statement is about: a statement that turns the sentence round with the same words passes.

Between two languages, a word counts when one of its translations is there. Without a table of translations only numbers
and names are compared, so a statement that has neither is not supported.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from zhiwen.common.answering.numerals import Readings, numbers_held, numbers_stated, without_numbers
from zhiwen.common.api.questions import Citation, SourceOut
from zhiwen.common.lexical.analysis import (
    CHINESE_STOPWORDS,
    ENGLISH_STOPWORDS,
    FUNCTION_CHARACTERS,
    fold_text,
    is_chinese,
    runs,
    segmented,
    stem,
)
from zhiwen.common.lexical.sentences import split_sentences
from zhiwen.common.lexical.translations import Translations

MOST_MARKS: Final = 200
"""Marks after these are not checked, and not returned."""
_LONGEST_STATEMENT: Final = 600
_MOST_SPANS: Final = 300
_ENOUGH: Final = 0.5
"""The share of a statement's words that its passage must hold. A word outside the quoted sentence counts half."""
_ENOUGH_TRANSLATED: Final = 0.4
_OUTSIDE: Final = 0.5

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
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9]*")
# What models say about their sources, and not about the subject. Snowball stems, and Simplified words.
_FILLERS: Final = frozenset(
    """accord inform known document passag sourc state say said mention provid given context text specifi note also
    includ therefor howev base question answer per must requir need
    根据 按照 依据 已知 信息 规定 因此 所以 另外 此外 同时
    需要 可以 应该 应 需 可 能 享有 享受 包括 如下 以下 其中 资料 文档 文件 内容 提到 指出 说明 显示 表示 相关 即 并 且
    等 答案 问题 一般 进行 具有 属于 目前 上述 如果 以及""".split()
)


def citations_of(
    answer: str, passages: Sequence[SourceOut], translations: Translations | None = None
) -> list[Citation]:
    """Return every mark of an answer in order, checked for the statement before it.

    A run of marks shares one statement. A number without a passage is not supported and names no document. Marks in
    code and in links are none. `translations` compares a statement with passages in the other language.
    """
    index = {passage.n: _Passage(passage, translations) for passage in passages}
    found: list[Citation] = []
    for text, numbers in _runs_of_marks(_without_thinking(answer)):
        statement = _Statement(text)
        for n in numbers:
            passage = index.get(n)
            found.append(_unknown(n) if passage is None else passage.citation(statement))
            if len(found) == MOST_MARKS:
                return found
    return found


def _unknown(n: int) -> Citation:
    return Citation(n=n, document_id=None, page=None, heading="", quote=None, start=None, end=None, supported=False)


# Marks


def _without_thinking(answer: str) -> str:
    before, closed, after = answer.partition("</think>")
    return after if closed else before


def _runs_of_marks(answer: str) -> Iterator[tuple[str, list[int]]]:
    """Yield each statement with the numbers of the marks after it."""
    visible = _HIDDEN.sub(lambda match: " " * len(match[0]), answer)
    runs: list[tuple[int, int, list[int]]] = []  # where a run of marks begins and ends, and its numbers
    count = 0
    for match in _MARK.finditer(visible):
        if _opens_line(visible, match.start()) and _DEFINITION.match(visible, match.end()):
            continue
        numbers = _numbers(match["numbers"])
        if (
            runs
            and _BETWEEN.fullmatch(visible, runs[-1][1], match.start())
            and "\n" not in visible[runs[-1][1] : match.start()]
        ):
            first, _, before = runs[-1]
            runs[-1] = (first, match.end(), before + numbers)
        else:
            runs.append((match.start(), match.end(), numbers))
        count += len(numbers)
        if count >= MOST_MARKS:
            break
    end, statement = 0, ""
    for first, last, numbers in runs:
        statement = _last_sentence(answer[max(end, first - _LONGEST_STATEMENT) : first]) or statement
        if _opens_line(visible, first) and (after := _rest_of_line(answer, last)):
            statement = after
        yield statement, numbers
        end = last


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


def _rest_of_line(text: str, end: int) -> str:
    """Return the first sentence after a mark on its line, unless the line ends there or holds another mark."""
    line = text[end : end + _LONGEST_STATEMENT].partition("\n")[0]
    return "" if _MARK.search(line) or not _HAS_WORD.search(line) else split_sentences(line)[0]


def _last_sentence(text: str) -> str:
    """Return the last sentence or line of a text that holds a word, without the label of a list item."""
    for sentence in reversed(split_sentences(text, clauses=True)):
        labelled = _LABEL.match(sentence)
        plain = sentence[labelled.end() :] if labelled else sentence
        if _HAS_WORD.search(plain):
            return plain.strip()
    return ""


# Statements


@dataclass(frozen=True)
class _Statement:
    """What an answer states before a mark."""

    text: str

    @cached_property
    def chinese(self) -> bool:
        return is_chinese(self.text)

    @cached_property
    def folded(self) -> str:
        return fold_text(self.text)

    @cached_property
    def numbers(self) -> list[Readings]:
        return numbers_stated(self.folded)

    @cached_property
    def words(self) -> Mapping[str, float]:
        """Its telling words, folded, English ones as stems, with weights: the longer, the more telling."""
        weights: dict[str, float] = {}
        for han, word in runs(without_numbers(self.folded)):
            if han:
                for part in segmented(han):
                    if part not in CHINESE_STOPWORDS and part not in _FILLERS:
                        weights[part] = _weight(part)
            elif (stemmed := stem(word)) not in ENGLISH_STOPWORDS and stemmed not in _FILLERS:
                weights[stemmed] = 1.0
        return weights | dict.fromkeys(self.names & weights.keys(), 2.0)

    @cached_property
    def names(self) -> frozenset[str]:
        """The stems of its names: Latin words in a Chinese statement, and words in capitals but the first."""
        found = list(_NAME.finditer(self.text))
        if self.chinese:
            named = [match[0] for match in found if len(match[0]) > 1]
        else:
            named = [
                match[0]
                for place, match in enumerate(found)
                if (place and match[0][0].isupper()) or any(c.isupper() or c.isdigit() for c in match[0][1:])
            ]
        stems = {stem(fold_text(name)) for name in named}
        return frozenset(stems - ENGLISH_STOPWORDS - _FILLERS)


def _weight(word: str) -> float:
    if len(word) == 1:
        return 0.0 if word in FUNCTION_CHARACTERS else 0.3
    return min(len(word), 4) / 2


# Passages


@dataclass(frozen=True)
class _Span:
    """A sentence or line of a passage, and what is in it."""

    start: int
    end: int
    text: str

    @cached_property
    def folded(self) -> str:
        return fold_text(self.text)

    @cached_property
    def stems(self) -> frozenset[str]:
        return frozenset(stem(word) for _, word in runs(self.folded) if word)

    @cached_property
    def numbers(self) -> set[str]:
        return numbers_held(self.folded)

    def holds(self, word: str) -> bool:
        """Return whether a folded word is in it: a Chinese one anywhere, another as a stem."""
        return word in self.stems if word.isascii() else word in self.folded

    def holds_numbers(self, wanted: Sequence[Readings]) -> bool:
        return all(not readings.isdisjoint(self.numbers) for readings in wanted)


@dataclass(frozen=True)
class _Passage:
    """A passage, cut into sentences and lines when it is first cited."""

    source: SourceOut
    translations: Translations | None
    known: dict[str, Citation] = field(default_factory=dict)
    translated: dict[str, list[str]] = field(default_factory=dict)

    @cached_property
    def spans(self) -> list[_Span]:
        return spans_of(self.source.text)

    @cached_property
    def whole(self) -> _Span:
        text = self.source.text
        return _Span(0, len(text), f"{self.source.heading}\n{text}")

    @cached_property
    def named(self) -> _Span:
        """The passage with the name of its file, in which a name may stand as well."""
        return _Span(0, 0, f"{self.source.source}\n{self.whole.text}")

    @cached_property
    def chinese(self) -> bool:
        return is_chinese(self.source.text)

    def citation(self, statement: _Statement) -> Citation:
        """Return the mark of this passage after `statement`."""
        if statement.text not in self.known:
            self.known[statement.text] = self._checked(statement)
        return self.known[statement.text]

    def _checked(self, statement: _Statement) -> Citation:
        best = self._carrier(statement)
        return Citation(
            n=self.source.n,
            document_id=self.source.document_id,
            page=self.source.page,
            heading=self.source.heading,
            quote=best.text if best else None,
            start=best.start if best else None,
            end=best.end if best else None,
            supported=best is not None,
        )

    def _carrier(self, statement: _Statement) -> _Span | None:
        """Return the span that carries a statement best; None when the passage does not carry it."""
        literal = " ".join(statement.folded.split()).strip(" .。!！?？;；,，")
        across = statement.chinese != self.chinese
        if not self.whole.holds_numbers(statement.numbers) or not self._holds_names(statement, across):
            return None
        weights = statement.words
        total = sum(weights.values()) + len(statement.numbers)
        if not total or not literal:
            return None
        enough = _ENOUGH_TRANSLATED if across else _ENOUGH
        outside = sum(w for word, w in weights.items() if self._holds(self.whole, word, across)) + len(
            statement.numbers
        )
        if across and self.translations is None:
            told = bool(statement.numbers) or any(self.whole.holds(name) for name in statement.names)
            outside = total if told else 0.0
        if outside / total < enough:
            return None
        score, best = max(
            ((self._score(span, statement, across), span) for span in self.spans),
            key=lambda scored: (scored[0], scored[1].start - scored[1].end),
            default=(0.0, None),
        )
        carried = (1 - _OUTSIDE) * score + _OUTSIDE * outside
        return best if best is not None and score > 0 and carried / total >= enough else None

    def _score(self, span: _Span, statement: _Statement, across: bool) -> float:
        numbers = sum(1.0 for readings in statement.numbers if not readings.isdisjoint(span.numbers))
        return numbers + sum(w for word, w in statement.words.items() if self._holds(span, word, across))

    def _holds(self, span: _Span, word: str, across: bool) -> bool:
        return span.holds(word) or (across and any(map(span.holds, self._translations(word))))

    def _translations(self, word: str) -> list[str]:
        if word not in self.translated:
            found = self.translations.of_source(word) if self.translations else []
            self.translated[word] = [t.word for t in found]
        return self.translated[word]

    def _holds_names(self, statement: _Statement, across: bool) -> bool:
        """Return whether every name is there. An English statement may translate the names of a Chinese passage."""
        if across and self.chinese:
            return True
        return all(self.named.holds(name) for name in statement.names)


def spans_of(text: str) -> list[_Span]:
    """Return the sentences of a text and its lines, without the white space around them."""
    places: set[tuple[int, int]] = set()
    for clauses in (True, False):
        end = 0
        for sentence in split_sentences(text, clauses=clauses)[:_MOST_SPANS]:
            start, end = end, end + len(sentence)
            if sentence.strip():
                places.add((start + len(sentence) - len(sentence.lstrip()), start + len(sentence.rstrip())))
    return [_Span(start, end, text[start:end]) for start, end in sorted(places)]
