"""Reads HTML: visible text with headings, lists, tables and code. Scripts, styles and hidden parts are left out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from lxml import etree

from zhiwen.common.models import Block
from zhiwen.ingest.parsing.detect.decode import decode_text
from zhiwen.ingest.parsing.formats.markup import local_name, parse_html
from zhiwen.ingest.parsing.text.normalise import Outline, one_line, unwrap_lines
from zhiwen.ingest.parsing.text.tables import table_blocks

HEADINGS = {f"h{level}": level for level in range(1, 7)}
SKIPPED = frozenset(
    {"script", "style", "template", "noscript", "svg", "head", "object", "iframe", "select", "datalist"}
)
BLOCK_NAMES = (
    "address article aside blockquote body center dd details dialog div dl dt fieldset figcaption figure footer form "
    "frameset header hr html legend main nav p section summary table tbody td tfoot th thead tr caption option"
)
BLOCKS = frozenset(BLOCK_NAMES.split())
LISTS = frozenset({"ul", "ol", "menu", "dir"})
HIDDEN_STYLE = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.I)
SPACES = re.compile(r"[ \t\r\f]*\n\s*")


def read_html(path: Path) -> Iterator[Block]:
    """Yield the blocks of an HTML page in any encoding. Without an `h1`, its title is the heading."""
    yield from html_blocks(decode_text(path.read_bytes()))


def html_blocks(text: str) -> Iterator[Block]:
    """Yield the blocks of HTML source."""
    root = parse_html(text)
    if root is not None:
        yield from tree_blocks(root)


def tree_blocks(root: etree._Element, *, office: bool = False) -> Iterator[Block]:
    """Yield the blocks of a parsed page.

    `office` means that the page comes from an office document. There, every table holds data, and the cells of the
    first row decide whether it is a header. On a web page, a table may be layout, and a header is marked as such.
    """
    walker = _Walker(office=office)
    title = root.find("head/title")
    if title is not None and title.text and root.find(".//h1") is None:
        walker.heading(1, title.text)
        yield from walker.take()
    for event, element in etree.iterwalk(root, events=("start", "end")):
        if event == "start":
            walker.start(element)
        else:
            walker.end(element)
        yield from walker.take()
    walker.flush()
    yield from walker.take()


class _Walker:
    """Collects inline text, and turns it into a block when a block-level element begins or ends."""

    def __init__(self, *, office: bool) -> None:
        self._office = office
        self._outline = Outline()
        self._inline: list[str] = []
        self._items: list[str] = []
        self._lists = 0
        self._skipping: etree._Element | None = None
        self._ready: list[Block] = []

    def take(self) -> list[Block]:
        ready, self._ready = self._ready, []
        return ready

    def start(self, element: etree._Element) -> None:
        if self._skipping is not None:
            return
        name = local_name(element)
        if not name or name in SKIPPED or _hidden(element):
            self._skipping = element
        elif name in HEADINGS:
            self.flush()
            self.heading(HEADINGS[name], _visible_text(element))
            self._skipping = element
        elif name == "pre":
            self.flush()
            self._emit("".join(_texts(element)), "code")
            self._skipping = element
        elif name == "table" and (self._office or _is_data_table(element)):
            self.flush()
            self._ready += _table(element, self._outline.path, marks_header=not self._office)
            self._skipping = element
        else:
            self._open(name, element)

    def _open(self, name: str, element: etree._Element) -> None:
        if name in LISTS:
            self._end_text()
            self._lists += 1
        elif name == "li" or name in BLOCKS:
            self._end_text()
        elif name == "br":
            self._inline.append("\v")
        if element.text:
            self._inline.append(element.text)

    def end(self, element: etree._Element) -> None:
        if self._skipping is None:
            self._close(local_name(element))
        elif self._skipping is element:
            self._skipping = None
        if self._skipping is None and element.tail:
            self._inline.append(element.tail)

    def _close(self, name: str) -> None:
        if name in LISTS:
            self._end_text()
            self._lists = max(0, self._lists - 1)
            if self._lists == 0:
                self.flush()
        elif name == "li" or name in BLOCKS:
            self._end_text()
        elif name in {"td", "th"}:
            self._inline.append(" ")

    def heading(self, level: int, title: str) -> None:
        title = one_line(title)
        if title:
            self._ready.append(Block(title, "heading", self._outline.enter(level, title)))

    def _end_text(self) -> None:
        text = _collapse("".join(self._inline))
        self._inline.clear()
        if not text:
            return
        if self._lists:
            self._items.append("  " * (self._lists - 1) + "- " + text)
        else:
            self._emit(text, "paragraph")

    def flush(self) -> None:
        self._end_text()
        if self._items:
            self._emit("\n".join(self._items), "list")
            self._items = []

    def _emit(self, text: str, kind: str) -> None:
        if text.strip():
            self._ready.append(Block(text, kind, self._outline.path))


def _hidden(element: etree._Element) -> bool:
    attributes = element.attrib
    return "hidden" in attributes or bool(HIDDEN_STYLE.search(str(attributes.get("style", ""))))


def _texts(element: etree._Element) -> Iterator[str]:
    """Yield the visible text inside an element, with newlines for line breaks."""
    skipping: etree._Element | None = None
    for event, inner in etree.iterwalk(element, events=("start", "end")):
        name = local_name(inner)
        if event == "start" and skipping is None:
            if not name or name in SKIPPED or _hidden(inner):
                skipping = inner
            elif name == "br":
                yield "\n"
            elif inner.text:
                yield inner.text
        elif event == "end":
            if skipping is inner:
                skipping = None
            if skipping is None and inner is not element:
                yield " " if name in BLOCKS or name == "li" else ""
                yield inner.tail or ""


def _visible_text(element: etree._Element) -> str:
    return one_line("".join(_texts(element)))


def _collapse(text: str) -> str:
    lines = (unwrap_lines(SPACES.sub("\n", line)) for line in text.split("\v"))
    return "\n".join(one_line(line) for line in lines).strip()


def _is_data_table(table: etree._Element) -> bool:
    """Return whether a table holds data. A table that holds tables, headings or lists is page layout: running text."""
    return all(inner is table for inner in table.iter("table", *HEADINGS, *LISTS, "pre"))


def _table(table: etree._Element, heading: tuple[str, ...], *, marks_header: bool) -> Iterator[Block]:
    caption = table.find("caption")
    if caption is not None and (text := _visible_text(caption)):
        yield Block(text, "paragraph", heading)
    rows = [_cells(row) for row in table.iter("tr") if next(row.iterancestors("table"), None) is table]
    rows = [row for row in rows if row]
    has_header = bool(rows) and (table.find("thead") is not None or all(local_name(c) == "th" for c in rows[0]))
    texts = [[_visible_text(cell) for cell in row] for row in rows]
    yield from table_blocks(texts, heading=heading, has_header=has_header or (False if marks_header else None))


def _cells(row: etree._Element) -> list[etree._Element]:
    return [cell for cell in row if local_name(cell) in {"td", "th"}]
