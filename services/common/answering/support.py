"""Finds the sentence of a passage that carries a statement, if one does. Pure.

Every number of the statement must be in the passage, in one sentence with the words beside it, and so must every name.
Enough of its other words must be there, most of them in one sentence. Words only show what a statement is about: one
that turns a sentence round with the same words passes.

Between two languages, a word counts when one of its translations is there. Without a table of translations only numbers
and names are compared, so a statement that has neither is not supported.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Final, Self

from zhiwen.common.answering.numerals import Readings, has_numeral, numbers_held, numbers_stated, without_numbers
from zhiwen.common.answering.pieces import Passage, cut
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

ENOUGH: Final = 0.5
"""The share of a statement's words that its passage must hold. A word outside the quoted sentence counts half."""
ENOUGH_TRANSLATED: Final = 0.4
"""The same between two languages, where the table lacks words."""
BESIDE_NUMBERS: Final = 0.4
"""The words beside a number must score this much of what they score in the best sentence that holds any number."""
BESIDE_ALL: Final = 0.25
"""The same for the words of the whole statement, whose other clauses may rest on other sentences."""
_MOST_SPANS: Final = 300
_NARROWEST_WRAP: Final = 20

_CLAUSE: Final = re.compile(r"[，、；：;:]|,(?!\d)")
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9]*")
_AROUND: Final = " \t\r\n\u3000*_#>|.。!！?？;；,，、:：\"'“”‘’「」"
_SENTENCE_END: Final = '。.！!？?；;”"』」'
# What models say about their sources, and not about the subject. Snowball stems, and Simplified words.
_FILLERS: Final = frozenset(
    """accord inform known document passag sourc state say said mention provid given context text specifi note also
    includ therefor howev base question answer per must requir need
    根据 按照 依据 已知 信息 规定 因此 所以 另外 此外 同时 需要 可以 应该 应当 应 需 须 要 必须 可 能 享有 享受 提供
    包括 如下 以下 其中 资料 文档 文件 内容 提到 指出 说明 显示 表示 相关 即 并 且 等 答案 问题 一般 进行 具有 属于
    目前 上述 如果 以及 每年 每月 每天 每人""".split()
)


@dataclass(frozen=True)
class Statement:
    """A sentence of an answer, and what must be in a passage that carries it."""

    text: str

    @cached_property
    def chinese(self) -> bool:
        """Whether it is in Chinese."""
        return is_chinese(self.text)

    @cached_property
    def core(self) -> str:
        """Its folded text without the marks around it: a passage that holds it says the same."""
        return fold_text(self.text).strip(_AROUND) if self.says_something else ""

    @cached_property
    def says_something(self) -> bool:
        """Whether anything in it can be compared with a passage."""
        return bool(self.words or self.numbers)

    @cached_property
    def clauses(self) -> list[Clause]:
        """Its clauses. One that says nothing but a number belongs to the clause before it."""
        merged: list[Clause] = []
        for folded in _CLAUSE.split(fold_text(self.text)):
            clause = Clause(tuple(numbers_stated(folded)), _words_of(folded))
            if merged and sum(clause.words.values()) < 1:
                clause = Clause(merged[-1].numbers + clause.numbers, {**merged.pop().words, **clause.words})
            merged.append(clause)
        return merged

    @cached_property
    def words(self) -> Mapping[str, float]:
        """Its telling words, folded, English ones as stems, with weights. A name weighs more."""
        weights = {word: weight for clause in self.clauses for word, weight in clause.words.items()}
        return {word: 2.0 if word in self.names else weight for word, weight in weights.items()}

    @cached_property
    def numbers(self) -> list[Readings]:
        """Its numbers."""
        return [number for clause in self.clauses for number in clause.numbers]

    @cached_property
    def names(self) -> frozenset[str]:
        """The stems of its names: Latin words in a Chinese statement, and words in capitals but the first."""
        found = [match[0] for match in _NAME.finditer(self.text)]
        if self.chinese:
            named = [name for name in found if len(name) > 1]
        else:
            named = [
                name for place, name in enumerate(found) if (place and name[0].isupper()) or not name[1:].islower()
            ]
        stems = {stem(fold_text(name)) for name in named if len(name) > 1}
        return frozenset(stems - ENGLISH_STOPWORDS - _FILLERS)


@dataclass(frozen=True, slots=True)
class Clause:
    """A part of a statement: its numbers, and the weights of its telling words."""

    numbers: tuple[Readings, ...]
    words: Mapping[str, float]


def _words_of(folded: str) -> dict[str, float]:
    """Return the telling words of a folded text with weights: long Chinese words tell more."""
    weights: dict[str, float] = {}
    for han, word in runs(without_numbers(folded)):
        if han:
            for part in segmented(han):
                if part not in CHINESE_STOPWORDS and part not in _FILLERS and part not in FUNCTION_CHARACTERS:
                    weights[part] = 0.3 if len(part) == 1 else min(len(part), 4) / 2
        elif (stemmed := stem(word)) not in ENGLISH_STOPWORDS and stemmed not in _FILLERS:
            weights[stemmed] = 1.0
    return weights


@dataclass(frozen=True)
class Span:
    """A sentence or line of a passage: its place in the text, in characters, and the text as it is and folded."""

    start: int
    end: int
    text: str
    folded: str

    @cached_property
    def stems(self) -> frozenset[str]:
        """Its words that are not Chinese."""
        return frozenset(stem(word) for _, word in runs(self.folded) if word)

    @cached_property
    def numbers(self) -> set[str]:
        """Every value that it may hold."""
        return numbers_held(self.folded)

    @cached_property
    def has_number(self) -> bool:
        """Whether it holds any number in digits or Chinese numerals."""
        return has_numeral(self.folded)

    def holds(self, word: str) -> bool:
        """Return whether a folded word is in it: a Chinese one anywhere, another as a stem."""
        return word in self.stems if word.isascii() else word in self.folded

    def holds_all(self, numbers: Iterable[Readings]) -> bool:
        """Return whether every number is in it."""
        return all(not readings.isdisjoint(self.numbers) for readings in numbers)


@dataclass(frozen=True)
class Evidence:
    """A passage, cut into `spans`. `around` says what it is about: its titles and the name of its file."""

    spans: Sequence[Span]
    around: Span
    chinese: bool
    translations: Translations | None
    _holding: dict[tuple[str, bool], list[bool]] = field(default_factory=dict)

    @cached_property
    def _whole(self) -> Span:
        """The whole passage."""
        return Span(0, 0, "", "\n".join(span.folded for span in self.spans))

    @classmethod
    def of(cls, text: str, *, about: str = "", translations: Translations | None = None) -> Self:
        """Cut a passage. `translations` compares it with statements in the other language."""
        return cls(spans_of(text), Span(0, 0, "", fold_text(about)), is_chinese(text), translations)

    def carrier(self, statement: Statement) -> Span | None:
        """Return the sentence or line that carries a statement best; None when the passage does not carry it."""
        if literal := next((span for span in self.spans if statement.core and statement.core in span.folded), None):
            return literal
        across = statement.chinese != self.chinese
        if not self.spans or not self._names_are_there(statement, across):
            return None
        bearers = [self._bearers(clause, across) for clause in statement.clauses if clause.numbers]
        if not all(bearers):
            return None
        scores = self._scores(statement.words, across)
        eligible = set().union(*bearers) if bearers else set(range(len(self.spans)))
        numbers = {i: sum(self.spans[i].holds_all([number]) for number in statement.numbers) for i in eligible}
        best = max(eligible, key=lambda i: (scores[i] + numbers[i], -len(self.spans[i].text)))
        if bearers and scores[best] < BESIDE_ALL * self._most_beside_numbers(scores):
            return None
        total = sum(statement.words.values())
        if across and self.translations is None:
            return self.spans[best] if numbers[best] or any(map(self.spans[best].holds, statement.names)) else None
        there = sum(weight for word, weight in statement.words.items() if self._is_there(word, across))
        whole = total + len(statement.numbers)
        held = (scores[best] + there) / 2 + len(statement.numbers)
        enough = ENOUGH_TRANSLATED if across else ENOUGH
        return self.spans[best] if whole and scores[best] + numbers[best] and held / whole >= enough else None

    def _bearers(self, clause: Clause, across: bool) -> set[int]:
        """Return the spans that hold the numbers of a clause beside its words, and so not in another row or case."""
        scores = self._scores(clause.words, across)
        least = BESIDE_NUMBERS * self._most_beside_numbers(scores)
        return {i for i, span in enumerate(self.spans) if scores[i] >= least and span.holds_all(clause.numbers)}

    def _most_beside_numbers(self, scores: Sequence[float]) -> float:
        """Return the best score of the spans with a number. A heading or the head of a table has none."""
        return max((score for score, span in zip(scores, self.spans, strict=True) if span.has_number), default=0.0)

    def _scores(self, words: Mapping[str, float], across: bool) -> list[float]:
        """Return for each span the sum of the weights of the words that it holds."""
        scores = [0.0] * len(self.spans)
        for word, weight in words.items():
            for i, held in enumerate(self._spans_with(word, across)):
                if held:
                    scores[i] += weight
        return scores

    def _spans_with(self, word: str, across: bool) -> list[bool]:
        """Return for each span whether it holds a word, or between two languages one of its translations."""
        key = (word, across)
        if key not in self._holding:
            forms = [form for form in [word, *(self._translated(word) if across else [])] if self._whole.holds(form)]
            self._holding[key] = [any(map(span.holds, forms)) for span in self.spans]
        return self._holding[key]

    def _translated(self, word: str) -> list[str]:
        return [t.word for t in self.translations.of_source(word)] if self.translations else []

    def _is_there(self, word: str, across: bool) -> bool:
        return any(self._spans_with(word, across)) or self.around.holds(word)

    def _names_are_there(self, statement: Statement, across: bool) -> bool:
        """Return whether every name is there. An English statement may translate the names of a Chinese passage."""
        return (across and self.chinese) or all(self._is_there(name, across) for name in statement.names)


def spans_of(text: str) -> list[Span]:
    """Return the sentences and lines of a text in order, without the white space around them.

    A sentence over several lines is there as a whole as well, if it was only wrapped: then its lines are long, and it
    ends like a sentence. The rows of a table stay apart. What is folded of a row has the names of its columns, too.
    """
    places = dict.fromkeys(_places(text, clauses=True))
    columns = _columns(text)
    places |= dict.fromkeys(columns)
    if "\n" in text:
        places |= dict.fromkeys(place for place in _places(text, clauses=False) if _is_wrapped(text[slice(*place)]))
    parts = [(start, end, text[start:end]) for start, end in sorted(places)]
    folded = fold_text("\0".join(part.replace("\0", " ") for _, _, part in parts)).split("\0")  # one call is faster
    names = {place: fold_text("\n".join(["", *of_row])) for place, of_row in columns.items()}
    return [Span(*place, fold + names.get(place[:2], "")) for place, fold in zip(parts, folded, strict=False)]


def _columns(text: str) -> dict[tuple[int, int], tuple[str, ...]]:
    """Return the place of each row of a table, without the white space around it, and the names of its columns."""
    found: dict[tuple[int, int], tuple[str, ...]] = {}
    for row in (piece for piece in cut(0, Passage(1, "", text)) if piece.columns) if "|" in text else ():
        start = row.start + len(row.text) - len(row.text.lstrip())
        found[start, start + len(row.text.strip())] = row.columns
    return dict(islice(found.items(), _MOST_SPANS))


def _places(text: str, *, clauses: bool) -> list[tuple[int, int]]:
    places: list[tuple[int, int]] = []
    end = 0
    for sentence in split_sentences(text, clauses=clauses)[:_MOST_SPANS]:
        start, end = end, end + len(sentence)
        if sentence.strip():
            places.append((end - len(sentence.lstrip()), start + len(sentence.rstrip())))
    return places


def _is_wrapped(sentence: str) -> bool:
    *lines, _last = sentence.split("\n")
    return sentence[-1] in _SENTENCE_END and all(len(line.rstrip()) >= _NARROWEST_WRAP for line in lines)
