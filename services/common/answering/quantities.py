"""Numbers in Chinese and English text: as digits, with their units, and as ranges. Pure.

`二十年` and `20 年` become the same text. A row `满10年不满20年` holds 15 years and does not hold 20.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

_DIGITS: Final = {c: n for n, c in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
_TENS: Final = {"十": 10, "百": 100, "千": 1000}
_GROUPS: Final = {"万": 10_000, "亿": 100_000_000}
_NUMERAL: Final = "零〇一二两三四五六七八九十百千万亿"
_CHINESE_UNITS: Final = (
    "分钟|小时|公斤|公里|千米|厘米|毫米|平方米|立方米|克|米|升|毫升|度|伏|瓦|元|块|角|年级|年|个月|月|日|号|天|周|星期|"
    "岁|次|人|名|位|个|件|册|本|页|条|项|章|节|层|楼|级|倍|杯|道|题|套|台|间|组|种|届|世纪|吨|秒|点|时|折|寸|档|项|家|户"
)
_CHINESE_NUMBER: Final = re.compile(
    rf"(?<![{_NUMERAL}])(?:[{_NUMERAL}]{{2,12}}|[{_NUMERAL}](?={_CHINESE_UNITS}))(?![{_NUMERAL}])"
)
_GROUPED: Final = re.compile(r"(?<![\d,.])\d{1,3}(?:,\d{3})+(?![\d,])")
_ENGLISH_NUMBERS: Final = {
    word: number
    for number, word in enumerate(
        """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
        seventeen eighteen nineteen twenty""".split()
    )
    if number > 1  # "one" is mostly no number
} | {"thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90}
_ENGLISH_NUMBER: Final = re.compile(rf"\b({'|'.join(_ENGLISH_NUMBERS)})(?:-(one|{'|'.join(_ENGLISH_NUMBERS)}))?\b")


def with_digits(folded: str) -> str:
    """Return a folded text with its Chinese and small English numbers as digits, and without thousands separators.

    A Chinese numeral of one character counts only before a unit, because 一 and 十 are also parts of words.
    """
    text = _GROUPED.sub(lambda match: match[0].replace(",", ""), folded)
    if text.isascii():
        return _ENGLISH_NUMBER.sub(_english_digits, text)
    return _CHINESE_NUMBER.sub(lambda match: _as_digits(match[0]), text)


def _english_digits(match: re.Match[str]) -> str:
    first, second = _ENGLISH_NUMBERS[match[1]], _ENGLISH_NUMBERS.get(match[2] or "", 1)
    if not match[2]:
        return str(first)
    return str(first + second) if first >= 20 and second < 10 else match[0]


def _as_digits(numeral: str) -> str:
    """Return a Chinese numeral in digits, or unchanged when it is none (`千万`, `一一`)."""
    if not any(c in _TENS or c in _GROUPS for c in numeral):
        digits = "".join(str(_DIGITS[c]) for c in numeral)
        return digits if len(numeral) == 1 or len(numeral) == 4 else numeral  # 二〇二六 is a year, 三四 is not 34
    total = part = 0
    digit = -1
    for c in numeral:
        if c in _DIGITS:
            digit = _DIGITS[c]
        elif c in _TENS:
            if digit < 0 and c != "十":
                return numeral
            part += max(digit, 1 if digit < 0 else digit) * _TENS[c]
            digit = -1
        else:
            part += max(digit, 0)
            if not part and not total:
                return numeral
            total = (total + part) * _GROUPS[c] if c == "亿" else total + part * _GROUPS[c]
            part, digit = 0, -1
    return str(total + part + max(digit, 0))


@dataclass(frozen=True, slots=True)
class Range:
    """The numbers from `low` to `high`; a bound may be infinite. `unit` is empty when no unit is named."""

    low: float
    high: float
    unit: str
    high_included: bool = True

    @property
    def exact(self) -> bool:
        """Whether the range is a single number."""
        return self.low == self.high

    @property
    def bounded(self) -> bool:
        """Whether both bounds are finite."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    def holds(self, value: float) -> bool:
        """Return whether a number is in the range."""
        return self.low <= value and (value <= self.high if self.high_included else value < self.high)


# Units that measure the same thing, in both languages. A unit that is not here stands for itself.
_SAME_UNIT: Final = {
    word: group.split()[0]
    for group in (
        "年 岁 周年 year years",
        "天 日 day days",
        "个月 月 month months",
        "周 星期 week weeks",
        "小时 时 hour hours",
        "分钟 minute minutes",
        "分 point points",
        "元 块 euro euros",
        "% percent",
        "公斤 kg",
    )
    for word in group.split()
}
_LEAST: Final = "满|超过|大于|高于|至少|over|above|at least|more than|older than"
_MOST: Final = "不满|未满|不足|不超过|低于|少于|小于|under|below|up to|at most|less than"
_NUMBER: Final = re.compile(
    rf"(?:(?P<most>{_MOST})|(?P<least>{_LEAST}))?\s*(?<![a-z0-9_.])(?<![a-z]-)(?P<value>\d+(?:\.\d+)?)(?!\.?\d|[a-z]*\d|-[a-z])\s*"
    r"(?P<unit>%|个月|周年|分钟|小时|星期|公斤|公里|厘米|毫米|[年岁天日月周时点分元块次人名个件册级米升克度倍杯台项页]|"
    r"(?:years?|days?|months?|weeks?|hours?|minutes?|points?|euros?|percent|kg|km|mm|cm|metres?)\b)?\s*"
    r"(?:(?P<or_less>以下|以内|之内|or less|or fewer)|(?P<or_more>及?以上|or more|and over))?"
)
_TO: Final = re.compile(r"\s*(?:至|到|~|～|—|–|-|to)\s*")
_AND: Final = re.compile(r"[^\d。；;|，,]{0,3}")
_DATE: Final = re.compile(r"\d{4}[-/.]\d{1,2}(?:[-/.]\d{1,2})?")


def ranges_of(text: str) -> list[Range]:
    """Return the numbers and ranges of a text that `with_digits` returned, in their order. Dates are left out."""
    text = _DATE.sub(lambda match: " " * len(match[0]), text)
    found: list[Range] = []
    end = 0
    for match in _NUMBER.finditer(text):
        number = _bounds(match)
        between = text[end : match.start()]
        last = found[-1] if found else None
        if last and last.exact and number.exact and _TO.fullmatch(between) and last.low < number.high:
            found[-1] = Range(last.low, number.high, number.unit)
        elif last and last.high == math.inf and number.low == -math.inf and _AND.fullmatch(between):
            found[-1] = Range(last.low, number.high, number.unit, high_included=False)
        else:
            found.append(number)
        end = match.end()
    return found


def _bounds(match: re.Match[str]) -> Range:
    value = float(match["value"])
    unit = _SAME_UNIT.get(match["unit"] or "", match["unit"] or "")
    if match["most"] or match["or_less"]:
        return Range(-math.inf, value, unit)
    if match["least"] or match["or_more"]:
        return Range(value, math.inf, unit)
    return Range(value, value, unit)
