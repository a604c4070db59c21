"""The binary structures of a .doc file that locate its text and describe its paragraphs. Pure functions on bytes.

Source: [MS-DOC] 2.5 (Fib), 2.8.35 (PlcPcd), 2.9.38 (Clx), 2.9.174 (PapxFkp), 2.2.5 (Sprm); for Word 6 and 95 the
layout of "Microsoft Word 6.0 Binary File Format".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from zhiwen.ingest.parsing.detect.containers import encrypted
from zhiwen.ingest.parsing.formats.legacy_office import damaged

MAGICS = (0xA5EC, 0xA5DC)
FIRST_WORD_97 = 0x00C1
FLAG_COMPLEX, FLAG_ENCRYPTED, FLAG_TABLE_1 = 0x0004, 0x0100, 0x0200
PIECE_COMPRESSED = 0x40000000
FKP_BYTES = 512
SPRM_IN_TABLE, SPRM_ROW_END, SPRM_INNER_ROW_END = 0x2416, 0x2417, 0x244C
SPRM_OUTLINE_LEVEL, SPRM_LIST = 0x2640, 0x460B
SPRM_TABLE_DEFINITION = 0xD608
OPERAND_BYTES = {0: 1, 1: 1, 2: 2, 3: 4, 4: 2, 5: 2, 7: 3}
# The code page of 8-bit text, by the language of the Word program that wrote it.
CODE_PAGES = {0x0804: "gb18030", 0x1004: "gb18030", 0x0404: "big5hkscs", 0x0C04: "big5hkscs", 0x0411: "cp932"}


@dataclass(frozen=True, slots=True)
class Fib:
    """The file information block: the places of the text and its properties.

    Lengths are in characters. `other_stories` holds pairs of (length, is shown) for footnotes, headers and so on. `clx`
    and `papx` are pairs of (offset, length) in the table stream. `plain_text` is the (start, end) of the text in Word 6
    and 95.
    """

    table_stream: str | None
    main_characters: int
    other_stories: tuple[tuple[int, bool], ...]
    clx: tuple[int, int]
    papx: tuple[int, int]
    plain_text: tuple[int, int] | None
    encoding: str


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of text: its first character position, its byte offset in the file, and its bytes per character."""

    start: int
    offset: int
    width: int
    text: str


@dataclass(frozen=True, slots=True)
class Paragraph:
    """The properties of the text between two byte positions in the file."""

    start: int
    end: int
    heading_level: int
    in_table: bool
    row_end: bool
    listed: bool


def read_fib(word: bytes) -> Fib:
    """Return the file information block; raises DocumentError `encrypted`, `corrupt`."""
    try:
        magic, version = struct.unpack_from("<HH", word, 0)
        (language,) = struct.unpack_from("<H", word, 6)
        (flags,) = struct.unpack_from("<H", word, 10)
        if magic not in MAGICS:
            raise damaged()
        if flags & FLAG_ENCRYPTED:
            raise encrypted()
        encoding = CODE_PAGES.get(language, "cp1252")
        if version < FIRST_WORD_97:
            return _old_fib(word, flags, encoding)
        counts = struct.unpack_from("<7i", word, 0x4C)
        table_stream = "1Table" if flags & FLAG_TABLE_1 else "0Table"
        return Fib(
            table_stream,
            *_stories(counts),
            clx=struct.unpack_from("<II", word, 0x01A2),
            papx=struct.unpack_from("<II", word, 0x0102),
            plain_text=None,
            encoding=encoding,
        )
    except struct.error:
        raise damaged() from None


def _old_fib(word: bytes, flags: int, encoding: str) -> Fib:
    if flags & FLAG_COMPLEX:
        raise damaged()
    start, end = struct.unpack_from("<II", word, 0x18)
    main, stories = _stories(struct.unpack_from("<7i", word, 0x34))
    return Fib(None, main, stories, (0, 0), (0, 0), (start, end), encoding)


def _stories(counts: tuple[int, ...]) -> tuple[int, tuple[tuple[int, bool], ...]]:
    text, footnotes, headers, macros, comments, endnotes, boxes = (max(0, count) for count in counts)
    others = ((footnotes, True), (headers, False), (macros, False), (comments, False), (endnotes, True), (boxes, True))
    return text, others


def text_pieces(word: bytes, table: bytes, fib: Fib) -> list[Piece]:
    """Return the text in reading order; raises DocumentError `corrupt`."""
    if fib.plain_text is not None:
        start, end = fib.plain_text
        return [Piece(0, start, 1, word[start:end].decode(fib.encoding, "replace"))]
    try:
        return list(_pieces(word, _piece_table(table[fib.clx[0] : fib.clx[0] + fib.clx[1]]), fib.encoding))
    except struct.error:
        raise damaged() from None


def _piece_table(clx: bytes) -> bytes:
    position = 0
    while position < len(clx) and clx[position] == 1:
        position += 3 + struct.unpack_from("<H", clx, position + 1)[0]
    if position >= len(clx) or clx[position] != 2:
        raise damaged()
    (length,) = struct.unpack_from("<I", clx, position + 1)
    return clx[position + 5 : position + 5 + length]


def _pieces(word: bytes, plc: bytes, encoding: str) -> Iterator[Piece]:
    count = (len(plc) - 4) // 12
    positions = struct.unpack_from(f"<{count + 1}I", plc, 0)
    for index in range(count):
        (address,) = struct.unpack_from("<I", plc, (count + 1) * 4 + index * 8 + 2)
        length = positions[index + 1] - positions[index]
        if length < 0 or length > len(word):
            raise damaged()
        compressed = bool(address & PIECE_COMPRESSED)
        offset = (address & ~PIECE_COMPRESSED) // (2 if compressed else 1)
        data = word[offset : offset + length * (1 if compressed else 2)]
        text = data.decode("cp1252" if compressed else "utf-16-le", "replace")
        # A character above U+FFFF is one here, but two positions in the file. Padding keeps later positions right.
        yield Piece(positions[index], offset, 1 if compressed else 2, _one_per_position(text, length))


def _one_per_position(text: str, length: int) -> str:
    missing = length - len(text)
    return text + "\0" * missing if missing > 0 else text


def paragraphs(word: bytes, table: bytes, fib: Fib) -> list[Paragraph]:
    """Return the paragraphs that have properties, in file order; an empty list if they cannot be read."""
    offset, length = fib.papx
    plc = table[offset : offset + length]
    count = (len(plc) - 4) // 8
    found: list[Paragraph] = []
    try:
        pages = struct.unpack_from(f"<{count}I", plc, (count + 1) * 4) if count > 0 else ()
        for page in pages:
            start = (page & 0x3FFFFF) * FKP_BYTES
            found.extend(_page_paragraphs(word[start : start + FKP_BYTES]))
    except (struct.error, IndexError):
        return []
    return sorted(found, key=lambda paragraph: paragraph.start)


def _page_paragraphs(page: bytes) -> Iterator[Paragraph]:
    count = page[FKP_BYTES - 1]
    places = struct.unpack_from(f"<{count + 1}I", page, 0)
    for index in range(count):
        offset = page[(count + 1) * 4 + index * 13] * 2
        style, sprms = 0, b""
        if offset:
            size = page[offset] * 2 - 1 if page[offset] else page[offset + 1] * 2
            begin = offset + (1 if page[offset] else 2)
            properties = page[begin : begin + size]
            style, sprms = struct.unpack_from("<H", properties, 0)[0], properties[2:]
        values = dict(_sprms(sprms))
        level = style if 1 <= style <= 9 else 0
        outline = values.get(SPRM_OUTLINE_LEVEL, b"\x09")[0]
        yield Paragraph(
            places[index],
            places[index + 1],
            level or (outline + 1 if outline < 9 else 0),
            in_table=values.get(SPRM_IN_TABLE, b"\0")[0] == 1,
            row_end=1 in (values.get(SPRM_ROW_END, b"\0")[0], values.get(SPRM_INNER_ROW_END, b"\0")[0]),
            listed=values.get(SPRM_LIST, b"\0\0") != b"\0\0",
        )


def _sprms(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position + 2 < len(data):
        (sprm,) = struct.unpack_from("<H", data, position)
        position += 2
        size = OPERAND_BYTES.get(sprm >> 13)
        if size is None:
            prefix = 2 if sprm == SPRM_TABLE_DEFINITION else 1
            size = int.from_bytes(data[position : position + prefix], "little") + prefix - (prefix == 2)
        operand = data[position : position + size]
        if operand:
            yield sprm, operand
        position += size
