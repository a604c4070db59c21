"""Reads OpenDocument presentations (ODF 1.3 part 3, `draw:page`) slide by slide from their XML."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

from lxml import etree

from zhiwen.common.models import Block
from zhiwen.ingest.parsing.formats.markup import attribute, local_name, parse_xml
from zhiwen.ingest.parsing.text.normalise import one_line
from zhiwen.ingest.parsing.text.tables import table_blocks


def read_odp(path: Path) -> Iterator[Block]:
    """Yield the blocks of each slide. `page` is the slide number, and the title frame is the heading."""
    with zipfile.ZipFile(path) as archive:
        root = parse_xml(archive.read("content.xml"))
    for number, slide in enumerate(root.iter("{*}page"), start=1):
        yield from _slide_blocks(slide, number)


def _slide_blocks(slide: etree._Element, number: int) -> Iterator[Block]:
    title = next((_text(frame) for frame in slide.iter("{*}frame") if attribute(frame, "class") == "title"), "")
    heading = (title,) if title else ()
    if title:
        yield Block(title, "heading", (), number)
    for element in slide.iter("{*}p", "{*}h", "{*}table"):
        if local_name(element) == "table":
            rows = [[_text(cell) for cell in row.iter("{*}table-cell")] for row in element.iter("{*}table-row")]
            yield from table_blocks(rows, heading=heading, page=number)
        elif next(element.iterancestors("{*}table"), None) is None and (text := _text(element)) != title:
            yield Block(text, "paragraph", heading, number)


def _text(element: etree._Element) -> str:
    return one_line(" ".join(map(str, element.itertext())) if local_name(element) == "frame" else _joined(element))


def _joined(element: etree._Element) -> str:
    parts: list[str] = []
    for inner in element.iter():
        if local_name(inner) in {"s", "tab", "line-break", "p"}:
            parts.append(" ")
        parts.append(inner.text or "")
        parts.append((inner.tail or "") if inner is not element else "")
    return "".join(parts)
