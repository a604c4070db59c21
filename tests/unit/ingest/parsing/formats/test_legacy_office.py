"""The binary structures of .doc and .ppt, built by hand: present text is read, deleted text is not."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhiwen.common.errors import DocumentError
from zhiwen.ingest.parsing.formats import doc_fib, ppt
from zhiwen.ingest.parsing.formats.doc import visible_text

CHINESE = "中文，段落。"


def word_97(text: str, *, flags: int = 0, magic: int = 0xA5EC) -> tuple[bytes, bytes]:
    """Return a WordDocument stream and its 0Table: one UTF-16 piece, then one compressed piece with `ASCII`."""
    unicode_part, ascii_part = text.encode("utf-16-le"), b"ASCII\r"
    word = bytearray(2048) + unicode_part + ascii_part
    struct.pack_into("<HH", word, 0, magic, 0x00C1)
    struct.pack_into("<HHH", word, 6, 0x0804, 0, flags)
    count = len(text) + len(ascii_part)
    struct.pack_into("<i", word, 0x4C, count)
    plc = struct.pack("<III", 0, len(text), count)
    plc += struct.pack("<HIH", 0, 2048, 0)
    plc += struct.pack("<HIH", 0, (2048 + len(unicode_part)) * 2 | 0x40000000, 0)
    clx = b"\x01" + struct.pack("<H", 3) + b"abc" + b"\x02" + struct.pack("<I", len(plc)) + plc
    struct.pack_into("<II", word, 0x01A2, 0, len(clx))
    return bytes(word), clx


def test_pieces_of_both_widths_are_read_in_order() -> None:
    word, table = word_97(f"{CHINESE}\r")
    fib = doc_fib.read_fib(word)
    assert fib.table_stream == "0Table"
    assert "".join(piece.text for piece in doc_fib.text_pieces(word, table, fib)) == f"{CHINESE}\rASCII\r"


def test_word_6_text_is_in_the_code_page_of_its_language() -> None:
    text = CHINESE.encode("gbk")
    word = bytearray(0x300) + text
    struct.pack_into("<HHHHHH", word, 0, 0xA5DC, 0x0065, 0, 0x0804, 0, 0)
    struct.pack_into("<II", word, 0x18, 0x300, 0x300 + len(text))
    struct.pack_into("<i", word, 0x34, len(text))
    (piece,) = doc_fib.text_pieces(bytes(word), b"", doc_fib.read_fib(bytes(word)))
    assert piece.text == CHINESE


@pytest.mark.parametrize(
    ("word", "code"),
    [(word_97("x", flags=0x0100)[0], "encrypted"), (word_97("x", magic=1)[0], "corrupt"), (b"\xec\xa5", "corrupt")],
)
def test_fib_errors(word: bytes, code: str) -> None:
    with pytest.raises(DocumentError) as caught:
        doc_fib.read_fib(word)
    assert caught.value.code == code


@settings(deadline=None)
@given(st.binary(max_size=200), st.integers(0, 2000))
def test_damaged_tables_are_typed_errors(noise: bytes, position: int) -> None:
    word, table = word_97(CHINESE)
    damaged = table[: position % len(table)] + noise
    try:
        pieces = doc_fib.text_pieces(word, damaged, doc_fib.read_fib(word))
    except DocumentError as exc:
        pieces = []
        code = exc.code
    else:
        code = "corrupt"
    assert code == "corrupt"
    assert sum(len(piece.text) for piece in pieces) < 20 * len(word)


def test_fields_show_their_result_only() -> None:
    assert visible_text('见 \x13 HYPERLINK "x" \x14链接\x15。\x0b下\x1f行\x1e') == "见 链接。\n下行-"


def record(kind: int, body: bytes, instance: int = 0, *, container: bool = False) -> bytes:
    return struct.pack("<HHI", instance << 4 | (0xF if container else 0), kind, len(body)) + body


def text_atoms(kind: int, text: str) -> bytes:
    return record(3999, struct.pack("<I", kind)) + record(4000, text.encode("utf-16-le"))


def presentation(*, encrypted: bool = False) -> tuple[bytes, int]:
    """Return a stream with one live slide, its notes and a slide that was deleted, and where its last edit is."""
    slide_atom = record(1007, struct.pack("<IQII", 0, 0, 0, 301) + b"\0\0\0\0")
    slide = record(1006, slide_atom + record(0xF00D, text_atoms(4, "画上的字"), container=True), container=True)
    notes = record(1008, record(0xF00D, text_atoms(2, "备注"), container=True), container=True)
    deleted = record(1006, record(0xF00D, text_atoms(4, "已删除"), container=True), container=True)
    places, stream = {}, b""
    for key, part in ((2, slide), (3, notes), (9, deleted)):
        places[key] = len(stream)
        stream += part
    persist = record(1011, struct.pack("<IIIII", 2, 0, 0, 256, 0))
    notes_persist = record(1011, struct.pack("<IIIII", 3, 0, 0, 301, 0))
    document = record(4080, persist + text_atoms(0, "标题") + text_atoms(1, "正文\r第二段"), 0, container=True)
    document += record(4080, notes_persist, 2, container=True)
    places[1] = len(stream)
    stream += record(1000, document, container=True)
    directory = len(stream)
    stream += record(6002, b"".join(struct.pack("<II", 1 << 20 | key, place) for key, place in places.items()))
    edit = len(stream)
    body = struct.pack("<IIIIIII", 0, 0, 0, directory, 1, 0, 0) + (b"\0\0\0\0" if encrypted else b"")
    return stream + record(4085, body), edit


def test_slides_have_titles_text_and_notes_and_nothing_deleted() -> None:
    stream, edit = presentation()
    blocks = list(ppt._Slides(stream, edit).blocks())
    assert [(block.kind, block.text, block.heading, block.page) for block in blocks] == [
        ("heading", "标题", (), 1),
        ("paragraph", "正文\n第二段", ("标题",), 1),
        ("paragraph", "画上的字", ("标题",), 1),
        ("paragraph", "备注", ("标题",), 1),
    ]


def test_encrypted_presentation_says_so() -> None:
    stream, edit = presentation(encrypted=True)
    with pytest.raises(DocumentError) as caught:
        ppt._Slides(stream, edit)
    assert caught.value.code == "encrypted"


@settings(deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_are_records_or_none(stream: bytes) -> None:
    found = list(ppt.texts(stream, 0, len(stream)))
    assert sum(len(text.text) for text in found) <= len(stream)
