"""The formats that `unstructured` reads: EPUB, ODT, RTF, reStructuredText, Org, and the bodies of mails.

It runs pandoc in its sandbox (no file but the document is read, nothing is fetched) and turns the outcome into
elements. Only this module imports `unstructured`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from importlib import import_module
from itertools import groupby
from pathlib import Path
from typing import Any

from lxml import etree

from zhiwen.common.errors import DocumentError
from zhiwen.common.models import Block
from zhiwen.ingest.parsing.detect.decode import decode_text
from zhiwen.ingest.parsing.formats import quiet_spacy
from zhiwen.ingest.parsing.formats.markup import local_name, parse_html
from zhiwen.ingest.parsing.formats.rtf import with_unicode_escapes
from zhiwen.ingest.parsing.text.normalise import Outline, clean_text
from zhiwen.ingest.parsing.text.tables import table_blocks

# Languages are not asked for: their detection is slow and nothing here needs it.
NO_LANGUAGE = [""]
KINDS = {"ListItem": "list", "CodeSnippet": "code"}
UNWRAPPED = ("del", "ins", "s", "strike", "u", "mark", "small", "q", "abbr", "kbd", "samp", "var")
DROPPED = frozenset({"PageBreak", "Image", "FormKeysValues"})


def read_epub(path: Path) -> Iterator[Block]:
    """Yield the blocks of a book."""
    yield from _through_pandoc(path, "epub")


def read_odt(path: Path) -> Iterator[Block]:
    """Yield the blocks of an OpenDocument text."""
    yield from _through_pandoc(path, "odt")


def read_rst(path: Path) -> Iterator[Block]:
    """Yield the blocks of a reStructuredText file in any encoding; `include` and `raw` directives read nothing."""
    yield from _through_pandoc(_as_utf8(path), "rst")


def read_org(path: Path) -> Iterator[Block]:
    """Yield the blocks of an Org file in any encoding."""
    yield from _through_pandoc(_as_utf8(path), "org")


def read_rtf(path: Path) -> Iterator[Block]:
    """Yield the blocks of an RTF file; the Chinese code pages, which pandoc does not know, are translated first."""
    copy = Path("document.rtf")
    copy.write_bytes(with_unicode_escapes(path.read_bytes()))
    yield from _through_pandoc(copy, "rtf")


def mail_body(path: Path, kind: str) -> Iterator[Block]:
    """Yield the body of a mail (`eml` or `msg`), its HTML version where it has one; attachments are not opened."""
    quiet_spacy.install()
    name = "email" if kind == "eml" else "msg"
    partition = getattr(import_module(f"unstructured.partition.{name}"), f"partition_{name}")
    yield from element_blocks(partition(filename=str(path), process_attachments=False, languages=NO_LANGUAGE))


def _as_utf8(path: Path) -> Path:
    copy = Path(f"document{path.suffix}")
    copy.write_text(clean_text(decode_text(path.read_bytes())) + "\n", encoding="utf-8")
    return copy


def _through_pandoc(path: Path, source_format: str) -> Iterator[Block]:
    quiet_spacy.install()
    from unstructured.file_utils.file_conversion import convert_file_to_html_text_using_pandoc
    from unstructured.partition.html import partition_html

    try:
        html = convert_file_to_html_text_using_pandoc(source_format, filename=str(path))
    except (RuntimeError, ValueError) as exc:
        raise DocumentError("corrupt", "This file is damaged. Open it in its own program and save it again.") from exc
    if html.strip():
        yield from element_blocks(partition_html(text=_plainer(html), languages=NO_LANGUAGE))


def _plainer(html: str) -> str:
    """Return HTML without what unstructured's parser drops together with its text: some inline marks, inner tables."""
    root = parse_html(html)
    if root is None:
        return html
    etree.strip_tags(root, *UNWRAPPED)
    for inner in list(root.iterfind(".//table//table")):
        for row in list(inner.iter("tr")):
            row.tag = "p"
        etree.strip_tags(inner, "thead", "tbody", "tfoot", "td", "th", "colgroup", "col")
        inner.tag = "div"
    return str(etree.tostring(root, encoding="unicode", method="html"))


def element_blocks(elements: Iterable[Any]) -> Iterator[Block]:
    """Yield blocks for unstructured's elements; list items that follow each other are one block."""
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


def by_libreoffice(path: Path, kind: str) -> Path:
    """Return the .docx or .pptx that LibreOffice (`soffice`) makes of a `doc` or `ppt`.

    Raises DocumentError `corrupt` where it makes none.
    """
    quiet_spacy.install()
    from unstructured.partition.common.common import convert_office_doc

    source = Path(f"document.{kind}")
    shutil.copyfile(path, source)
    convert_office_doc(str(source), ".", target_format=f"{kind}x")
    target = source.with_suffix(f".{kind}x")
    if not target.exists():
        raise DocumentError("corrupt", "This file is damaged. Open it in Office and save it as .docx or .pptx.")
    return target
