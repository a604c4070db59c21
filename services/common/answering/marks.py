"""Finds the marks [n] of an answer; what looks like one in code, in links or while thinking is none. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

MOST_MARKS: Final = 200
"""Numbers of marks after these are left out."""

_THOUGHT: Final = "</think>"
_CODE: Final = re.compile(r"```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)|`[^`\n]*`", re.DOTALL)
_MARK: Final = re.compile(
    r"[\[［【]\^?[ \t]{0,3}(?P<numbers>\d{1,3}(?:[ \t]{0,3}[,，、;；\-–—~～][ \t]{0,3}\^?\d{1,3}){0,30})"
    r"[ \t]{0,3}[\]］】](?!\(|（https?:)"
)
_DEFINITION: Final = re.compile(r"[ \t]*[:：]")
_BETWEEN: Final = re.compile(r"[ \t,，、;；和与]*(?:and[ \t])?")
_RANGE: Final = re.compile(r"(\d{1,3})[ \t]{0,3}[\-–—~～][ \t]{0,3}\^?(\d{1,3})")
_LONGEST_RANGE: Final = 50


@dataclass(frozen=True, slots=True)
class Mark:
    """A mark: where it begins and ends in the answer, in characters, and its numbers."""

    start: int
    end: int
    numbers: tuple[int, ...]


def marks_of(answer: str) -> list[Mark]:
    """Return the marks of an answer in order, until there are `MOST_MARKS` numbers."""
    visible = _visible(answer)
    found: list[Mark] = []
    left = MOST_MARKS
    for match in _MARK.finditer(visible):
        if left <= 0:
            break
        if not (_DEFINITION.match(visible, match.end()) and opens_line(visible, match.start())):
            found.append(Mark(match.start(), match.end(), tuple(_numbers(match["numbers"])[:left])))
            left -= len(found[-1].numbers)
    return found


def runs_of_marks(answer: str) -> list[Mark]:
    """Return the marks of an answer in order, neighbouring ones as one."""
    found: list[Mark] = []
    for mark in marks_of(answer):
        if found and _BETWEEN.fullmatch(answer, found[-1].end, mark.start):
            before = found.pop()
            found.append(Mark(before.start, mark.end, before.numbers + mark.numbers))
        else:
            found.append(mark)
    return found


def thought_end(answer: str) -> int:
    """Return where an answer begins after its thinking, `<think>…</think>`."""
    return answer.find(_THOUGHT) + len(_THOUGHT) if _THOUGHT in answer else 0


def _visible(answer: str) -> str:
    """Return an answer with spaces for its thinking and its code."""
    start = thought_end(answer)
    return " " * start + _CODE.sub(lambda match: " " * len(match[0]), answer[start:])


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


def opens_line(text: str, start: int) -> bool:
    """Return whether only white space and list signs stand before `start` on its line."""
    return not text[text.rfind("\n", 0, start) + 1 : start].strip(" \t>#*-")
