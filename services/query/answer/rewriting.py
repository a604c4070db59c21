"""Whether a model's rewriting of a follow-up question may be searched for. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Literal

from zhiwen.common.api.questions import Message
from zhiwen.common.lexical.analysis import analyze, analyze_question, fold_text

Fault = Literal["cites", "answers", "too long", "unrelated"]
"""Why a rewriting is not used.

`cites`: it has a mark [n]. `answers`: it states something, or has a number that nobody named. `too long`: it is much
longer than what was asked. `unrelated`: it shares no word with the conversation.
"""

_MARK: Final = re.compile(r"[\[【]\s*\d+\s*[\]】]")
_DIGITS: Final = re.compile(r"[0-9]+(?:[.,][0-9]+)*")
_NUMERALS: Final = re.compile(r"[零〇一二两三四五六七八九十百千万]+")
_LONGEST_NUMERALS: Final = 12
_VALUES: Final = dict(zip("零〇一二两三四五六七八九", (0, 0, 1, 2, 2, 3, 4, 5, 6, 7, 8, 9), strict=True))
_POWERS: Final = {"十": 10, "百": 100, "千": 1000, "万": 10_000}
_STATEMENT: Final = re.compile(r"[。.!！]\s*$")
_SENTENCE: Final = re.compile(r"[^。！？!?]+[。！？!?]*")
_ASKING: Final = re.compile(
    r"[吗呢么几谁哪]|多少|多久|多长|多大|什么|怎|如何|为何|是否|能否|有没有|[是能会要可]不|[?？]"
    r"|\b(?:what|which|who|whom|whose|when|where|why|how)\b"
    r"|^\W*(?:is|are|was|were|do|does|did|can|could|will|would|should|may|must|has|have|am)\b",
    re.IGNORECASE,
)
_LONGER: Final = 2
_MORE_CHARACTERS: Final = 60


def fault_of(rewritten: str, question: str, history: Sequence[Message]) -> Fault | None:
    """Return why `rewritten`, a model's rewriting of `question`, must not be searched for, or None.

    `history` is what the model saw of the conversation.
    """
    known = "\n".join([*(turn.content for turn in history), question])
    asked = max((len(turn.content) for turn in history if turn.role == "user"), default=0)
    if _MARK.search(rewritten) and not _MARK.search(question):
        return "cites"
    if _states(rewritten) or not _numbers(rewritten) <= _numbers(known):
        return "answers"
    if len(rewritten) > _LONGER * (len(question) + asked) + _MORE_CHARACTERS:
        return "too long"
    if not set(analyze_question(rewritten).terms).intersection(analyze(known).terms):
        return "unrelated"
    return None


def _states(rewritten: str) -> bool:
    """Return whether the last sentence tells something instead of asking."""
    last = (_SENTENCE.findall(fold_text(rewritten)) or [""])[-1]
    return _STATEMENT.search(last) is not None and _ASKING.search(last) is None


def _numbers(text: str) -> set[float]:
    """Return the numbers of a text, in digits or Chinese numerals. `一` and `两` alone are words (`一般`, `一下`)."""
    folded = fold_text(text)
    found = {float(number.replace(",", "").rstrip(".")) for number in _DIGITS.findall(folded) if number.count(".") < 2}
    return found | {float(_value(run)) for run in _NUMERALS.findall(folded) if len(run) <= _LONGEST_NUMERALS} - {
        1.0,
        2.0,
    }


def _value(numerals: str) -> int:
    """Return the value of Chinese numerals: `二十三` is 23, `二〇二六` is 2026."""
    if not any(letter in _POWERS for letter in numerals):
        return int("".join(str(_VALUES[letter]) for letter in numerals))
    total, section, digit = 0, 0, 0
    for letter in numerals:
        if letter == "万":
            total, section, digit = (total + section + digit) * _POWERS[letter], 0, 0
        elif letter in _POWERS:
            section, digit = section + (digit or 1) * _POWERS[letter], 0
        else:
            digit = _VALUES[letter]
    return total + section + digit
