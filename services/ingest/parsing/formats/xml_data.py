"""Reads XML of any kind: one block per record, one line `name: value` per leaf, running text as paragraphs.

HTML inside an element, as in feeds, is read as HTML. Entities are never expanded, and nothing is downloaded (see
`markup`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from lxml import etree

from zhiwen.common.models import Block
from zhiwen.ingest.parsing.detect.decode import decode_text, find_encoding
from zhiwen.ingest.parsing.formats.html import html_blocks
from zhiwen.ingest.parsing.formats.markup import local_name, parse_xml
from zhiwen.ingest.parsing.text.normalise import one_line

DECLARATION = re.compile(r"\A\s*<\?xml[^>]*\?>")
INNER_HTML = re.compile(r"</(?:p|div|li|a|span|table|h[1-6]|b|strong|em|ul)>|<(?:br|p|img)\b[^>]*>", re.I)
XHTML = "{http://www.w3.org/1999/xhtml}html"


def read_xml(path: Path) -> Iterator[Block]:
    """Yield the records of an XML file; raises what `markup.parse_xml` raises."""
    root = parse_xml(as_utf8(path.read_bytes()))
    if root.tag in {XHTML, "html"}:
        yield from html_blocks(etree.tostring(root, encoding="unicode"))
        return
    yield from _Records().read(root)


def as_utf8(data: bytes) -> bytes:
    """Return XML as UTF-8 without its declaration. The true encoding is found from the bytes."""
    if find_encoding(data) == "utf-8" and b"encoding" not in data[:200]:
        return data.lstrip()
    return DECLARATION.sub("", decode_text(data)).strip().encode("utf-8", "replace")


class _Records:
    """Collects the lines of leaf elements into a block, until an element with children ends."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._ready: list[Block] = []
        self._mixed: etree._Element | None = None

    def read(self, root: etree._Element) -> Iterator[Block]:
        for event, element in etree.iterwalk(root, events=("start", "end")):
            if event == "start":
                self._start(element)
            else:
                self._end(element)
            yield from self._ready
            self._ready.clear()
        self._flush()
        yield from self._ready

    def _start(self, element: etree._Element) -> None:
        if self._mixed is not None or not local_name(element):
            return
        if len(element) and _has_own_text(element):
            self._mixed = element
            self._flush()
            text = one_line("".join(map(str, element.itertext())))
            self._ready.append(Block(text))
            return
        attributes = ", ".join(f"{_short(str(key))}={value}" for key, value in element.attrib.items() if value)
        text = (element.text or "").strip()
        if INNER_HTML.search(text):
            self._flush()
            self._ready += html_blocks(text)
        elif text or (attributes and not len(element)):
            self._lines.append(f"{_short(str(element.tag))}: {text or attributes}")

    def _end(self, element: etree._Element) -> None:
        if self._mixed is element:
            self._mixed = None
        elif self._mixed is None and len(element):
            self._flush()

    def _flush(self) -> None:
        if self._lines:
            self._ready.append(Block("\n".join(self._lines), "list"))
            self._lines = []


def _has_own_text(element: etree._Element) -> bool:
    own = (element.text or "").strip()
    return bool(own) or any((child.tail or "").strip() for child in element)


def _short(name: str) -> str:
    return name.rpartition("}")[2]
