"""The numbers that Word shows in front of paragraphs."""

from __future__ import annotations

import pytest

from zhiwen.ingest.parsing.formats.docx_numbering import Numbering, format_number
from zhiwen.ingest.parsing.formats.markup import parse_xml

NAMESPACE = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"


def level(depth: int, kind: str, text: str, start: int = 1) -> str:
    shown = f'<w:start w:val="{start}"/><w:numFmt w:val="{kind}"/><w:lvlText w:val="{text}"/>'
    return f'<w:lvl w:ilvl="{depth}">{shown}</w:lvl>'


def numbering(*levels: str) -> Numbering:
    lists = f'<w:abstractNum w:abstractNumId="7">{"".join(levels)}</w:abstractNum>'
    number = '<w:num w:numId="1"><w:abstractNumId w:val="7"/></w:num>'
    return Numbering(parse_xml(f'<w:numbering xmlns:w="{NAMESPACE}">{lists}{number}</w:numbering>'.encode()))


def test_chapters_and_sections_count_together() -> None:
    numbers = numbering(level(0, "chineseCountingThousand", "第%1章"), level(1, "decimal", "%1.%2"))
    labels = [numbers.label("1", depth) for depth in (0, 1, 1, 0, 1)]
    assert labels == ["第一章", "一.1", "一.2", "第二章", "二.1"]


def test_bullets_and_unknown_lists_are_dashes() -> None:
    assert numbering(level(0, "bullet", "\u2022")).label("1", 0) == "-"
    assert Numbering(None).label("1", 0) == "-"


def test_a_list_may_start_late() -> None:
    numbers = numbering(level(0, "decimal", "%1)", start=5))
    assert [numbers.label("1", 0) for _ in range(2)] == ["5)", "6)"]


@pytest.mark.parametrize(
    ("number", "kind", "text"),
    [
        (10, "chineseCounting", "十"),
        (12, "chineseCountingThousand", "十二"),
        (20, "chineseCountingThousand", "二十"),
        (105, "chineseCountingThousand", "一百零五"),
        (3020, "chineseCountingThousand", "三千零二十"),
        (1005, "chineseCountingThousand", "一千零五"),
        (12, "chineseLegalSimplified", "壹拾贰"),
        (3, "ideographTraditional", "丙"),
        (4, "upperRoman", "IV"),
        (1994, "lowerRoman", "mcmxciv"),
        (28, "lowerLetter", "bb"),
        (3, "decimalEnclosedCircle", "③"),
        (7, "decimalZero", "07"),
        (7, "none", ""),
        (123456, "upperRoman", "123456"),
    ],
)
def test_formats(number: int, kind: str, text: str) -> None:
    assert format_number(number, kind) == text
