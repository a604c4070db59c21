"""Files made to harm: each ends in text or in a typed error, within its limits, touching nothing else."""

from __future__ import annotations

import io
import os
import socket
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pypdfium2
import pytest
from PIL import Image

from zhiwen.common.errors import DocumentError
from zhiwen.common.models import Block
from zhiwen.ingest.parsing import ParserLimits, ParserPool

MEBIBYTE = 1024 * 1024
LIMITS = ParserLimits(memory_bytes=1024 * MEBIBYTE, cpu_seconds=20, wall_seconds=30, output_bytes=16 * MEBIBYTE)
DEEP = 100_000
LAUGHS = "<!DOCTYPE l [<!ENTITY a0 'ha'>" + "".join(f"<!ENTITY a{n} '{f'&a{n - 1};' * 10}'>" for n in range(1, 10))
SECRET = "the-secret-of-this-machine"


@pytest.fixture(scope="module")
def pool() -> Iterator[ParserPool]:
    pool = ParserPool(1, LIMITS)
    yield pool
    pool.close()


def outcome(pool: ParserPool, folder: Path, name: str, content: bytes) -> list[Block] | str:
    """The blocks of a file, or the code of its error."""
    path = folder / "original"
    path.write_bytes(content)
    try:
        return pool.parse(path, name)
    except DocumentError as exc:
        return exc.code


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/"), content)
    return buffer.getvalue()


def word(body: str, doctype: str = "") -> bytes:
    namespace = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    xml = f'<?xml version="1.0"?>{doctype}<w:document xmlns:w="{namespace}"><w:body>{body}</w:body></w:document>'
    return zipped(**{"[Content_Types].xml": b"<Types/>", "word__document.xml": xml.encode()})


def paragraph(text: str) -> str:
    return f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>"


def open_document(body: str, doctype: str = "") -> bytes:
    names = " ".join(f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"' for name in ("office", "text"))
    content = f"{doctype}<office:document-content {names}><office:body><office:text>{body}</office:text>"
    styles = f"<office:document-styles {names}><office:styles/><office:automatic-styles/><office:master-styles/>"
    return zipped(
        mimetype=b"application/vnd.oasis.opendocument.text",
        **{
            "content.xml": f"{content}</office:body></office:document-content>".encode(),
            "styles.xml": f"{styles}</office:document-styles>".encode(),
        },
    )


TYPED = {
    "empty.pdf": (b"", "empty-file"),
    "bytes.bin": (bytes(range(256)) * 64, "unsupported-type"),
    "program.txt": (b"\x7fELF" + bytes(range(256)) * 64, "unsupported-type"),
    "laughs.xml": (f"{LAUGHS}]><l>&a9;</l>".encode(), "unsafe-xml"),
    "laughs.docx": (word(paragraph("&a9;"), f"{LAUGHS}]>"), "unsafe-xml"),
    "external.xml": (b'<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><a>&e;</a>', "unsafe-xml"),
    "parameter.xml": (b'<!DOCTYPE a [<!ENTITY % e SYSTEM "http://127.0.0.1/x"> %e;]><a>x</a>', "unsafe-xml"),
    "bomb.docx": (
        zipped(**{"[Content_Types].xml": b"", "word__document.xml": b" " * (200 * MEBIBYTE)}),
        "archive-bomb",
    ),
    "nested.zip": (zipped(**{"inner.zip": zipped(a=b"x")}), "unsupported-type"),
    "truncated.docx": (word(paragraph("x"))[:-40], "corrupt"),
    "truncated.pdf": (b"%PDF-1.7\n1 0 obj\n<</Type/Catalog", "corrupt"),
    "truncated.png": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "corrupt"),
    "deep.json": (b"[" * DEEP + b"]" * DEEP, "too-deep"),
    "deep-objects.json": (b'{"a":' * DEEP + b"1" + b"}" * DEEP, "too-deep"),
    "deep.xml": (b"<a>" * DEEP + b"x" + b"</a>" * DEEP, "too-deep"),
    "laughs.odt": (open_document("<text:p>&a9;</text:p>", f"{LAUGHS}]>"), "corrupt"),
    "deep.odt": (open_document("<text:section>" * DEEP + "<text:p>x</text:p>" + "</text:section>" * DEEP), "too-deep"),
    "truncated.odt": (open_document("<text:p>x</text:p>")[:-40], "corrupt"),
    "much.txt": ((("很多文字。" * 200).encode() + b"\n\n") * 6_000, "too-much-text"),
}


@pytest.mark.parametrize("name", TYPED)
def test_typed_error(name: str, pool: ParserPool, tmp_path: Path) -> None:
    content, code = TYPED[name]
    assert outcome(pool, tmp_path, name, content) == code


TEXT_OR_ERROR = {
    "deep.html": (b"<div>" * DEEP + "深处的文字".encode() + b"</div>" * DEEP, "深处的文字"),
    "deep-lists.html": (b"<ul><li>" * DEEP + b"deep" + b"</li></ul>" * DEEP, "deep"),
    "deep.md": (b"> " * DEEP + b"deep", "deep"),
    "deep-list.md": (b"".join(b" " * n + b"- a\n" for n in range(300)), "a"),
    "brackets.md": (b"[" * DEEP, "["),
    "deep.rtf": (b"{\\rtf1 " + b"{" * DEEP + b"deep" + b"}" * DEEP + b"}", "deep"),
    "long-line.txt": ("一二三四五".encode() * 350_000, "一二三四五"),
    "long-line.csv": (b"a," * 2_500_000, "a | a"),
    "long-line.md": (b"word " * 1_000_000, "word word"),
    "long-line.html": (b"<p>" + b"word " * 1_000_000, "word word"),
    "long-line.json": (b'{"a": "' + b"x" * 5_000_000 + b'"}', "xxx"),
    "long-line.rst": (b"word " * 40_000, "word word"),
    "spaces.txt": (b"".join(b" " * n + b"x\n" for n in range(3_000)), "x"),
    "nested.rtf": (b"{\\rtf1 " + b"{\\footnote a" * 2_000 + b"}" * 2_000 + b"}", "a"),
    "small.odt": (open_document("<text:p>text</text:p>"), "text"),
    "unclosed.html": (b"<b><p>text<table><tr><td>cell" * 3, "text"),
}


@pytest.mark.parametrize("name", TEXT_OR_ERROR)
def test_text_or_typed_error(name: str, pool: ParserPool, tmp_path: Path) -> None:
    content, expected = TEXT_OR_ERROR[name]
    begun = time.monotonic()
    found = outcome(pool, tmp_path, name, content)
    assert time.monotonic() - begun < LIMITS.wall_seconds
    if isinstance(found, str):
        assert found in {"too-deep", "corrupt", "parse-timeout", "parse-memory"}
    else:
        assert any(expected in block.text for block in found)


def test_deep_docx_is_text_or_too_deep(pool: ParserPool, tmp_path: Path) -> None:
    found = outcome(pool, tmp_path, "a.docx", word("<w:sdt>" * DEEP + paragraph("x") + "</w:sdt>" * DEEP))
    assert found == "too-deep"


def test_includes_of_other_files_are_not_followed(pool: ParserPool, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text(SECRET)
    sources = {
        "a.rst": f"Text\n\n.. include:: {secret}\n",
        "b.rst": f"Text\n\n.. raw:: html\n   :file: {secret}\n\n.. csv-table::\n   :file: {secret}\n",
        "a.org": f"Text\n\n#+INCLUDE: {secret}\n",
        "a.html": f'<p>Text</p><iframe src="{secret}"></iframe><object data="file://{secret}"></object>',
        "c.rst": f"Text\n\n.. literalinclude:: {secret}\n\n.. image:: {secret}\n",
        "d.rst": f"- .. csv-table:: Text\n     :header: a,\n        b\n     :file: {secret}\n\nText\n",
        "e.rst": f".. |x| raw:: html\n   :file: {secret}\n\nText |x|\n",
        "f.rst": f".. csv-table:: Text\n\n   :file: {secret}\n",
        "a.md": f"Text\n\n![x]({secret})\n",
        "a.rtf": f"{{\\rtf1 Text {{\\field{{\\*\\fldinst INCLUDETEXT {secret} }}}}\\par}}",
    }
    for name, source in sources.items():
        found = outcome(pool, tmp_path, name, source.encode())
        assert SECRET not in str(found)
        assert "Text" in str(found), name


def test_lines_that_look_like_options_of_a_directive_are_kept(pool: ParserPool, tmp_path: Path) -> None:
    source = (
        "Text\n\n- item\n\n  :file: in a list of fields\n\n::\n\n  :url: in code\n\n.. note::\n\n  :file: in a note\n"
    )
    found = str(outcome(pool, tmp_path, "a.rst", source.encode()))
    assert all(text in found for text in ("in a list of fields", ":url: in code", "in a note"))


def test_nothing_is_fetched(pool: ParserPool, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/x"
        for name in ("a.html", "a.md", "a.rst", "a.xml", "a.eml"):
            source = f'<!DOCTYPE html SYSTEM "{address}"><p>Text <img src="{address}"></p>\n\n.. image:: {address}\n'
            assert outcome(pool, tmp_path, name, source.encode())
        with pytest.raises(TimeoutError):
            server.accept()


def test_encrypted_pdf_and_zip_entry(pool: ParserPool, tmp_path: Path) -> None:
    content = bytearray(word(paragraph("x")))
    central = content.index(b"PK\x01\x02")
    content[6] |= 1
    content[central + 8] |= 1
    assert outcome(pool, tmp_path, "a.docx", bytes(content)) == "encrypted"


def test_empty_pages_without_images_are_no_text(pool: ParserPool, tmp_path: Path) -> None:
    document = pypdfium2.PdfDocument.new()
    document.new_page(200, 200)
    buffer = io.BytesIO()
    document.save(buffer)
    assert outcome(pool, tmp_path, "a.pdf", buffer.getvalue()) == "no-text"


def test_image_of_too_many_pixels_is_refused_before_it_is_unpacked(pool: ParserPool, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("1", (20_000, 10_000)).save(buffer, "PNG")
    assert outcome(pool, tmp_path, "a.png", buffer.getvalue()) == "image-too-large"


def test_memory_limit(tmp_path: Path) -> None:
    pool = ParserPool(1, ParserLimits(memory_bytes=192 * MEBIBYTE, wall_seconds=60))
    try:
        assert outcome(pool, tmp_path, "a.json", b"[" + b"{}," * 8_000_000 + b"{}]") == "parse-memory"
        assert outcome(pool, tmp_path, "a.txt", "之后还能读。".encode()) == [Block("之后还能读。")]
    finally:
        pool.close()


def test_wall_time_limit(tmp_path: Path) -> None:
    pool = ParserPool(1, ParserLimits(wall_seconds=0.5))
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    try:
        begun = time.monotonic()
        with pytest.raises(DocumentError) as caught:
            pool.parse(fifo, "a.txt")
        assert caught.value.code == "parse-timeout"
        assert time.monotonic() - begun < 3
        assert outcome(pool, tmp_path, "a.txt", "之后还能读。".encode()) == [Block("之后还能读。")]
    finally:
        pool.close()


def test_cpu_time_limit(tmp_path: Path) -> None:
    pool = ParserPool(1, ParserLimits(cpu_seconds=0.0, wall_seconds=60))
    try:
        assert outcome(pool, tmp_path, "a.json", b"[" + b'{"a": 1},' * 2_000_000 + b"{}]") == "parse-timeout"
    finally:
        pool.close()


def test_a_program_of_a_reader_has_the_cpu_time_of_the_document(tmp_path: Path) -> None:
    pool = ParserPool(1, ParserLimits(cpu_seconds=1.0, wall_seconds=60))
    try:
        assert outcome(pool, tmp_path, "a.txt", b"text") == [Block("text")]
        pids = pool.child_pids()
        assert outcome(pool, tmp_path, "a.org", b"*" * 20_000 + b"a") == "parse-timeout"
        assert outcome(pool, tmp_path, "a.org", b"text") == [Block("text")]
        assert pool.child_pids() == pids
    finally:
        pool.close()


def test_a_program_of_a_reader_has_the_memory_of_the_document(tmp_path: Path) -> None:
    pool = ParserPool(1, ParserLimits(memory_bytes=384 * MEBIBYTE, wall_seconds=60))
    try:
        spaces = open_document('<text:p>x<text:s text:c="2000000000"/>y</text:p>')
        assert outcome(pool, tmp_path, "a.odt", spaces) == "parse-memory"
        assert outcome(pool, tmp_path, "a.odt", open_document("<text:p>text</text:p>")) == [Block("text")]
    finally:
        pool.close()


def test_parser_leaves_nothing_behind(pool: ParserPool, tmp_path: Path) -> None:
    before = set(Path("/tmp").iterdir())
    outcome(pool, tmp_path, "a.rst", b"Text\n")
    outcome(pool, tmp_path, "a.eml", b"From: a@b.c\nSubject: x\n\nText\n")
    assert {path.name for path in tmp_path.iterdir()} == {"original"}
    assert {path for path in set(Path("/tmp").iterdir()) - before if path.name.startswith("zhiwen-parser")} == set()


def test_one_hostile_file_does_not_hold_back_others(tmp_path: Path) -> None:
    pool = ParserPool(2, ParserLimits(wall_seconds=3))
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    codes: list[str] = []

    def hang() -> None:
        with pytest.raises(DocumentError) as caught:
            pool.parse(fifo, "a.txt")
        codes.append(caught.value.code)

    thread = threading.Thread(target=hang)
    thread.start()
    try:
        begun = time.monotonic()
        for _ in range(20):
            assert outcome(pool, tmp_path, "a.txt", b"text") == [Block("text")]
        assert time.monotonic() - begun < 2
        thread.join()
        assert codes == ["parse-timeout"]
    finally:
        pool.close()
