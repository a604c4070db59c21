"""How much of a question a text holds: its terms, weighed by how telling they are, and their translations. Pure.

The weight of a term is the idf of BM25 (Robertson and Zaragoza 2009, section 3.3), counted over the pieces at hand and
a hundred general texts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

from zhiwen.common.answering.quantities import with_digits
from zhiwen.common.lexical.analysis import (
    analyze_question,
    character_pairs,
    fold_text,
    runs,
    segmented,
    starts_chinese,
    stem,
    term_id,
)
from zhiwen.common.lexical.translations import Translations

_GENERAL_TEXTS: Final = 100.0
_TRANSLATED: Final = 0.9
"""The weight of a translation; that of the word itself is 1."""
_LONGEST_KEPT: Final = 300
"""Characters of a text that stays in memory prepared. A sentence is never longer. Prepared, it takes up to 80 kB."""


@dataclass(frozen=True, slots=True)
class Matchable:
    """A text prepared for matching.

    `folded` has its numbers as digits. `terms` are words, character pairs and stems. `line` holds the units that count
    for common runs: Chinese characters as they stand, and other words between spaces. `units` is their number.
    """

    folded: str
    terms: frozenset[str]
    line: str
    units: int


def matchable(text: str) -> Matchable:
    """Return a text prepared for matching. Short ones are kept: questions about one subject find the same passages."""
    return _kept(text) if len(text) <= _LONGEST_KEPT else _prepared(text)


@lru_cache(maxsize=2048)
def _kept(text: str) -> Matchable:
    return _prepared(text)


def _prepared(text: str) -> Matchable:
    folded = with_digits(fold_text(text))
    terms: set[str] = set()
    line: list[str] = []
    units = 0
    for han, word in runs(folded):
        if han:
            terms.update(segmented(han))
            terms.update(character_pairs(han))
            line.append(han)
            units += len(han)
        else:
            stemmed = stem(word)
            terms.add(stemmed)
            line.append(f" {stemmed} ")
            units += 1
    return Matchable(folded, frozenset(terms), "".join(line), units)


@dataclass(frozen=True, slots=True)
class QuestionTerms:
    """The terms of a question: `weights` by term, which sum to 1, and what each may be called in the other language."""

    question: Matchable
    weights: dict[str, float]
    translated: dict[str, tuple[tuple[str, float], ...]]
    sequence: tuple[str, ...]

    def found(self, text: Matchable) -> dict[str, float]:
        """Return the terms that a text holds, each with the weight that it counts for."""
        found = {term: weight for term, weight in self.weights.items() if term in text.terms}
        for term, alternatives in self.translated.items():
            if term not in found:
                share = max((w for word, w in alternatives if _holds(text, word)), default=0.0)
                if share:
                    found[term] = self.weights[term] * share
        return found

    def longest_run(self, text: Matchable) -> float:
        """Return the length of the longest run of the question's units that a text holds, as a share of them, 0..1."""
        units = self.sequence
        best = start = 0
        while start + best < len(units):
            if "".join(units[start : start + best + 1]) in text.line:
                best += 1
            else:
                start += 1
        return best / max(1, len(units))


def _holds(text: Matchable, word: str) -> bool:
    return word in text.terms if word.isascii() else word in text.folded


def question_terms(
    question: str, pieces: Sequence[Matchable], table: Translations | None, *, across: bool
) -> QuestionTerms:
    """Return the terms of a question, weighed for these pieces.

    `table` says how usual the terms are. With `across`, it also translates them.
    """
    own = matchable(question)
    asked = analyze_question(own.folded)
    translated = _translations(asked.phrases, frozenset(asked.terms), table) if table and across else {}
    names = list(dict.fromkeys([*asked.terms, *translated]))
    counts = [sum(term in piece.terms for piece in pieces) for term in names]
    shares = (
        table.general_shares(np.array([term_id(term) for term in names], np.uint32)).tolist()
        if table and names
        else [0.0] * len(names)
    )
    total = len(pieces) + _GENERAL_TEXTS
    idf = [
        math.log1p((total - held + 0.5) / (held + 0.5))
        for count, share in zip(counts, shares, strict=True)
        for held in (min(count + share * _GENERAL_TEXTS, total),)
    ]
    whole = math.fsum(idf) or 1.0
    weights = {name: value / whole for name, value in zip(names, idf, strict=True)}
    return QuestionTerms(own, weights, translated, _units(own.folded))


def _units(folded: str) -> tuple[str, ...]:
    return tuple(unit for han, word in runs(folded) for unit in (han or [f" {stem(word)} "]))


def _translations(
    phrases: Sequence[str], terms: frozenset[str], table: Translations
) -> dict[str, tuple[tuple[str, float], ...]]:
    """Return the translations of each term that is a word. Those of a phrase stand for each of its words."""
    found: dict[str, tuple[tuple[str, float], ...]] = {}
    for phrase in phrases:
        words = [phrase] if phrase in terms else [word for word in phrase.split() if word in terms]
        translations = _of_phrase(phrase, table) if words else ()
        for word in words if translations else ():
            found[word] = found.get(word, ()) + translations
    return found


@lru_cache(maxsize=4096)
def _of_phrase(phrase: str, table: Translations) -> tuple[tuple[str, float], ...]:
    found = table.of_source(phrase)
    if not found and len(phrase) > 2 and starts_chinese(phrase):
        found = [translation for pair in character_pairs(phrase) for translation in table.of_source(pair)]
    return tuple((t.word, _TRANSLATED * t.weight) for t in found)
