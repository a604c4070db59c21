"""Reads Word documents of 1993-2003 ([MS-DOC]): text pieces, heading styles and tables, from the OLE streams.

If that fails and LibreOffice is installed, LibreOffice converts the file to .docx.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import olefile

from zhiwen.common.models import Block
from zhiwen.ingest.parsing.formats import doc_fib
from zhiwen.ingest.parsing.formats.doc_fib import Paragraph, Piece
from zhiwen.ingest.parsing.formats.docx import read_docx
from zhiwen.ingest.parsing.formats.legacy_office import damaged, read_or_convert
from zhiwen.ingest.parsing.text.normalise import Outline, one_line
from zhiwen.ingest.parsing.text.tables import table_blocks

FIELD_BEGIN, FIELD_SEPARATOR, FIELD_END = "\x13", "\x14", "\x15"
CELL_MARK = "\x07"
PARAGRAPH_ENDS = re.compile(r"[\r\x07\x0c]")
CONTROL_TEXT = str.maketrans({"\x0b": "\n", "\x0e": "\n", "\x1e": "-", "\xa0": " ", "\x1f": None, "\x00": None})


def read_doc(path: Path) -> Iterator[Block]:
    """Yield the blocks of a .doc file; raises DocumentError `encrypted`, `corrupt`."""
    yield from read_or_convert(path, "doc", _read, read_docx)


def _read(path: Path) -> Iterator[Block]:
    with olefile.OleFileIO(path) as container:
        word = _stream(container, "WordDocument")
        fib = doc_fib.read_fib(word)
        table = _stream(container, fib.table_stream) if fib.table_stream else b""
    pieces = doc_fib.text_pieces(word, table, fib)
    text = "".join(piece.text for piece in pieces)
    if not text:
        raise damaged()
    paragraphs = doc_fib.paragraphs(word, table, fib)
    yield from _Story(_Styles(pieces, paragraphs)).blocks(text[: fib.main_characters], 0)
    position = fib.main_characters
    for length, shown in fib.other_stories:
        if shown:
            yield from _Story(_Styles([], [])).blocks(text[position : position + length], 0)
        position += length


def _stream(container: olefile.OleFileIO, name: str) -> bytes:
    if not container.exists(name):
        raise damaged()
    with container.openstream(name) as stream:
        return bytes(stream.read())


@dataclass(frozen=True, slots=True)
class _Styles:
    """Finds the properties of the paragraph at a character position, by its byte position in the file."""

    pieces: Sequence[Piece]
    paragraphs: Sequence[Paragraph]

    def at(self, position: int) -> Paragraph | None:
        index = bisect_right(self.pieces, position, key=lambda piece: piece.start) - 1
        if index < 0 or not self.paragraphs:
            return None
        piece = self.pieces[index]
        place = piece.offset + (position - piece.start) * piece.width
        found = bisect_right(self.paragraphs, place, key=lambda paragraph: paragraph.start) - 1
        return self.paragraphs[found] if found >= 0 and place < self.paragraphs[found].end else None


class _Story:
    """Turns the characters of a story (main text, footnotes, ...) into blocks."""

    def __init__(self, styles: _Styles) -> None:
        self._styles = styles
        self._outline = Outline()
        self._cells: list[str] = []
        self._cell: list[str] = []
        self._rows: list[list[str]] = []

    def blocks(self, text: str, offset: int) -> Iterator[Block]:
        start = 0
        for match in PARAGRAPH_ENDS.finditer(text):
            yield from self._paragraph(
                text[start : match.start()], match.group(), self._styles.at(offset + match.start())
            )
            start = match.end()
        yield from self._paragraph(text[start:], "\r", None)
        yield from self._end_table()

    def _paragraph(self, raw: str, end: str, style: Paragraph | None) -> Iterator[Block]:
        text = visible_text(raw)
        if style is not None and style.row_end:
            self._rows.append([*self._cells, *([text] if text.strip() else [])])
            self._cells = []
        elif end == CELL_MARK:
            # Without paragraph properties an empty cell after a cell is the end of a row.
            if style is None and not text and not self._cell and self._cells:
                self._rows.append(self._cells)
                self._cells = []
            else:
                self._cells.append(" ".join([*self._cell, text]))
                self._cell = []
        elif style is not None and style.in_table:
            self._cell.append(text)
        else:
            yield from self._end_table()
            yield from self._text(text, style)

    def _text(self, text: str, style: Paragraph | None) -> Iterator[Block]:
        if not text.strip():
            return
        level = style.heading_level if style is not None else 0
        if level:
            yield Block(one_line(text), "heading", self._outline.enter(level, text))
        else:
            yield Block(text, "list" if style is not None and style.listed else "paragraph", self._outline.path)

    def _end_table(self) -> Iterator[Block]:
        if self._cells or self._cell:
            self._rows.append([*self._cells, *self._cell])
            self._cells, self._cell = [], []
        if self._rows:
            rows, self._rows = self._rows, []
            yield from table_blocks(rows, heading=self._outline.path)


def visible_text(raw: str) -> str:
    """Return the visible text: the results of fields without their instructions, and no marks of objects or notes."""
    parts: list[str] = []
    hidden: list[bool] = []
    for character in raw:
        if character == FIELD_BEGIN:
            hidden.append(True)
        elif character == FIELD_SEPARATOR and hidden:
            hidden[-1] = False
        elif character == FIELD_END and hidden:
            hidden.pop()
        elif not any(hidden):
            parts.append(character)
    return "".join(parts).translate(CONTROL_TEXT)
