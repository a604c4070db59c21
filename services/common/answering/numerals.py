"""Finds the numbers of a text, in digits or in Chinese or English words, so that `十五天` equals `15天`. Pure."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

Readings = frozenset[str]
"""The values that a number may be read as: `1.2万` is 12000, and its digits alone are 1.2."""

_DIGITS: Final = re.compile(
    r"(?P<whole>\d{1,3}(?:,\d{3}){1,6}(?!\d)|\d{1,18})(?P<part>\.\d{1,12})?\s?(?P<unit>[万亿千百]|million|billion)?"
)
_CLOCK_ZERO: Final = re.compile(r"(?<=\d)[:：]00(?!\d)")
_HAN: Final = re.compile(r"[零〇一二两三四五六七八九十百千万亿点]{1,16}")
_ANY: Final = re.compile(
    r"[0-9零〇一二两三四五六七八九十百千万亿]|\b(?:one|two|three|four|five|six|seven|eight|nine|ten)\b"
)
_PERCENT: Final = "百分之"
_IN_FIGURES: Final = dict(zip("零〇一二两三四五六七八九", (0, 0, 1, 2, 2, 3, 4, 5, 6, 7, 8, 9), strict=True))
_TENS: Final = {"十": 10, "百": 100, "千": 1000}
_UNITS: Final = {"百": 100, "千": 1000, "万": 10_000, "亿": 100_000_000, "million": 1_000_000, "billion": 10**9}
# What a number counts. A single character such as 一 is a number only before one of these.
_COUNTED: Final = re.compile(
    r"(?:年|月|日|天|号|个(?!别|人|性|体)|元|小时|分钟|秒|周|星期|次|人|名|岁|层|倍|条|项|位|级|度|米|公里|公斤|克|吨|"
    r"平方|台|章|节|页|届|所|家|种|世纪|折|成|期|倍|份|件|户|座|支|场|部|万|亿|%|％)"
)
_NOT_NUMBERS: Final = re.compile(r"千万(?=不|别|要|注意)|万一|十分(?!钟|之)|一一")
_MONTHS: Final = {
    name: number
    for number, names in enumerate(
        "january jan|february feb|march mar|april apr|may|june jun|july jul|august aug|september sept sep|october oct|"
        "november nov|december dec".split("|"),
        1,
    )
    for name in names.split()
}
_ENGLISH: Final = {
    **{
        word: number
        for number, word in enumerate(
            "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
            "seventeen eighteen nineteen twenty".split()
        )
    },
    **{"thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90},
    **{"hundred": 100, "thousand": 1000, "half": 0.5, "twice": 2, "once": 1, "dozen": 12},
    **{"first": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5},
}
_ENGLISH_WORD: Final = re.compile(rf"\b(?:{'|'.join([*_ENGLISH, *_MONTHS])})\b")
_VAGUE: Final = frozenset({"one", "first", "second", "third", "once", "half", "may", "mar", "march", "hundred"})
"""English words that a claim may hold without stating a number."""


def numbers_stated(folded: str) -> list[Readings]:
    """Return the numbers that a folded text states for certain: every one must be in what it rests on."""
    text = _NOT_NUMBERS.sub(" ", _CLOCK_ZERO.sub(" ", folded))
    found = [_of_digits(match) for match in _DIGITS.finditer(text)]
    for match in _HAN.finditer(text):
        certain = _COUNTED.match(text, match.end()) or text[max(0, match.start() - 3) : match.start()] == _PERCENT
        written = match[0].rstrip("点")
        if (certain or text[match.start() - 1 : match.start()] == "第") and written not in {"", "一", "万", "百", "千"}:
            found.append(_of_han(written))
    found += [
        _of(_ENGLISH[match[0]])
        for match in _ENGLISH_WORD.finditer(text)
        if match[0] in _ENGLISH and match[0] not in _VAGUE
    ]
    return [readings for readings in found if readings]


def numbers_held(folded: str) -> set[str]:
    """Return every value that a folded text may be read to hold; more than it states."""
    text = _CLOCK_ZERO.sub(" ", folded)
    held: set[str] = set()
    for match in _DIGITS.finditer(text):
        held |= _of_digits(match)
    for reading in (text, _NOT_NUMBERS.sub(" ", text)):  # 一一二年 is 112, or after 一一 it is 2
        for match in _HAN.finditer(reading):
            held |= _of_han(match[0])
    for match in _ENGLISH_WORD.finditer(text):
        held |= _of(_ENGLISH.get(match[0]) or _MONTHS.get(match[0], 0))
    return held


def has_numeral(folded: str) -> bool:
    """Return whether a folded text may hold a number at all. It costs less than to read them."""
    return _ANY.search(folded) is not None


def without_numbers(folded: str) -> str:
    """Return a folded text with a space for each number that it states."""
    return _HAN.sub(lambda match: " " if _COUNTED.match(folded, match.end()) else match[0], _DIGITS.sub(" ", folded))


def _of_digits(match: re.Match[str]) -> Readings:
    whole, part, unit = match["whole"].replace(",", ""), match["part"], match["unit"]
    if not part and not unit:
        return frozenset({whole.lstrip("0") or "0"})
    value = Decimal(whole + (part or ""))
    return _of(value) | _of(value * _UNITS[unit]) if unit else _of(value)


def _of_han(written: str) -> Readings:
    """Return the value of a Chinese numeral: 二十五, 一万二千, 三点五, 二〇二四; none when it is not one."""
    whole, point, part = written.partition("点")
    if point and part and all(c in _IN_FIGURES for c in part):
        digits = "".join(str(_IN_FIGURES[c]) for c in part)
        return frozenset(_plain(Decimal(f"{value}.{digits}")) for value in [_han_value(whole)] if value is not None)
    value = _han_value(whole)
    return frozenset() if value is None else _of(value)


def _han_value(written: str) -> int | None:
    if not written:
        return None
    if all(c in _IN_FIGURES for c in written):  # digit by digit, as years are written
        return int("".join(str(_IN_FIGURES[c]) for c in written))
    total = section = digit = 0
    last = 1
    for c in written:
        if c in _IN_FIGURES:
            digit = _IN_FIGURES[c]
        elif c in _TENS:
            section, digit, last = section + (digit or 1) * _TENS[c], 0, _TENS[c]
        else:
            total, section, digit, last = (total + section + digit or 1) * _UNITS[c], 0, 0, _UNITS[c]
    if digit and last > 10 and written[-2] not in "零〇":  # 三千五 is 3500
        digit *= last // 10
    return total + section + digit


def _of(value: float | Decimal) -> Readings:
    return frozenset({_plain(Decimal(str(value)))})


def _plain(value: Decimal) -> str:
    """Return a value without zeros that do not count: 5.0 is 5, and 05 is 5."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
