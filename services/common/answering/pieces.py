"""Cuts a passage into the pieces that can be quoted: sentences, list items, and rows of tables. Pure.

A title is no piece, and neither is the header of a table. They say what the pieces below them are about.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from zhiwen.common.lexical.sentences import split_sentences

LONGEST_PIECE: Final = 300
"""Characters. A longer sentence is cut at clauses."""
LONGEST_ROW: Final = 600
"""Characters. A longer row is quoted without the names of its columns, or cut as a sentence is."""
LONGEST_PASSAGE: Final = 20_000
"""Characters of a passage that are read. A chunk has less than a tenth of this."""

_RULE: Final = re.compile(r"[\s|:+-]+")
_BULLET: Final = re.compile(
    r"\s*(?:[-*•·●▪◦]|[(（]?[0-9a-z]{1,2}[.)）]|[(（][一二三四五六七八九十]{1,3}[)）])\s+(?=\S)"
)
_END: Final = re.compile(r"[。｡！？!?….;；:：]['\"”’」』）)\]】]*\s*$")
_NUMBERED_TITLE: Final = re.compile(
    r"\s*(?:#{1,6} |第[一二三四五六七八九十百零\d]{1,4}[章节部分篇]|[一二三四五六七八九十]{1,3}、|"
    r"\d{1,2}(?:\.\d{1,2}){0,3}\.? )"
)
_PATH: Final = re.compile(r"\S > [^\s\d]")
_LONGEST_PATH: Final = 200
_SUBTITLED: Final = re.compile(r"[A-Z0-9][^:;|,]*: [a-z][^\d:;|,.!?]*")
_INNER_MARK: Final = re.compile(r"[，；：,;:|]")
_CLAUSE: Final = re.compile(r"[，,；;：:、]\s*|\s+")
_LONGEST_TITLE: Final = 60
_LONGEST_HEADING: Final = 200
"""Characters of the path of titles, and of a title, that are read. They are read again for each piece."""
_SHORTEST_WRAP: Final = 40
_WRAPPED: Final = 0.85
_GOES_ON: Final = re.compile(r"[a-z]+[\s,.;]")
_LETTER_LAST: Final = re.compile(r"[A-Za-z0-9,]\s*$")
_DIGIT: Final = re.compile(r"\d")


@dataclass(frozen=True, slots=True)
class Passage:
    """A numbered passage of a prompt. `heading` is the path of titles above its text, and may be empty."""

    number: int
    heading: str
    text: str


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a passage that can be quoted whole: `passage.text[start:end]`.

    `titles` stand above it. `columns` are the column names of a table's row, in the order of its cells. `passage`
    counts from 0.
    """

    passage: int
    start: int
    end: int
    text: str
    titles: str = ""
    columns: tuple[str, ...] = ()

    @property
    def quoted(self) -> str:
        """The piece as an answer shows it: on one line, and a row with the names of its columns."""
        if not self.columns:
            return " ".join(self.text.split())
        cells = cells_of(self.text)
        names = [*self.columns, *[""] * len(cells)][: len(cells)]
        chinese = any("\u3400" <= c <= "\u9fff" for c in self.text)
        colon, mark = ("：", "；") if chinese else (": ", "; ")
        return mark.join(
            f"{name}{colon}{cell}" if name else cell for name, cell in zip(names, cells, strict=True) if cell
        )


def cut(place: int, passage: Passage) -> list[Piece]:
    """Return the pieces of a passage in reading order. `place` is its number among the passages, from 0."""
    text = passage.text[:LONGEST_PASSAGE]
    pieces: list[Piece] = []
    heading, title = passage.heading[-_LONGEST_HEADING:], ""
    header: tuple[str, ...] | None = None
    for block in _blocks(text, passage.heading):
        titles = "\n".join(filter(None, (heading, title)))
        own = text[block.start : block.end]
        if block.kind == "title":
            title = own.strip()[:_LONGEST_HEADING]
        elif block.kind == "row" and len(own) <= LONGEST_ROW:
            cells = cells_of(own)
            if header is None and (block.before_rule or _is_header(cells)):
                header = cells
            else:
                header = header or ("",)
                pieces.append(Piece(place, block.start, block.end, own, titles, header))
        else:
            pieces += _sentences(Piece(place, block.start, block.end, own, titles), text)
        if block.kind != "row":
            header = None
    return pieces


def cells_of(row: str) -> tuple[str, ...]:
    """Return the cells of a table's row, whose bars may also stand at both ends."""
    row = row.strip()
    if row.startswith("|"):
        row = row.removeprefix("|").removesuffix("|")
    return tuple(cell.strip() for cell in row.split("|"))


def _is_header(cells: tuple[str, ...]) -> bool:
    """Return whether cells look like the names of columns: short, and no numbers."""
    return not any(_DIGIT.search(cell) or len(cell) > 30 for cell in cells)


@dataclass(frozen=True, slots=True)
class _Block:
    kind: str  # "title", "row" or "text"
    start: int
    end: int
    before_rule: bool = False


def _blocks(text: str, heading: str) -> Iterator[_Block]:
    """Yield titles, rows, and paragraphs whose lines were wrapped."""
    lines = list(_lines(text))
    width = _wrapped_at([end - start for start, end in lines if not _is_row(text[start:end])])
    known = {title.strip() for title in heading.split(" > ")} | {heading.strip()} - {""}
    known |= _titles_on_top([text[start:end].strip() for start, end in lines[:3]])
    open_block: _Block | None = None
    for place, (start, end) in enumerate(lines):
        line = text[start:end]
        title = _is_title(line, place, len(lines), known)
        if open_block and (title or not _continues(text, lines[place - 1], line, width)):
            yield open_block
            open_block = None
        if not line.strip() or _is_rule(line):
            continue
        if _is_row(line):
            ruled = place + 1 < len(lines) and _is_rule(text[slice(*lines[place + 1])])
            yield _Block("row", start, end, ruled)
        elif title:
            yield _Block("title", start, end)
        else:
            open_block = _Block("text", open_block.start if open_block else start, end)
    if open_block:
        yield open_block


def _lines(text: str) -> Iterator[tuple[int, int]]:
    start = 0
    while start <= len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        yield start, end
        start = end + 1


def _is_rule(line: str) -> bool:
    """Return whether a line only draws one, as below the header of a table. The time grows with the length alone."""
    return "---" in line and _RULE.fullmatch(line) is not None


def _wrapped_at(lengths: Sequence[int]) -> int:
    """Return the width that lines were wrapped at: the longest of at least two long lines; 0: they were not wrapped."""
    *_, second, longest = sorted([0, 0, *lengths])
    return longest if longest >= _SHORTEST_WRAP and second >= _WRAPPED * longest else 0


def _is_row(line: str) -> bool:
    return " | " in line or (line.count("|") > 1 and line.strip().startswith("|"))


def _continues(text: str, before: tuple[int, int], line: str, width: int) -> bool:
    """Return whether a line goes on with the paragraph of the line before: its first word did not fit there."""
    last = text[slice(*before)]
    if not line.strip() or _is_row(line) or _BULLET.match(line) or _is_row(last):
        return False
    if _GOES_ON.match(line) and len(last.rstrip()) >= _SHORTEST_WRAP and _LETTER_LAST.search(last):
        return True
    first = line.split(maxsplit=1)[0]
    room = width - len(last)
    if not width or not last.strip():
        return False
    return room < 2 + (len(first) if first.isascii() else 1)


def _is_title(line: str, place: int, count: int, known: set[str]) -> bool:
    """Return whether a line is a title: one of the known ones, a numbered one, or a short first line without marks."""
    title = line.strip()
    if title in known or title.startswith("#"):
        return True
    if _END.search(title) or len(title) > _LONGEST_TITLE or count == 1:
        return False
    numbered = _NUMBERED_TITLE.match(title) is not None
    if numbered and not title[0].isdigit():
        return not re.search("[，；,;]", title)
    if numbered and (place in (0, count - 1) or title.isupper()):
        return True
    return place == 0 and not _INNER_MARK.search(title) and not _BULLET.match(line)


def _titles_on_top(lines: Sequence[str]) -> set[str]:
    """Return the titles that the first line of a passage names, where the passage came without its heading.

    It may be a path of titles, or a title and a subtitle, such as "Swift E2: owner's manual". A subtitle begins with a
    small letter and has no number, and in a list of facts the line below has a colon, too.
    """
    first, below = lines[0], next(filter(None, lines[1:]), "")
    if not below or _END.search(first):
        return set()
    if len(first) <= _LONGEST_PATH and _PATH.search(first):
        return {first, *first.split(" > ")}
    return {first} if len(first) <= _LONGEST_TITLE and _SUBTITLED.fullmatch(first) and ":" not in below else set()


def _sentences(paragraph: Piece, text: str) -> Iterator[Piece]:
    """Yield the sentences of a paragraph without the mark of a list item and the white space around them."""
    bullet = _BULLET.match(text, paragraph.start, paragraph.end)
    start = bullet.end() if bullet else paragraph.start
    for sentence in split_sentences(text[start : paragraph.end]):
        for part in _parts(sentence):
            lead = len(part) - len(part.lstrip())
            body = part.strip()
            if any(c.isalnum() for c in body):
                yield Piece(paragraph.passage, start + lead, start + lead + len(body), body, paragraph.titles)
            start += len(part)


def _parts(sentence: str) -> Iterator[str]:
    """Yield a sentence in parts of at most `LONGEST_PIECE` characters, cut at clauses where there are any."""
    start = 0
    while len(sentence) - start > LONGEST_PIECE:
        window = sentence[start : start + LONGEST_PIECE]
        ends = [match.end() for match in _CLAUSE.finditer(window) if match.end() >= LONGEST_PIECE // 2]
        step = ends[-1] if ends else LONGEST_PIECE
        yield sentence[start : start + step]
        start += step
    yield sentence[start:]
