"""Reads the body of a mail with `unstructured`. Only this module imports `unstructured`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from lxml import etree

from zhiwen.common.models import Block
from zhiwen.ingest.parsing.formats import quiet_spacy
from zhiwen.ingest.parsing.formats.markup import local_name, parse_html
from zhiwen.ingest.parsing.text.normalise import Outline
from zhiwen.ingest.parsing.text.tables import table_blocks

# No language detection: it is slow, and nothing here needs it.
NO_LANGUAGE = [""]
KINDS = {"ListItem": "list", "CodeSnippet": "code"}
DROPPED = frozenset({"PageBreak", "Image", "FormKeysValues"})


def mail_body(path: Path, kind: str) -> Iterator[Block]:
    """Yield the body of a mail of this `kind` (`eml` or `msg`), as HTML if it has that. Attachments are not opened."""
    quiet_spacy.install()
    # Imported here, because it takes more than a second and the stand-in for spaCy must be installed first.
    if kind == "eml":
        from unstructured.partition.email import partition_email as partition
    else:
        from unstructured.partition.msg import partition_msg as partition
    yield from element_blocks(partition(filename=str(path), process_attachments=False, languages=NO_LANGUAGE))


def element_blocks(elements: Iterable[Any]) -> Iterator[Block]:
    """Yield the blocks of unstructured's elements. Consecutive list items are one block."""
    outline = Outline()
    for kind, group in groupby(elements, key=lambda element: str(element.category)):
        if kind == "ListItem":
            yield Block("\n".join(f"- {element.text}" for element in group), "list", outline.path)
        elif kind not in DROPPED:
            for element in group:
                yield from _element_blocks(kind, element, outline)


def _element_blocks(kind: str, element: Any, outline: Outline) -> Iterator[Block]:
    text, depth = str(element.text), element.metadata.category_depth
    if kind == "Title" and depth is not None:
        yield Block(text, "heading", outline.enter(int(depth) + 1, text))
    elif kind == "Table" and element.metadata.text_as_html:
        yield from _table(str(element.metadata.text_as_html), text, outline.path)
    else:
        yield Block(text, KINDS.get(kind, "paragraph"), outline.path)


def _table(html: str, text: str, heading: tuple[str, ...]) -> Iterator[Block]:
    root = parse_html(html)
    rows = [[_cell(cell) for cell in row if local_name(cell) in {"td", "th"}] for row in _rows(root)]
    if not any(cell for row in rows for cell in row):
        yield Block(text, "paragraph", heading)
        return
    yield from table_blocks(rows, heading=heading)


def _rows(root: etree._Element | None) -> Iterator[etree._Element]:
    if root is not None:
        yield from root.iter("tr")


def _cell(cell: etree._Element) -> str:
    return " ".join("".join(map(str, cell.itertext())).split())
