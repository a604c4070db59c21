"""Reads Word documents (ECMA-376 part 1, section 17), Transitional and Strict, from their XML.

It reads headings by style or outline level, lists, tables row by row, text boxes, formulas and footnotes. Deleted text
is left out. Pages are counted if Word has stored its page breaks.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lxml import etree

from zhiwen.common.models import Block
from zhiwen.ingest.parsing.formats.docx_numbering import BULLET, Numbering
from zhiwen.ingest.parsing.formats.docx_styles import Style, paragraph_style, read_styles
from zhiwen.ingest.parsing.formats.markup import attribute, local_name
from zhiwen.ingest.parsing.formats.ooxml import Package
from zhiwen.ingest.parsing.text.normalise import Outline, one_line
from zhiwen.ingest.parsing.text.tables import table_blocks

SKIPPED = frozenset(
    {"del", "movefrom", "instrtext", "fallback", "deltext", "rpr", "ppr", "pict_fallback", "annotation"}
)


def read_docx(path: Path) -> Iterator[Block]:
    """Yield the blocks of a Word document: its body, then its footnotes and endnotes."""
    with Package(path) as package:
        main = package.main_part("word/document.xml")
        root = package.required(main)
        relations = dict(package.relations(main).values())
        numbering = Numbering(package.part(relations.get("numbering", "word/numbering.xml")))
        styles = read_styles(package.part(relations.get("styles", "word/styles.xml")), numbering)
        reader = _Body(styles, numbering, has_pages=_has_pages(root))
        for child in _body(root):
            yield from reader.read(child)
        for kind in ("footnotes", "endnotes"):
            notes = package.part(relations[kind]) if kind in relations else None
            yield from _notes(notes)


def _body(root: etree._Element) -> Iterator[etree._Element]:
    for child in root:
        if local_name(child) == "body":
            yield from child


def _has_pages(root: etree._Element) -> bool:
    return _page_breaks(root) > 0


def _page_breaks(element: etree._Element) -> int:
    rendered = sum(1 for _ in element.iter("{*}lastRenderedPageBreak"))
    hard = sum(attribute(found, "type") == "page" for found in element.iter("{*}br"))
    return max(rendered, hard)  # Word stores a rendered break after each hard one: a pair counts once


class _Body:
    """Reads the children of a body in order, and keeps track of the outline and the page."""

    def __init__(self, styles: dict[str, Style], numbering: Numbering, *, has_pages: bool) -> None:
        self._styles = styles
        self._numbering = numbering
        self._outline = Outline()
        self._page = 1 if has_pages else None

    def read(self, element: etree._Element) -> Iterator[Block]:
        name = local_name(element)
        if name == "p":
            yield from self._paragraph(element)
        elif name == "tbl":
            yield from self._table(element)
        elif name in {"sdt", "sdtcontent", "ins", "moveto", "customxml", "smarttag", "altchunk", "subdoc"}:
            for child in element:
                yield from self.read(child)

    def _paragraph(self, paragraph: etree._Element) -> Iterator[Block]:
        style = paragraph_style(paragraph, self._styles)
        page = self._page
        text = paragraph_text(paragraph)
        self._turn_pages(paragraph)
        if text.strip():
            label = self._numbering.label(*style.number) if style.number else ""
            if style.level:
                title = one_line(f"{label.removeprefix(BULLET)} {text}")
                yield Block(title, "heading", self._outline.enter(style.level, title), page)
            elif label:
                yield Block(f"{label} {text.strip()}", "list", self._outline.path, page)
            else:
                yield Block(text, "code" if style.code else "paragraph", self._outline.path, page)
        for box in _text_boxes(paragraph):
            for child in box:
                yield from self.read(child)

    def _turn_pages(self, element: etree._Element) -> None:
        if self._page is not None:
            self._page += _page_breaks(element)

    def _table(self, table: etree._Element) -> Iterator[Block]:
        page = self._page
        rows = [row for row in table.iter("{*}tr") if _closest_table(row) is table]
        texts = [[_cell_text(cell) for cell in row.iter("{*}tc") if _closest_row(cell) is row] for row in rows]
        marked = bool(rows) and rows[0].find("{*}trPr/{*}tblHeader") is not None
        self._turn_pages(table)
        if len(texts) == 1 and len(texts[0]) == 1:
            yield Block(texts[0][0], "paragraph", self._outline.path, page)
        else:
            yield from table_blocks(texts, heading=self._outline.path, page=page, has_header=marked or None)


def _closest_table(element: etree._Element) -> etree._Element | None:
    return next(element.iterancestors("{*}tbl"), None)


def _closest_row(element: etree._Element) -> etree._Element | None:
    return next(element.iterancestors("{*}tr"), None)


def _cell_text(cell: etree._Element) -> str:
    return " ".join(filter(None, (one_line(paragraph_text(paragraph)) for paragraph in cell.iter("{*}p"))))


def paragraph_text(paragraph: etree._Element) -> str:
    """Return the text of a paragraph without its text boxes, footnote marks and deleted parts."""
    parts: list[str] = []
    stack = list(reversed(paragraph))
    while stack:
        element = stack.pop()
        name = local_name(element)
        if name == "t":
            parts.append(element.text or "")
        elif name in {"tab", "ptab"}:
            parts.append("\t")
        elif name in {"br", "cr"}:
            parts.append("\n")
        elif name == "nobreakhyphen":
            parts.append("-")
        elif name == "sym":
            parts.append(_symbol(element))
        elif name not in SKIPPED and name != "txbxcontent":
            stack.extend(reversed(element))
    return "".join(parts)


def _symbol(element: etree._Element) -> str:
    try:
        code = int(attribute(element, "char") or "", 16)
    except ValueError:
        return ""
    return "" if 0xE000 <= code <= 0xF8FF or code > 0x10FFFF else chr(code)


def _text_boxes(paragraph: etree._Element) -> Iterator[etree._Element]:
    for box in paragraph.iter("{*}txbxContent"):
        inner = next((a for a in box.iterancestors("{*}txbxContent", "{*}Fallback")), None)
        if inner is None:
            yield box


def _notes(root: etree._Element | None) -> Iterator[Block]:
    for note in root if root is not None else ():
        if attribute(note, "type") in {None, "normal"}:
            text = " ".join(filter(None, (paragraph_text(p).strip() for p in note.iter("{*}p"))))
            yield Block(text)
