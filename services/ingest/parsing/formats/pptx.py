"""Reads PowerPoint slides (ECMA-376 part 1, section 19): titles, text, tables, charts and speaker's notes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lxml import etree

from zhiwen.common.models import Block
from zhiwen.ingest.parsing.formats.markup import attribute, local_name
from zhiwen.ingest.parsing.formats.ooxml import Package
from zhiwen.ingest.parsing.text.normalise import one_line
from zhiwen.ingest.parsing.text.tables import table_blocks

TITLES = frozenset({"title", "ctrTitle"})
FURNITURE = frozenset({"sldNum", "dt", "ftr", "hdr", "sldImg"})


def read_pptx(path: Path) -> Iterator[Block]:
    """Yield the blocks of each slide in the order of the presentation; `page` is the slide number."""
    with Package(path) as package:
        main = package.main_part("ppt/presentation.xml")
        for number, name in enumerate(_slide_names(package, main), start=1):
            slide = package.part(name)
            if slide is not None:
                yield from _slide_blocks(package, name, slide, number)


def _slide_names(package: Package, main: str) -> list[str]:
    relations = package.relations(main)
    ids = [attribute(entry, "id") for entry in package.required(main).iter("{*}sldId")]
    wanted = [
        relations[key][1]
        for entry in package.required(main).iter("{*}sldId")
        for key in map(str, entry.attrib.values())
        if key in relations and relations[key][0] == "slide"
    ]
    if wanted or not ids:
        return wanted
    return [name for name in package.names("ppt/slides/") if name.endswith(".xml")]


def _slide_blocks(package: Package, name: str, slide: etree._Element, number: int) -> Iterator[Block]:
    relations = package.relations(name)
    title = next((one_line(_shape_text(s)) for s in slide.iter("{*}sp") if _placeholder(s) in TITLES), "")
    heading = (title,) if title else ()
    if title:
        yield Block(title, "heading", (), number)
    for shape in slide.iter("{*}sp", "{*}tbl", "{*}chart", "{*}relIds"):
        yield from _shape_blocks(package, relations, shape, heading, number)
    for kind, target in relations.values():
        notes = package.part(target) if kind == "notesSlide" else None
        for shape in notes.iter("{*}sp") if notes is not None else ():
            if _placeholder(shape) not in FURNITURE:
                yield Block(_shape_text(shape), "paragraph", heading, number)


def _shape_blocks(
    package: Package,
    relations: dict[str, tuple[str, str]],
    shape: etree._Element,
    heading: tuple[str, ...],
    number: int,
) -> Iterator[Block]:
    kind = local_name(shape)
    if kind == "sp":
        placeholder = _placeholder(shape)
        if placeholder not in TITLES and placeholder not in FURNITURE and not _in_fallback(shape):
            yield Block(_shape_text(shape), "paragraph", heading, number)
    elif kind == "tbl":
        rows = [[_paragraphs(cell, " ") for cell in row.iter("{*}tc")] for row in shape.iter("{*}tr")]
        properties = shape.find("{*}tblPr")
        first_row = attribute(properties, "firstRow") if properties is not None else None
        yield from table_blocks(rows, heading=heading, page=number, has_header=first_row == "1" or None)
    else:
        for key in map(str, shape.attrib.values()):
            if key in relations and relations[key][0] in {"chart", "diagramData"}:
                yield from _drawing(package.part(relations[key][1]), heading, number)


def _drawing(root: etree._Element | None, heading: tuple[str, ...], number: int) -> Iterator[Block]:
    """Yield the text of a chart or a diagram: titles and nodes, then each series as a row."""
    if root is None:
        return
    words = [_paragraphs(text, " ") for text in root.iter("{*}rich", "{*}t") if local_name(text) == "rich" or len(text)]
    if any(words):
        yield Block("\n".join(filter(None, words)), "list", heading, number)
    rows: list[list[str]] = []
    for series in root.iter("{*}ser"):
        names = [v.text or "" for tx in series.iterfind("{*}tx") for v in tx.iter("{*}v")]
        categories = [v.text or "" for cat in series.iterfind("{*}cat") for v in cat.iter("{*}v")]
        values = [v.text or "" for val in series.iterfind("{*}val") for v in val.iter("{*}v")]
        if categories and not rows:
            rows.append(["", *categories])
        rows.append([*names, *values])
    yield from table_blocks(rows, heading=heading, page=number, has_header=bool(rows) and rows[0][:1] == [""])


def _placeholder(shape: etree._Element) -> str | None:
    found = shape.find("{*}nvSpPr/{*}nvPr/{*}ph")
    return attribute(found, "type") or "body" if found is not None else None


def _in_fallback(shape: etree._Element) -> bool:
    return next(shape.iterancestors("{*}Fallback"), None) is not None


def _shape_text(shape: etree._Element) -> str:
    return "\n".join(_paragraphs(body, "\n") for body in shape.iterfind("{*}txBody"))


def _paragraphs(element: etree._Element, separator: str) -> str:
    return separator.join(filter(None, (_paragraph(paragraph) for paragraph in element.iter("{*}p"))))


def _paragraph(paragraph: etree._Element) -> str:
    parts: list[str] = []
    for element in paragraph.iter("{*}t", "{*}br", "{*}tab"):
        parts.append(element.text or "" if local_name(element) == "t" else "\n")
    return "".join(parts).strip()
