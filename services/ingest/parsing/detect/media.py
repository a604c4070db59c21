"""What a file is: told by its content first, then by its name. Pure, cheap, and never parses anything."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from zhiwen.common.errors import DocumentError
from zhiwen.ingest.parsing.detect.decode import find_encoding

OFFICE = "application/vnd.openxmlformats-officedocument"
TEXT = "text/plain"
MARKDOWN = "text/markdown"
HTML = "text/html"
CSV = "text/csv"
TSV = "text/tab-separated-values"
JSON = "application/json"
JSON_LINES = "application/jsonl"
XML = "application/xml"
RST = "text/x-rst"
ORG = "text/org"
MAIL = "message/rfc822"
PDF = "application/pdf"
RTF = "application/rtf"
DOCX = f"{OFFICE}.wordprocessingml.document"
PPTX = f"{OFFICE}.presentationml.presentation"
XLSX = f"{OFFICE}.spreadsheetml.sheet"
DOC = "application/msword"
PPT = "application/vnd.ms-powerpoint"
XLS = "application/vnd.ms-excel"
OUTLOOK = "application/vnd.ms-outlook"
ODT = "application/vnd.oasis.opendocument.text"
ODP = "application/vnd.oasis.opendocument.presentation"
EPUB = "application/epub+zip"
PNG = "image/png"
JPEG = "image/jpeg"
TIFF = "image/tiff"
ZIP = "application/zip"
OLE = "application/x-ole-storage"

TEXT_SUFFIXES = {
    ".txt": TEXT,
    ".text": TEXT,
    ".log": TEXT,
    ".md": MARKDOWN,
    ".markdown": MARKDOWN,
    ".html": HTML,
    ".htm": HTML,
    ".xhtml": HTML,
    ".csv": CSV,
    ".tsv": TSV,
    ".tab": TSV,
    ".json": JSON,
    ".jsonl": JSON_LINES,
    ".ndjson": JSON_LINES,
    ".xml": XML,
    ".rst": RST,
    ".org": ORG,
    ".eml": MAIL,
}
ZIP_SUFFIXES = {
    ".docx": DOCX,
    ".docm": DOCX,
    ".dotx": DOCX,
    ".pptx": PPTX,
    ".pptm": PPTX,
    ".ppsx": PPTX,
    ".xlsx": XLSX,
    ".xlsm": XLSX,
    ".odt": ODT,
    ".odp": ODP,
    ".epub": EPUB,
    ".zip": ZIP,
}
OLE_SUFFIXES = {".doc": DOC, ".dot": DOC, ".ppt": PPT, ".pps": PPT, ".xls": XLS, ".xlt": XLS, ".msg": OUTLOOK}
OTHER_SUFFIXES = {
    ".pdf": PDF,
    ".rtf": RTF,
    ".png": PNG,
    ".jpg": JPEG,
    ".jpeg": JPEG,
    ".tif": TIFF,
    ".tiff": TIFF,
}
SUPPORTED_SUFFIXES: frozenset[str] = frozenset({*TEXT_SUFFIXES, *ZIP_SUFFIXES, *OLE_SUFFIXES, *OTHER_SUFFIXES})

MAGIC = (
    (b"\x89PNG\r\n\x1a\n", PNG),
    (b"\xff\xd8\xff", JPEG),
    (b"II*\0", TIFF),
    (b"MM\0*", TIFF),
    (b"{\\rtf", RTF),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", OLE),
    (b"PK\x03\x04", ZIP),
    (b"PK\x05\x06", ZIP),
    (b"PK00PK\x03\x04", ZIP),
    # Excel before 97 writes no OLE container ([MS-XLS] 2.4.21 and its ancestors BIFF2-4).
    (b"\x09\x08\x10\x00\x00\x06\x05\x00", XLS),
    (b"\x09\x04\x06\x00", XLS),
    (b"\x09\x02\x06\x00", XLS),
    (b"\x09\x00\x04\x00", XLS),
)
ZIP_MARKS = (
    (b"mimetypeapplication/vnd.oasis.opendocument.text", ODT),
    (b"mimetypeapplication/vnd.oasis.opendocument.presentation", ODP),
    (b"mimetypeapplication/epub+zip", EPUB),
    (b"word/", DOCX),
    (b"ppt/", PPTX),
    (b"xl/", XLSX),
)
OFFICE_MARKS = (b"[Content_Types].xml", b"_rels/.rels", b"docProps/")
UNREADABLE_ZIPS = frozenset({".xlsb", ".ods", ".pages", ".numbers", ".key", ".jar", ".apk", ".vsdx", ".xps"})
PDF_HEADER_WITHIN = 1024
LOOK_BYTES = 8192
MARKUP_HTML = re.compile(
    r"^\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body)\b", re.I | re.S
)
MARKUP_XML = re.compile(r"^\s*<\?xml\s", re.I)
MAIL_HEADERS = re.compile(r"(?:[A-Za-z][A-Za-z0-9-]*:[^\n]*\n(?:[ \t][^\n]*\n)*){2,}", re.A)
MAIL_HEADER_NAMES = re.compile(r"^(?:from|to|subject|date|received|mime-version|message-id|return-path):", re.I | re.M)


def detect_media_type(head: bytes, name: str) -> str:
    """Return the media type of a file from its first bytes (8 KiB are plenty) and its name.

    A zip that is no office document is `application/zip`, which the caller unpacks. Raises DocumentError:
    `empty-file` for no bytes at all, `unsupported-type` for what no reader here understands.
    """
    if not head:
        raise DocumentError("empty-file", "The file is empty (0 bytes). Upload it again.")
    suffix = PurePosixPath(name).suffix.lower()
    found = _by_magic(head)
    if found == ZIP:
        return _zip_type(head, suffix)
    if found == OLE:
        # An encrypted .docx is an OLE container too: the reader looks inside.
        return OLE_SUFFIXES.get(suffix) or ZIP_SUFFIXES.get(suffix) or DOC
    if found is not None:
        return found
    if _looks_like_text(head[:LOOK_BYTES], suffix):
        return _text_type(head, suffix)
    raise unsupported(suffix)


def unsupported(suffix: str) -> DocumentError:
    """Return the error for a type that no reader understands."""
    kind = f"Files of type {suffix}" if re.fullmatch(r"\.\w{1,10}", suffix) else "Files of this type"
    return DocumentError(
        "unsupported-type",
        f"{kind} cannot be read, or the content is not what the name says. Convert it to PDF, DOCX, Markdown or text.",
    )


def _by_magic(head: bytes) -> str | None:
    for magic, media_type in MAGIC:
        if head.startswith(magic):
            return media_type
    return PDF if b"%PDF-" in head[:PDF_HEADER_WITHIN] else None


def _zip_type(head: bytes, suffix: str) -> str:
    for mark, media_type in ZIP_MARKS[:3]:
        if mark in head[:200]:
            return media_type
    if suffix in UNREADABLE_ZIPS:
        raise unsupported(suffix)
    by_name = ZIP_SUFFIXES.get(suffix, ZIP)
    if any(mark in head for mark in OFFICE_MARKS):
        by_content = next((media_type for mark, media_type in ZIP_MARKS[3:] if mark in head), None)
        return by_content or by_name
    return by_name


def _looks_like_text(head: bytes, suffix: str) -> bool:
    encoding = find_encoding(head)
    if encoding.startswith(("utf-16", "utf-32")):
        return True
    text = head.decode(encoding, "replace")
    odd = sum((c < " " and c not in "\t\n\r\f") or c == "\ufffd" or "\x7f" <= c <= "\x9f" for c in text)
    if suffix in TEXT_SUFFIXES:
        return odd * 3 < len(text)
    return odd * 100 < len(text)


def _text_type(head: bytes, suffix: str) -> str:
    by_name = TEXT_SUFFIXES.get(suffix)
    if by_name is not None:
        return by_name
    text = head[:LOOK_BYTES].decode(find_encoding(head[:LOOK_BYTES]), "replace").removeprefix("\ufeff")
    if MARKUP_HTML.match(text):
        return HTML
    if MARKUP_XML.match(text):
        return XML
    headers = MAIL_HEADERS.match(text.replace("\r\n", "\n"))
    if headers and len(MAIL_HEADER_NAMES.findall(headers.group())) > 1:
        return MAIL
    return TEXT
