"""Says whether an answer holds what it should, and whether a passage is the right one. Pure.

Texts are compared as tokens: numbers, words of letters, and single Chinese characters, all folded as the index folds
them (lower case, compatibility forms, no accents, Traditional as Simplified). So white space, punctuation and table
bars do not count, "1,200.00" is "1200", and the gold "5" is not found in "15", nor "art" in "party".
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from zhiwen.common.lexical.analysis import (
    CHINESE_STOPWORDS,
    ENGLISH_STOPWORDS,
    HAN,
    character_pairs,
    fold_text,
    runs,
    stem,
)
from zhiwen.common.lexical.sentences import split_sentences

STRADDLING: Final = 0.6
"""The share of a gold text that a passage must hold when the text lies across the end of the passage."""
QUOTED: Final = 0.6
"""The share of a gold text's words that an answer must hold to count as a quotation of it."""
TOLD: Final = 0.5
"""The share of the words of a person's answer that an answer must hold."""

_MARK: Final = re.compile(r"\[(\d+)\]")
_THOUSANDS: Final = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_LAST_ZEROS: Final = re.compile(r"(?<=\d)(?:\.0+|(\.\d*[1-9])0+)(?![\d.])")
_TOKEN: Final = re.compile(rf"\d+(?:\.\d+)*|[{HAN}]|[^\W\d_{HAN}]+")
_NUMBER: Final = re.compile(r"\d+(?:\.\d+)*")
_CODE: Final = re.compile(r"[a-z]*\d[a-z\d]*(?:[-_.][a-z\d]+)*|[a-z]+(?:[-_][a-z\d]+)*[-_][a-z]*\d[a-z\d]*")
_LATIN: Final = re.compile(r"[a-z]+")
_CHINESE: Final = re.compile(f"[{HAN}]")
_VERDICTS: Final = frozenset(
    {"不能", "可以", "不可以", "不行", "能", "要", "不要", "不用", "是", "不是", "没有", "yes", "no"}
)


def tokens(text: str) -> list[str]:
    """Return the folded numbers, words and Chinese characters of a text, in order."""
    return _TOKEN.findall(_folded(text))


def without_marks(answer: str) -> str:
    """Return an answer without its marks [n]."""
    return _MARK.sub(" ", answer)


def marks(answer: str) -> list[int]:
    """Return the distinct numbers of the marks [n] of an answer, in order."""
    return list(dict.fromkeys(int(number) for number in _MARK.findall(answer)))


def contains(text: str, part: str) -> bool:
    """Return whether the tokens of `part` stand in a text in one piece. Nothing contains a part without tokens."""
    wanted = tokens(part)
    return bool(wanted) and _joined(wanted) in _joined(tokens(text))


def holds_one(answer: str, golds: Iterable[str]) -> bool:
    """Return whether an answer contains one of the gold strings. Its marks [n] do not count."""
    bare = without_marks(answer)
    return any(contains(bare, gold) for gold in golds)


def tells(answer: str, short: str, gold_text: str) -> bool:
    """Return whether an answer says what a person's short answer says, or quotes the text that answers.

    It says what `short` says when it has all of its numbers and codes (E02, BW-1011; in a Chinese sentence every Latin
    word), and at least half of its other words: pairs of neighbouring Chinese characters, and stems of English words.
    Stop words do not count. A mere verdict (不能, "no") has no words that count, so only a quotation is right then.

    It quotes `gold_text` when it has all numbers and codes of that text, and at least 60 % of its other words.
    """
    bare = without_marks(answer)
    return _has(bare, short, TOLD) or _has(bare, gold_text, QUOTED)


def holds_text(passage: str, gold_text: str) -> bool:
    """Return whether a passage holds a gold text.

    Of a text that lies across the end of the passage, the passage must hold at least 60 %: the beginning of the text at
    the passage's end, or the end of the text at the passage's beginning. So of two neighbours at most one counts,
    except where they overlap.
    """
    wanted, found = tokens(gold_text), tokens(passage)
    if not wanted:
        return False
    if _joined(wanted) in _joined(found):
        return True
    least = max(1, round(STRADDLING * len(wanted)))
    return any(
        found[-size:] == wanted[:size] or found[:size] == wanted[-size:]
        for size in range(least, min(len(wanted), len(found)) + 1)
    )


def sentences_of(answer: str) -> int:
    """Return how many sentences an answer has. A line, such as the row of a table, ends a sentence."""
    lines = [line for line in without_marks(answer).splitlines() if tokens(line)]
    return sum(len(split_sentences(line)) for line in lines)


def _has(answer: str, text: str, share: float) -> bool:
    """Return whether an answer has all numbers and codes of a text, and at least a share, 0..1, of its other words."""
    needed, others = _key(text)
    if not needed and not others:
        return False
    known, words = set(tokens(answer)), _words(answer)
    found = sum(word in words for word in others)
    return needed <= known and found >= share * len(others)


def _key(text: str) -> tuple[set[str], set[str]]:
    """Return the tokens of a text that an answer must have, and the words of which it must have a share."""
    folded = _folded(text)
    needed = set(_NUMBER.findall(folded))
    if _CHINESE.search(folded):
        needed |= set(_LATIN.findall(folded))
    else:
        needed |= {part for code in _CODE.findall(folded) for part in tokens(code)}
    others = {word for word in _words(text) if word not in needed and not _NUMBER.fullmatch(word)}
    return needed, others


def _words(text: str) -> set[str]:
    """Return the pairs of Chinese characters and the stems of other words of a text that say something."""
    found: set[str] = set()
    for han, word in runs(text):
        if han in _VERDICTS or word in _VERDICTS:
            continue
        if han:
            found.update(pair for pair in character_pairs(han) if pair not in CHINESE_STOPWORDS)
        else:
            found.update(stem(token) for token in tokens(word))
    return found - ENGLISH_STOPWORDS


def _folded(text: str) -> str:
    """Return the folded text, with numbers without separators of thousands and without last zeros."""
    return _LAST_ZEROS.sub(r"\1", _THOUSANDS.sub("", fold_text(text)))


def _joined(parts: list[str]) -> str:
    return f" {' '.join(parts)} "
