"""Paragraph styles of Word (ECMA-376 part 1, section 17.7): they mark headings, code and numbered paragraphs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from lxml import etree

from zhiwen.ingest.parsing.formats.docx_numbering import Numbering
from zhiwen.ingest.parsing.formats.markup import attribute, local_name

HEADING_STYLE = re.compile(r"^(?:heading|标题|標題|título|überschrift|titre)\s*([1-9])$", re.I)
TITLE_STYLE = re.compile(r"^(?:title|标题|標題)$", re.I)
CODE_STYLE = re.compile(r"code|preformatted|代码", re.I)
NO_LIST = "0"
MAX_ANCESTORS = 10


@dataclass(frozen=True, slots=True)
class Style:
    """A paragraph style: its outline level (1-9, 0 for none), whether it is code, its list and list level (from 0)."""

    level: int = 0
    code: bool = False
    number: tuple[str, int] | None = None


def read_styles(root: etree._Element | None, numbering: Numbering) -> dict[str, Style]:
    """Return the paragraph styles by id, with inherited properties."""
    raw = {
        attribute(style, "styleId") or "": style
        for style in (root if root is not None else ())
        if local_name(style) == "style"
    }
    return {style_id: _resolve(style_id, raw, numbering) for style_id in raw}


def _resolve(style_id: str, raw: Mapping[str, etree._Element], numbering: Numbering) -> Style:
    found = Style()
    settled = listed = False
    for _ in range(MAX_ANCESTORS):
        style = raw.get(style_id)
        if style is None:
            break
        number = _number(style)
        if number is not None and not listed:
            listed = True
            depth = number[1] if number[1] is not None else numbering.level_of_style(number[0], style_id)
            found = replace(found, number=None if number[0] == NO_LIST else (number[0], depth))
        own = _own(style)
        if own is not None and not settled:
            settled = True
            found = replace(found, level=own.level, code=own.code)
        style_id = _value(style, "basedOn")
    return found


def _own(style: etree._Element) -> Style | None:
    """Return the properties that a style itself sets; None if it sets none."""
    name = _value(style, "name")
    heading = HEADING_STYLE.match(name)
    if heading:
        return Style(int(heading.group(1)))
    if TITLE_STYLE.match(name):
        return Style(1)
    level = _outline_level(style)
    if level is not None:
        return Style(level)
    return Style(code=True) if CODE_STYLE.search(name) else None


def paragraph_style(paragraph: etree._Element, styles: Mapping[str, Style]) -> Style:
    """Return the style of a paragraph, replaced by what the paragraph itself sets."""
    named = paragraph.find("{*}pPr/{*}pStyle")
    style = styles.get(attribute(named, "val") or "", Style()) if named is not None else Style()
    level = _outline_level(paragraph)
    if level is not None:
        style = replace(style, level=level)
    number = _number(paragraph)
    if number is not None:
        inherited = style.number[1] if style.number else 0
        depth = number[1] if number[1] is not None else inherited
        style = replace(style, number=None if number[0] == NO_LIST else (number[0], depth))
    return style


def _outline_level(element: etree._Element) -> int | None:
    outline = element.find("{*}pPr/{*}outlineLvl")
    value = (attribute(outline, "val") or "") if outline is not None else ""
    return int(value) + 1 if len(value) == 1 and value in "012345678" else None


def _number(element: etree._Element) -> tuple[str, int | None] | None:
    properties = element.find("{*}pPr/{*}numPr")
    if properties is None:
        return None
    depth = _value(properties, "ilvl")
    return _value(properties, "numId"), int(depth) if depth.isdecimal() else None


def _value(element: etree._Element, name: str) -> str:
    child = element.find(f"{{*}}{name}")
    return (attribute(child, "val") or "") if child is not None else ""
