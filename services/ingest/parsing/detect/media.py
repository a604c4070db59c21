"""Detects the media type of a file by its content first, then by its name. Pure, cheap, and without parsing."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from zhiwen.common.errors import DocumentError
from zhiwen.ingest.parsing.detect.decode import find_encoding
from zhiwen.ingest.parsing.registry import BY_SUFFIX, FORMATS, Container, formats_in

# The media types that need more than the table of formats to be detected.
TEXT = "text/plain"
HTML = "text/html"
XML = "application/xml"
MAIL = "message/rfc822"
PDF = "application/pdf"
DOC = "application/msword"
ZIP = "application/zip"
OLE = "application/x-ole-storage"

SUPPORTED_SUFFIXES = frozenset(BY_SUFFIX)
MAGIC = (
    *((magic, known.media_type) for known in FORMATS for magic in known.magic),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", OLE),
    (b"PK\x03\x04", ZIP),
    (b"PK\x05\x06", ZIP),
    (b"PK00PK\x03\x04", ZIP),
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
    """Return the media type of a file from its first bytes (8 KiB are enough) and its name.

    A zip that is not an office document is `application/zip`, and the caller unpacks it. Raises DocumentError:
    `empty-file` for no bytes, `unsupported-type` for a type without a reader.
    """
    if not head:
        raise DocumentError("empty-file", "The file is empty (0 bytes). Upload it again.")
    suffix = PurePosixPath(name).suffix.lower()
    found = _by_magic(head)
    if found == ZIP:
        return _zip_type(head, suffix)
    if found == OLE:
        # An encrypted .docx is also an OLE container. The reader inspects it.
        return _by_name(suffix, "ole") or _by_name(suffix, "zip") or DOC
    if found is not None:
        return found
    if _looks_like_text(head[:LOOK_BYTES], suffix):
        return _text_type(head, suffix)
    raise unsupported(suffix)


def unsupported(suffix: str) -> DocumentError:
    """Return the error for a type without a reader."""
    if suffix in SUPPORTED_SUFFIXES:
        said = f"The content is not that of a {suffix} file. Open it where it was made, and save it again."
    else:
        kind = f"Files of type {suffix}" if re.fullmatch(r"\.\w{1,10}", suffix) else "Files of this type"
        said = f"{kind} cannot be read. Convert it to PDF, DOCX, Markdown or text."
    return DocumentError("unsupported-type", said)


def _by_magic(head: bytes) -> str | None:
    for magic, media_type in MAGIC:
        if head.startswith(magic):
            return media_type
    return PDF if b"%PDF-" in head[:PDF_HEADER_WITHIN] else None


def _by_name(suffix: str, container: Container) -> str | None:
    known = BY_SUFFIX.get(suffix)
    return known.media_type if known is not None and known.container == container else None


def _zip_type(head: bytes, suffix: str) -> str:
    for known in formats_in("zip"):
        if b"mimetype" + known.media_type.encode() in head[:200]:
            return known.media_type
    if suffix in UNREADABLE_ZIPS:
        raise unsupported(suffix)
    by_name = _by_name(suffix, "zip") or ZIP
    if any(mark in head for mark in OFFICE_MARKS):
        found = (known.media_type for known in formats_in("zip") if known.marks and known.marks[-1].encode() in head)
        return next(found, by_name)
    return by_name


def _looks_like_text(head: bytes, suffix: str) -> bool:
    encoding = find_encoding(head)
    if encoding.startswith(("utf-16", "utf-32")):
        return True
    text = head.decode(encoding, "replace")
    odd = sum((c < " " and c not in "\t\n\r\f") or c == "\ufffd" or "\x7f" <= c <= "\x9f" for c in text)
    if _by_name(suffix, "text") is not None:
        return odd * 3 < len(text)
    return odd * 100 < len(text)


def _text_type(head: bytes, suffix: str) -> str:
    by_name = _by_name(suffix, "text")
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
