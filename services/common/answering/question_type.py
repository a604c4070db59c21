"""What a question asks for, and whether a text holds something of that kind. Rules for Chinese and English. Pure.

The texts are folded and have their numbers as digits (`quantities.with_digits`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from zhiwen.common.lexical.analysis import HAN


class Kind(StrEnum):
    """The kinds of answers that leave a mark in the text."""

    NUMBER = "number"
    TIME = "time"
    PERSON = "person"
    PLACE = "place"
    REASON = "reason"
    NAME = "name"
    MANNER = "manner"
    PERMISSION = "permission"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a question asks for. `unit` is the word after "how many", or empty."""

    kinds: frozenset[Kind]
    unit: str


_ASKED: Final = {
    Kind.NUMBER: re.compile(
        r"多少|几(?!乎|何)|多(?:久|长|大|高|重|远|宽|深|快|厚)|百分之|比例|数量|价格|什么价|啥价|总数|"
        r"\bhow (?:many|much|long|often|old|far|high|tall|large|big|deep|fast|heavy|wide|few)\b|"
        r"\b(?:number|percent|percentage|price|cost|costs|size|weight|height|age|rate|amount|distance|population) of\b|"
        r"\bwhat (?:percent|percentage|number|price|size|age|fraction|portion|proportion)|\bcosts?\b"
    ),
    Kind.TIME: re.compile(
        r"何时|什么时候|啥时候|什么时间|哪[1一]?(?:年|天|日|月)|几(?:点|号|月|时|年)|年份|日期|哪个(?:时期|年代|世纪|朝代|月)|"
        r"什么(?:年代|时期|时代)|多久|"
        r"\bwhen\b|\b(?:what|which) (?:year|date|day|month|time|century|decade|era|period|season)\b|"
        r"\bhow long\b|\bin what year\b"
    ),
    Kind.PERSON: re.compile(
        r"谁|哪[1一]?位|何人|哪些人|什么人|作者|创始人|\bwho\b|\bwhom\b|\bwhose\b|"
        r"\bwhich (?:person|player|artist|king|president)"
    ),
    Kind.PLACE: re.compile(
        r"哪里|哪儿|何处|何地|什么地方|在哪|位于|哪[1一]?个?(?:国家?|城市|省|地方|地区|县|区|州|岛|洲|市)|哪国|"
        r"\bwhere\b|\b(?:what|which) (?:country|city|state|place|county|region|area|location|continent|town|district|"
        r"street|river|island|part)\b"
    ),
    Kind.REASON: re.compile(r"为什么|为何|为啥|原因|怎么会|\bwhy\b|\breasons?\b|\bwhat caused?\b|\bhow come\b"),
    Kind.NAME: re.compile(
        r"叫什么|什么名|名字|名称|称为什么|哪[1一]?(?:部|本|首|家|款|种|个)|什么(?:书|电影|歌|曲|节目|公司|学校|大学|组织)|"
        r"\bname\b|\bnamed\b|\bcalled\b|\bknown as\b|\bwhich\b|\btitle\b"
    ),
    Kind.MANNER: re.compile(
        r"怎么|怎样|如何|咋|\bhow (?:do|does|did|can|could|to|is|are|was|were|should)\b|\bwhat (?:do|should) i\b"
    ),
    Kind.PERMISSION: re.compile(
        r"能不能|可不可以|可以.{0,12}[吗么不?？]|能.{0,16}[吗么不?？]|[吗么不][?？]?$|是否|"
        r"^\W*(?:can|may|is|are|do|does|am|will|should|could) |\b(?:allowed|ok|okay)\b"
    ),
}
_MONTHS: Final = "january|february|march|april|may|june|july|august|september|october|november|december"
_HELD: Final = {
    Kind.NUMBER: re.compile(
        r"\d|\b(?:half|dozens?|hundreds?|thousands?|millions?|billions?|twice|once|one)\b|[半数几]"
    ),
    Kind.TIME: re.compile(
        rf"\d+ ?(?:年|月|日|天|周|小时|分钟|点|世纪|号|years?|months?|days?|weeks?|hours?|minutes?)|\d:\d\d|"
        rf"\b(?:1\d|20)\d\ds?\b|\b(?:{_MONTHS})\b|\b(?:century|centuries|decade)\b|周[一二三四五六日末1-6]|"
        r"(?:早|晚|上|下|中)[午晨上]|世纪|年代|时期|(?:mon|tues|wednes|thurs|fri|satur|sun)days?\b|[唐宋元明清汉]朝|期间"
    ),
    Kind.REASON: re.compile(
        r"因为|因此|由于|因而|所以|为了|以便|原因|导致|是因|使得|\bbecause\b|\bdue to\b|\bsince\b|\bso that\b|"
        r"\bin order\b|"
        r"\bas a result\b|\bcaus\w*|\breason|\btherefore\b|\bthus\b|\bto (?:avoid|prevent|protect|reduce|increase)\b"
    ),
    Kind.NAME: re.compile(r"[《「『“\"‘]|名为|称为|叫做|命名|\bnamed\b|\bcalled\b|\bknown as\b"),
    Kind.PERMISSION: re.compile(
        r"不得|不能|不可|禁止|严禁|请勿|不要|可以|允许|必须|应当|只能|不适用|不需|无需|除外|恕不|"
        r"\b(?:may|must|can|cannot|never|not|only|allowed|required|forbidden|prohibited|should)\b"
    ),
    Kind.MANNER: re.compile(
        r"应|请|可以|通过|需要|先|然后|步骤|方法|办理|联系|\b(?:by|use|using|call|contact|open|press|click|should|must|first|then)\b"
    ),
}
# Names begin with a capital, so these two read the text as it was written.
_CAPITALS: Final = re.compile(r"(?<![.!?] )(?<!^)\b[A-Z][\w'’-]+(?: (?:of|de|van|von|the|[A-Z][\w.'’-]*))*")
# Titles, an agent, or a family name that is seldom the beginning of another word.
_CHINESE_PERSON: Final = re.compile(
    rf"[{HAN}]·[{HAN}]|先生|女士|教授|博士|皇帝|将军|总统|主席|部长|导演|演员|作家|经理|主管|总裁|老师|[由被][{HAN}]{{2}}|"
    rf"[王李张刘陈杨赵吴徐孙朱郭梁郑谢唐冯曹袁邓许沈彭吕苏蒋蔡魏薛叶阎潘戴钟姜谭廖邹熊陆郝孔崔邱秦侯邵孟钱尹黎乔贺赖龚]"
    rf"[{HAN}]{{1,2}}"
)
_CHINESE_PLACE: Final = re.compile(rf"位于|地处|[{HAN}]{{1,6}}[省市县区州国镇乡村路街岛山河湖港站楼厅馆院]|坐落|层")
_ENGLISH_PLACE: Final = re.compile(
    r"\b(?:in|at|near|from|to|of|on|between|along|through|outside) (?:the )?[A-Z]\w+|\b(?:located|room|floor|street)\b"
)

_CHINESE_UNIT: Final = re.compile(rf"(?:多少|几)个?([{HAN}a-z]{{1,2}})")
_ENGLISH_UNIT: Final = re.compile(
    r"\bhow (?:many|much) (?:of the |more |other |different )?([a-z]+)|\bwhat (?:percent|percentage)"
)
_NO_UNIT: Final = frozenset("is are was were do does did will would can could should of has have".split())


def wanted(question: str) -> Wanted:
    """Return what a question asks for."""
    kinds = frozenset(kind for kind, asks in _ASKED.items() if asks.search(question))
    match = _CHINESE_UNIT.search(question) or _ENGLISH_UNIT.search(question)
    unit = (match[1] or "percent") if match else ""
    return Wanted(kinds, "" if unit in _NO_UNIT else unit)


def holds(kind: Kind, folded: str, written: str) -> bool:
    """Return whether a text holds something of a kind. `written` is the text before folding."""
    if kind is Kind.PERSON:
        return bool(_CAPITALS.search(written) or _CHINESE_PERSON.search(folded))
    if kind is Kind.PLACE:
        return bool(_CHINESE_PLACE.search(folded) or _ENGLISH_PLACE.search(written))
    if kind is Kind.NAME:
        return bool(_HELD[kind].search(folded) or _CAPITALS.search(written))
    return bool(_HELD[kind].search(folded))


def counts(unit: str, folded: str) -> bool:
    """Return whether a text holds a number of a unit, such as `15天` or `88 string inverters`."""
    if not unit:
        return False
    if unit.isascii():
        stem = unit[:-1] if unit.endswith("s") else unit
        return bool(re.search(rf"\d[^.;|]{{0,30}}?\b{re.escape(stem)}|\b{re.escape(stem)}\w*[^.;]{{0,20}}\d", folded))
    return bool(re.search(rf"\d ?个?(?:{re.escape(unit)}|{re.escape(unit[0])})", folded))
