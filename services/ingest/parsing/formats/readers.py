"""Which module reads which media type. Each is imported when its first document comes, and not before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path, PurePosixPath

from zhiwen.common.errors import DocumentError
from zhiwen.common.models import Block
from zhiwen.ingest.parsing.detect import media
from zhiwen.ingest.parsing.text.normalise import clean_text, one_line

Reader = Callable[[Path], Iterator[Block]]

READERS = {
    media.TEXT: "plain:read_plain",
    media.MARKDOWN: "markdown:read_markdown",
    media.HTML: "html:read_html",
    media.CSV: "delimited:read_csv",
    media.TSV: "delimited:read_tsv",
    media.JSON: "json_data:read_json",
    media.JSON_LINES: "json_data:read_json_lines",
    media.XML: "xml_data:read_xml",
    media.RST: "pandoc:read_rst",
    media.ORG: "pandoc:read_org",
    media.ODT: "pandoc:read_odt",
    media.EPUB: "pandoc:read_epub",
    media.RTF: "pandoc:read_rtf",
    media.MAIL: "mail:read_mail",
    media.OUTLOOK: "outlook:read_outlook",
    media.PDF: "pdf:read_pdf",
    media.DOCX: "docx:read_docx",
    media.PPTX: "pptx:read_pptx",
    media.XLSX: "xlsx:read_xlsx",
    media.DOC: "doc:read_doc",
    media.PPT: "ppt:read_ppt",
    media.XLS: "xls:read_xls",
    media.ODP: "odp:read_odp",
    media.PNG: "image:read_image",
    media.JPEG: "image:read_image",
    media.TIFF: "image:read_image",
}


def read_document(path: Path, name: str) -> Iterator[Block]:
    """Yield the blocks of a document, their text normalised; raises DocumentError and whatever its reader raises."""
    with path.open("rb") as file:
        head = file.read(media.LOOK_BYTES)
    media_type = media.detect_media_type(head, name)
    if head.startswith((b"PK", b"\xd0\xcf")):
        from zhiwen.ingest.parsing.detect.containers import inspect_container

        media_type = inspect_container(path, media_type)
    reader = find_reader(media_type, name)
    for block in reader(path):
        cleaned = _clean(block)
        if cleaned.text.strip():
            yield cleaned


def find_reader(media_type: str, name: str) -> Reader:
    """Return the reader of a media type; raises DocumentError where there is none."""
    if media_type == media.ZIP:
        raise DocumentError("unsupported-type", "An archive inside an archive is not opened. Upload its files alone.")
    if media_type not in READERS:
        raise media.unsupported(PurePosixPath(name).suffix.lower())
    module, function = READERS[media_type].split(":")
    reader: Reader = getattr(import_module(f"zhiwen.ingest.parsing.formats.{module}"), function)
    return reader


def _clean(block: Block) -> Block:
    return replace(
        block,
        text=clean_text(block.text),
        heading=tuple(filter(None, (one_line(clean_text(title)) for title in block.heading))),
        header=clean_text(block.header) if block.header else None,
    )
