"""Reads PowerPoint slides of 1997-2003 ([MS-PPT]): the text of each present slide with its title, then its notes.

Records are found through the persist directory, so deleted slides and older states of a slide are not read.
Source: [MS-PPT] 2.3 (records and persist objects), 2.4.14 (SlideListWithText), 2.9.41-44 (text atoms).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import olefile

from zhiwen.common.models import Block
from zhiwen.ingest.parsing.detect.containers import encrypted
from zhiwen.ingest.parsing.formats.legacy_office import damaged, read_or_convert
from zhiwen.ingest.parsing.formats.pptx import read_pptx
from zhiwen.ingest.parsing.text.normalise import one_line

HEADER = struct.Struct("<HHI")
CONTAINER = 0xF
DOCUMENT, SLIDE, SLIDE_ATOM, NOTES = 1000, 1006, 1007, 1008
SLIDE_PERSIST, TEXT_HEADER, TEXT_CHARS, TEXT_BYTES, SLIDE_LIST = 1011, 3999, 4000, 4008, 4080
USER_EDIT, PERSIST_DIRECTORY = 4085, 6002
ENCRYPTED_TOKEN = 0xF3D1C4DF
TITLE_TYPES = frozenset({0, 6})
LIST_OF_SLIDES, LIST_OF_NOTES = 0, 2
MAX_DEPTH = 40
MAX_EDITS = 1_000


@dataclass(frozen=True, slots=True)
class Record:
    """A record: its type, its instance number, and the byte positions of its body in the stream."""

    kind: int
    instance: int
    is_container: bool
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Text:
    """A run of text, and the type of its placeholder (0 and 6 are titles, 2 is notes)."""

    kind: int
    text: str


def read_ppt(path: Path) -> Iterator[Block]:
    """Yield the blocks of a .ppt file; `page` is the slide number. Raises DocumentError `encrypted`, `corrupt`."""
    yield from read_or_convert(path, "ppt", _read, read_pptx)


def _read(path: Path) -> Iterator[Block]:
    with olefile.OleFileIO(path) as container:
        if not container.exists("PowerPoint Document"):
            raise damaged()
        stream = bytes(container.openstream("PowerPoint Document").read())
        user = bytes(container.openstream("Current User").read()) if container.exists("Current User") else b""
    if len(user) >= 16 and struct.unpack_from("<I", user, 12)[0] == ENCRYPTED_TOKEN:
        raise encrypted()
    try:
        slides = _Slides(stream, _last_edit(stream, user))
        found = list(slides.blocks())
    except (struct.error, IndexError, KeyError):
        found = []
    yield from found or _loose_text(stream)


def _last_edit(stream: bytes, user: bytes) -> int:
    if len(user) >= 20:
        return int(struct.unpack_from("<I", user, 16)[0])
    raise IndexError


def records(stream: bytes, start: int, end: int) -> Iterator[Record]:
    """Yield the records between two byte positions. Stop at the first record that is too long."""
    while start + HEADER.size <= end:
        version, kind, length = HEADER.unpack_from(stream, start)
        body = start + HEADER.size
        if body + length > end:
            return
        yield Record(kind, version >> 4, version & 0xF == CONTAINER, body, body + length)
        start = body + length


def texts(stream: bytes, start: int, end: int, depth: int = 0) -> Iterator[Text]:
    """Yield the text atoms between two byte positions, also those inside containers; `depth` is the nesting so far."""
    kind = 4
    for record in records(stream, start, end):
        body = stream[record.start : record.end]
        if record.kind == TEXT_HEADER and len(body) >= 4:
            kind = int.from_bytes(body[:4], "little")
        elif record.kind == TEXT_CHARS:
            yield Text(kind, body.decode("utf-16-le", "replace"))
        elif record.kind == TEXT_BYTES:
            yield Text(kind, body.decode("latin-1"))
        elif record.is_container and depth < MAX_DEPTH:
            yield from texts(stream, record.start, record.end, depth + 1)


class _Slides:
    """The live slides and notes of a presentation."""

    def __init__(self, stream: bytes, last_edit: int) -> None:
        self._stream = stream
        self._objects, document = self._persist_directory(last_edit)
        self._document = self._object(document)

    def _persist_directory(self, offset: int) -> tuple[dict[int, int], int]:
        """Return the newest byte position in the stream by persist id, and the persist id of the document."""
        found: dict[int, int] = {}
        document = 0
        for _ in range(MAX_EDITS):
            edit = next(records(self._stream, offset, len(self._stream)))
            body = self._stream[edit.start : edit.end]
            if edit.kind != USER_EDIT:
                raise IndexError
            if len(body) >= 32:
                raise encrypted()
            _, _, earlier, directory, document_id = struct.unpack_from("<IIIII", body, 0)
            document = document or document_id
            for key, place in self._directory_entries(directory):
                found.setdefault(key, place)
            if not earlier:
                break
            offset = earlier
        return found, document

    def _directory_entries(self, offset: int) -> Iterator[tuple[int, int]]:
        directory = next(records(self._stream, offset, len(self._stream)))
        position = directory.start
        while position + 4 <= directory.end:
            (head,) = struct.unpack_from("<I", self._stream, position)
            first, count = head & 0xFFFFF, head >> 20
            for index in range(count):
                yield first + index, struct.unpack_from("<I", self._stream, position + 4 + index * 4)[0]
            position += 4 + count * 4

    def _object(self, key: int) -> Record:
        return next(records(self._stream, self._objects[key], len(self._stream)), Record(0, 0, False, 0, 0))

    def blocks(self) -> Iterator[Block]:
        notes = {slide_id: texts for slide_id, _, texts in self._listed(LIST_OF_NOTES)}
        for number, (_, container, outline) in enumerate(self._listed(LIST_OF_SLIDES), start=1):
            drawn = list(texts(self._stream, container.start, container.end))
            found = [*outline, *(text for text in drawn if text not in outline)]
            found += notes.get(self._notes_id(container), [])
            yield from _slide_blocks(found, number)

    def _listed(self, which: int) -> Iterator[tuple[int, Record, list[Text]]]:
        """Yield (slide id, its container, its texts in the outline). For notes, the texts are those on their page."""
        children = records(self._stream, self._document.start, self._document.end)
        lists = [record for record in children if record.kind == SLIDE_LIST and record.instance == which]
        for listing in lists:
            members = list(records(self._stream, listing.start, listing.end))
            starts = [i for i, member in enumerate(members) if member.kind == SLIDE_PERSIST]
            for start, stop in zip(starts, [*starts[1:], len(members)], strict=True):
                reference, _, _, slide_id = struct.unpack_from("<IIII", self._stream, members[start].start)
                container = self._object(reference)
                area = (members[start].end, members[stop - 1].end)
                if which == LIST_OF_NOTES:
                    area = (container.start, container.end)
                yield slide_id, container, list(texts(self._stream, *area))

    def _notes_id(self, container: Record) -> int:
        for record in records(self._stream, container.start, container.end):
            if record.kind == SLIDE_ATOM and record.end - record.start >= 20:
                return int(struct.unpack_from("<I", self._stream, record.start + 16)[0])
        return 0


def _slide_blocks(found: list[Text], number: int) -> Iterator[Block]:
    title = next((one_line(text.text) for text in found if text.kind in TITLE_TYPES and text.text.strip()), "")
    heading = (title,) if title else ()
    if title:
        yield Block(title, "heading", (), number)
    for text in found:
        shown = text.text.replace("\x0b", "\n").replace("\r", "\n").strip("\n* ")
        if shown and one_line(shown) != title:
            yield Block(shown, "paragraph", heading, number)


def _loose_text(stream: bytes) -> Iterator[Block]:
    """Yield all texts of a file with a damaged directory. Raises DocumentError `corrupt` if there is none."""
    found = list(dict.fromkeys(text.text for text in texts(stream, 0, len(stream))))
    if not found:
        raise damaged()
    yield from _slide_blocks([Text(4, text) for text in found], 1)
