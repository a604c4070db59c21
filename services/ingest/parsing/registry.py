"""All file formats in one table: the media type, the suffixes, the reader, and the marks of each.

To add a format, add a module with its reader to `formats`, and a line here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal

from zhiwen.common.models import Block

Reader = Callable[[Path], Iterator[Block]]
Container = Literal["text", "binary", "zip", "ole"]

WORD = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
SLIDES = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
SHEETS = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
OPEN_DOCUMENT = "application/vnd.oasis.opendocument"
# Excel before 97 writes no OLE container ([MS-XLS] 2.4.21, and the older formats BIFF2-4).
OLD_EXCEL = (b"\x09\x08\x10\x00\x00\x06\x05\x00", b"\x09\x04\x06\x00", b"\x09\x02\x06\x00", b"\x09\x00\x04\x00")


@dataclass(frozen=True, slots=True)
class Format:
    """A file format.

    `reader` is `module:function` in the package `formats`; None: the upload unpacks the file. `container` is the kind
    of its bytes. `magic` are its possible first bytes. `marks` are names inside the container, in lower case, the
    surest first: beginnings of member names in a zip, names of streams in an OLE container. A zip that names its media
    type in a member `mimetype` needs no marks.
    """

    media_type: str
    suffixes: tuple[str, ...]
    reader: str | None
    container: Container = "text"
    magic: tuple[bytes, ...] = ()
    marks: tuple[str, ...] = ()


FORMATS = (
    Format("text/plain", (".txt", ".text", ".log"), "plain:read_plain"),
    Format("text/markdown", (".md", ".markdown"), "markdown:read_markdown"),
    Format("text/html", (".html", ".htm", ".xhtml"), "html:read_html"),
    Format("text/csv", (".csv",), "delimited:read_csv"),
    Format("text/tab-separated-values", (".tsv", ".tab"), "delimited:read_tsv"),
    Format("application/json", (".json",), "json_data:read_json"),
    Format("application/jsonl", (".jsonl", ".ndjson"), "json_data:read_json_lines"),
    Format("application/xml", (".xml",), "xml_data:read_xml"),
    Format("text/x-rst", (".rst",), "pandoc:read_rst"),
    Format("text/org", (".org",), "pandoc:read_org"),
    Format("message/rfc822", (".eml",), "mail:read_mail"),
    Format("application/pdf", (".pdf",), "pdf:read_pdf", "binary"),  # `%PDF-` may come after other bytes
    Format("application/rtf", (".rtf",), "pandoc:read_rtf", "binary", (b"{\\rtf",)),
    Format("image/png", (".png",), "image:read_image", "binary", (b"\x89PNG\r\n\x1a\n",)),
    Format("image/jpeg", (".jpg", ".jpeg"), "image:read_image", "binary", (b"\xff\xd8\xff",)),
    Format("image/tiff", (".tif", ".tiff"), "image:read_image", "binary", (b"II*\0", b"MM\0*")),
    Format(WORD, (".docx", ".docm", ".dotx"), "docx:read_docx", "zip", marks=("word/",)),
    Format(SLIDES, (".pptx", ".pptm", ".ppsx"), "pptx:read_pptx", "zip", marks=("ppt/presentation", "ppt/")),
    Format(SHEETS, (".xlsx", ".xlsm"), "xlsx:read_xlsx", "zip", marks=("xl/workbook.xml", "xl/")),
    Format(f"{OPEN_DOCUMENT}.text", (".odt",), "pandoc:read_odt", "zip"),
    Format(f"{OPEN_DOCUMENT}.presentation", (".odp",), "odp:read_odp", "zip"),
    Format("application/epub+zip", (".epub",), "pandoc:read_epub", "zip"),
    Format("application/zip", (".zip",), None, "zip"),
    Format("application/msword", (".doc", ".dot"), "doc:read_doc", "ole", marks=("worddocument",)),
    Format("application/vnd.ms-powerpoint", (".ppt", ".pps"), "ppt:read_ppt", "ole", marks=("powerpoint document",)),
    Format("application/vnd.ms-excel", (".xls", ".xlt"), "xls:read_xls", "ole", OLD_EXCEL, ("workbook", "book")),
    Format("application/vnd.ms-outlook", (".msg",), "outlook:read_outlook", "ole", marks=("__properties_version1.0",)),
)
BY_MEDIA_TYPE = {known.media_type: known for known in FORMATS}
BY_SUFFIX = {suffix: known for known in FORMATS for suffix in known.suffixes}


def formats_in(container: Container) -> Iterator[Format]:
    """Yield the formats with this kind of container, in the order of the table."""
    return (known for known in FORMATS if known.container == container)


def find_reader(media_type: str) -> Reader | None:
    """Return the reader of a media type; None if there is none. This imports the module of the reader."""
    known = BY_MEDIA_TYPE.get(media_type)
    if known is None or known.reader is None:
        return None
    module, function = known.reader.split(":")
    reader: Reader = getattr(import_module(f"zhiwen.ingest.parsing.formats.{module}"), function)
    return reader
