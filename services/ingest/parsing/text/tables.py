"""Turns rows of cells into table blocks: one line per row, ` | ` between cells, the header row in every block."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from zhiwen.common.models import Block
from zhiwen.ingest.parsing.text.normalise import one_line

ROWS_PER_BLOCK = 500
CELL_SEPARATOR = " | "
NUMBER = re.compile(r"^[-+]?[\d.,:/%\s-]+$")


def render_row(cells: Sequence[str]) -> str:
    """Return a row as one line, without the empty cells at its end."""
    texts = [one_line(cell) for cell in cells]
    while texts and not texts[-1]:
        texts.pop()
    return CELL_SEPARATOR.join(texts) if any(texts) else ""


def table_blocks(
    rows: Iterable[Sequence[str]],
    *,
    heading: tuple[str, ...] = (),
    page: int | None = None,
    has_header: bool | None = None,
) -> Iterator[Block]:
    """Yield one table as blocks of up to 500 rows. The text of the first block begins with the header.

    `rows` are the cells row by row, and `heading` and `page` the place of the table. `has_header` says whether the
    first row is the header; None: its cells decide. Rows without text are dropped.
    """
    lines = ((row, line) for row in rows if (line := render_row(row)))
    first = next(lines, None)
    if first is None:
        return
    is_header = looks_like_header(first[0]) if has_header is None else has_header
    header = first[1] if is_header else None
    texts = [first[1], *(line for _, line in islice(lines, ROWS_PER_BLOCK))]
    if len(texts) == 1:
        header = None
    while texts:
        yield Block("\n".join(texts), "table", heading, page, header)
        texts = [line for _, line in islice(lines, ROWS_PER_BLOCK)]


def looks_like_header(cells: Sequence[str]) -> bool:
    """Return whether a row names columns: two or more cells, most of them filled, all short, and none a number."""
    filled = [one_line(cell) for cell in cells if cell.strip()]
    width = max((i for i, cell in enumerate(cells, start=1) if cell.strip()), default=0)
    if len(filled) < 2 or len(filled) * 2 < width:
        return False
    return all(len(cell) <= 60 and not NUMBER.match(cell) for cell in filled)


def sheet_blocks(rows: Iterable[Sequence[str]], *, heading: tuple[str, ...], page: int | None) -> Iterator[Block]:
    """Yield the tables of a sheet. Empty rows separate them. A single cell above a table is a paragraph."""
    table: list[Sequence[str]] = []
    for row in rows:
        filled = [cell for cell in row if cell.strip()]
        if len(filled) == 1 and not table:
            yield Block(filled[0], "paragraph", heading, page)
        elif filled:
            table.append(row)
        elif table:
            yield from table_blocks(table, heading=heading, page=page)
            table = []
    yield from table_blocks(table, heading=heading, page=page)
