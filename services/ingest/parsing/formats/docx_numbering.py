"""Computes the numbers that Word shows but does not store: `第一章`, `1.2`, `（三）` (ECMA-376 part 1, section 17.9).

People cite laws and contracts by these numbers, so they belong to the text.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass

from lxml import etree

from zhiwen.ingest.parsing.formats.markup import attribute, local_name

BULLET = "-"
DIGITS = "零一二三四五六七八九"
LEGAL_DIGITS = "零壹贰叁肆伍陆柒捌玖"
STEMS = "甲乙丙丁戊己庚辛壬癸"
ROMAN = ((1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"))
ROMAN_SMALL = ((50, "l"), (40, "xl"), (10, "x"), (9, "ix"), (5, "v"), (4, "iv"), (1, "i"))
CHINESE_FORMATS = re.compile(r"^(?:chineseCounting|chineseCountingThousand|taiwaneseCounting\w*|japaneseCounting)$")
PLACEHOLDER = re.compile(r"%([1-9])")
MAX_NUMBER = 9999


@dataclass(frozen=True, slots=True)
class Level:
    """The format of a list level. In `text`, `%1` stands for the number of the first level, and so on."""

    start: int
    format: str
    text: str
    style: str


class Numbering:
    """The counters of a document. Ask for the label of each numbered paragraph once, in reading order."""

    def __init__(self, root: etree._Element | None) -> None:
        self._lists: dict[str, dict[int, Level]] = {}
        self._list_of: dict[str, str] = {}
        self._counts: dict[str, dict[int, int]] = defaultdict(dict)
        for element in root if root is not None else ():
            if local_name(element) == "abstractnum":
                self._lists[attribute(element, "abstractNumId") or ""] = _levels(element)
            elif local_name(element) == "num":
                self._list_of[attribute(element, "numId") or ""] = _value(element, "abstractNumId")

    def level_of_style(self, number: str, style: str) -> int:
        """Return the level of list `number` that belongs to a paragraph style; 0 if none does."""
        levels = self._lists.get(self._list_of.get(number, ""), {})
        return next((depth for depth, level in levels.items() if level.style and level.style == style), 0)

    def label(self, number: str, depth: int) -> str:
        """Return the label of the next paragraph of list `number` at level `depth` (from 0); `-` for a bullet."""
        key = self._list_of.get(number, "")
        levels = self._lists.get(key, {})
        level = levels.get(depth)
        if level is None or level.format == "bullet":
            return BULLET
        counts = self._counts[key]
        counts[depth] = counts.get(depth, level.start - 1) + 1
        for deeper in [inner for inner in counts if inner > depth]:
            del counts[deeper]

        def shown(match: re.Match[str]) -> str:
            other = int(match.group(1)) - 1
            at = levels.get(other, level)
            return format_number(counts.get(other, at.start), at.format)

        return PLACEHOLDER.sub(shown, level.text).strip()


def _levels(element: etree._Element) -> dict[int, Level]:
    levels: dict[int, Level] = {}
    for level in element:
        depth = attribute(level, "ilvl") or ""
        if local_name(level) == "lvl" and depth.isdecimal():
            start = _value(level, "start")
            levels[int(depth)] = Level(
                int(start) if start.isdecimal() else 1,
                _value(level, "numFmt") or "decimal",
                _value(level, "lvlText"),
                _value(level, "pStyle"),
            )
    return levels


def _value(element: etree._Element, name: str) -> str:
    child = element.find(f"{{*}}{name}")
    return (attribute(child, "val") or "") if child is not None else ""


def format_number(number: int, kind: str) -> str:
    """Return a number as Word writes it in the format `kind` (ST_NumberFormat); unknown kinds are decimal."""
    if kind == "none":
        return ""
    if not 0 < number <= MAX_NUMBER:
        return str(number)
    if CHINESE_FORMATS.match(kind):
        return chinese_number(number, DIGITS, "十百千")
    if kind.startswith("chineseLegal"):
        return chinese_number(number, LEGAL_DIGITS, "拾佰仟")
    if kind == "ideographTraditional" and number <= len(STEMS):
        return STEMS[number - 1]
    if kind.endswith("Letter"):
        letters = chr(ord("a") + (number - 1) % 26) * ((number - 1) // 26 + 1)
        return letters.upper() if kind.startswith("upper") else letters
    if kind.endswith("Roman"):
        return roman(number).upper() if kind.startswith("upper") else roman(number)
    if kind == "decimalEnclosedCircle" and number <= 20:
        return chr(0x2460 + number - 1)
    return f"{number:02d}" if kind == "decimalZero" else str(number)


def chinese_number(number: int, digits: str, units: str) -> str:
    """Return 1 to 9999 in Chinese: 十二, 一百零五, 三千零二十."""
    text, zero = "", False
    for power in (3, 2, 1, 0):
        digit = number // 10**power % 10
        if digit:
            text += (digits[0] if zero and text else "") + digits[digit] + (units[power - 1] if power else "")
        zero = not digit
    return text[1:] if text.startswith(f"{DIGITS[1]}十") else text


def roman(number: int) -> str:
    """Return a number in small Roman numerals."""
    text = ""
    for value, letters in (*ROMAN, *ROMAN_SMALL):
        count, number = divmod(number, value)
        text += letters * count
    return text
