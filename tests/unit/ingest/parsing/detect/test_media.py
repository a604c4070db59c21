"""The type of a file: by its content first, by its name where the content leaves it open."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhiwen.common.errors import DocumentError
from zhiwen.ingest.parsing import SUPPORTED_SUFFIXES, detect_media_type
from zhiwen.ingest.parsing.registry import BY_MEDIA_TYPE, FORMATS, SHEETS, SLIDES, WORD, find_reader

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
OFFICE_ZIP = b"PK\x03\x04" + b"\0" * 26 + b"[Content_Types].xml"


@pytest.mark.parametrize(
    ("head", "name", "media_type"),
    [
        (b"%PDF-1.7", "a.txt", "application/pdf"),
        (b"\n%PDF-1.4", "a.pdf", "application/pdf"),
        (b"{\\rtf1", "a.doc", "application/rtf"),
        (b"\x89PNG\r\n\x1a\n", "scan.pdf", "image/png"),
        (b"\xff\xd8\xff\xe0", "a", "image/jpeg"),
        (b"II*\0", "a.tif", "image/tiff"),
        (OLE, "a.doc", "application/msword"),
        (OLE, "a.xls", "application/vnd.ms-excel"),
        (OLE, "a.msg", "application/vnd.ms-outlook"),
        (OLE, "locked.docx", WORD),
        (OFFICE_ZIP + b" word/document.xml", "a.zip", WORD),
        (OFFICE_ZIP + b" xl/workbook.xml", "a.docx", SHEETS),
        (OFFICE_ZIP, "a.pptx", SLIDES),
        (b"PK\x03\x04" + b"\0" * 26 + b"mimetypeapplication/epub+zip", "a.zip", "application/epub+zip"),
        (b"PK\x03\x04" + b"\0" * 26 + b"readme.txt", "a.zip", "application/zip"),
        (b"PK\x05\x06" + b"\0" * 18, "a.zip", "application/zip"),
        (b"<!DOCTYPE html><p>", "report.xls", "text/html"),
        (b"<html>", "page", "text/html"),
        (b"<?xml version='1.0'?><a/>", "data", "application/xml"),
        (b"From: a@b.c\nTo: d@e.f\nSubject: x\n\nText", "mail", "message/rfc822"),
        ("中文".encode("gbk"), "a.txt", "text/plain"),
        ("中文".encode("utf-16"), "a.csv", "text/csv"),
        ("说明。".encode(), "README", "text/plain"),
        (b"x = 1\n", "settings.yaml", "text/plain"),
        (b"# x", "A.MD", "text/markdown"),
        (b"{}", "a.ndjson", "application/jsonl"),
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


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a.pdf", "The content is not that of a .pdf file."),
        ("a.exe", "Files of type .exe cannot be read."),
        ("a", "Files of this type cannot be read."),
    ],
)
def test_refusal_says_what_is_wrong(name: str, said: str) -> None:
    with pytest.raises(DocumentError) as caught:
        detect_media_type(bytes(range(256)), name)
    assert caught.value.detail.startswith(said)


@settings(deadline=None)
@given(st.binary(max_size=300), st.sampled_from(sorted(SUPPORTED_SUFFIXES)))
def test_any_bytes_have_a_readable_type_or_are_refused(head: bytes, suffix: str) -> None:
    try:
        media_type = detect_media_type(head, f"a{suffix}")
    except DocumentError as exc:
        media_type = exc.code
    assert media_type in {*BY_MEDIA_TYPE, "empty-file", "unsupported-type"}


def test_every_format_that_was_promised_is_supported() -> None:
    documents = "txt md html pdf docx doc pptx ppt odt rtf rst org epub eml msg"
    data = "xlsx xls csv tsv json jsonl xml png jpg tiff zip"
    assert {f".{suffix}" for suffix in f"{documents} {data}".split()} <= SUPPORTED_SUFFIXES


def test_no_suffix_and_no_media_type_stands_twice_in_the_table() -> None:
    suffixes = [suffix for known in FORMATS for suffix in known.suffixes]
    assert len(suffixes) == len(set(suffixes)) == len(SUPPORTED_SUFFIXES)
    assert len(FORMATS) == len(BY_MEDIA_TYPE)


def test_every_format_but_zip_has_a_reader_that_can_be_imported() -> None:
    assert [known.media_type for known in FORMATS if find_reader(known.media_type) is None] == ["application/zip"]
    assert find_reader("application/x-tar") is None
