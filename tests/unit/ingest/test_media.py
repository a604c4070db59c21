"""The type of a file: by its content first, by its name where the content leaves it open."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhiwen.common.errors import DocumentError
from zhiwen.ingest.parsing import SUPPORTED_SUFFIXES, detect_media_type
from zhiwen.ingest.parsing.detect import media
from zhiwen.ingest.parsing.formats.readers import READERS

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
OFFICE_ZIP = b"PK\x03\x04" + b"\0" * 26 + b"[Content_Types].xml"


@pytest.mark.parametrize(
    ("head", "name", "media_type"),
    [
        (b"%PDF-1.7", "a.txt", media.PDF),
        (b"\n%PDF-1.4", "a.pdf", media.PDF),
        (b"{\\rtf1", "a.doc", media.RTF),
        (b"\x89PNG\r\n\x1a\n", "scan.pdf", media.PNG),
        (b"\xff\xd8\xff\xe0", "a", media.JPEG),
        (b"II*\0", "a.tif", media.TIFF),
        (OLE, "a.doc", media.DOC),
        (OLE, "a.xls", media.XLS),
        (OLE, "a.msg", media.OUTLOOK),
        (OLE, "locked.docx", media.DOCX),
        (OFFICE_ZIP + b" word/document.xml", "a.zip", media.DOCX),
        (OFFICE_ZIP + b" xl/workbook.xml", "a.docx", media.XLSX),
        (OFFICE_ZIP, "a.pptx", media.PPTX),
        (b"PK\x03\x04" + b"\0" * 26 + b"mimetypeapplication/epub+zip", "a.zip", media.EPUB),
        (b"PK\x03\x04" + b"\0" * 26 + b"readme.txt", "a.zip", media.ZIP),
        (b"PK\x05\x06" + b"\0" * 18, "a.zip", media.ZIP),
        (b"<!DOCTYPE html><p>", "report.xls", media.HTML),
        (b"<html>", "page", media.HTML),
        (b"<?xml version='1.0'?><a/>", "data", media.XML),
        (b"From: a@b.c\nTo: d@e.f\nSubject: x\n\nText", "mail", media.MAIL),
        ("中文".encode("gbk"), "a.txt", media.TEXT),
        ("中文".encode("utf-16"), "a.csv", media.CSV),
        ("说明。".encode(), "README", media.TEXT),
        (b"x = 1\n", "settings.yaml", media.TEXT),
        (b"# x", "A.MD", media.MARKDOWN),
        (b"{}", "a.ndjson", media.JSON_LINES),
    ],
)
def test_media_type(head: bytes, name: str, media_type: str) -> None:
    assert detect_media_type(head, name) == media_type


@pytest.mark.parametrize(
    ("head", "name", "code"),
    [
        (b"", "a.txt", "empty-file"),
        (b"\x7fELF\x02\x01\x01" + b"\0" * 100, "a", "unsupported-type"),
        (b"7z\xbc\xaf\x27\x1c\0\x04" + bytes(range(200)), "a.7z", "unsupported-type"),
        (b"Rar!\x1a\x07\x01\0" + bytes(range(200)), "a.txt", "unsupported-type"),
        (bytes(range(256)), "a.bin", "unsupported-type"),
        (OFFICE_ZIP, "a.xlsb", "unsupported-type"),
    ],
)
def test_refused(head: bytes, name: str, code: str) -> None:
    with pytest.raises(DocumentError) as caught:
        detect_media_type(head, name)
    assert caught.value.code == code


@settings(deadline=None)
@given(st.binary(max_size=300), st.sampled_from(sorted(SUPPORTED_SUFFIXES)))
def test_any_bytes_have_a_readable_type_or_are_refused(head: bytes, suffix: str) -> None:
    try:
        media_type = detect_media_type(head, f"a{suffix}")
    except DocumentError as exc:
        media_type = exc.code
    assert media_type in {*READERS, media.ZIP, "empty-file", "unsupported-type"}


def test_every_format_that_was_promised_is_supported() -> None:
    documents = "txt md html pdf docx doc pptx ppt odt rtf rst org epub eml msg"
    data = "xlsx xls csv tsv json jsonl xml png jpg tiff zip"
    assert {f".{suffix}" for suffix in f"{documents} {data}".split()} <= SUPPORTED_SUFFIXES
