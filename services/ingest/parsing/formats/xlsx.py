"""Reads Excel workbooks with openpyxl: values, not formulas. Each sheet is a page with its name as heading."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import openpyxl

from zhiwen.common.errors import DocumentError
from zhiwen.common.models import Block
from zhiwen.ingest.parsing.text.tables import sheet_blocks

MAX_EMPTY_ROWS = 10_000
MAX_COLUMNS = 1_000


def read_xlsx(path: Path) -> Iterator[Block]:
    """Yield the tables of each sheet. Raises DocumentError `corrupt` for a file that is not a workbook."""
    file = path.open("rb")  # an open file, because openpyxl refuses a path without the right suffix
    try:
        book = openpyxl.load_workbook(file, read_only=True, data_only=True, keep_links=False)
    except MemoryError:
        raise
    except Exception as exc:  # damaged files raise whatever the library meets
        raise DocumentError("corrupt", "This workbook is damaged. Open it in Excel and save it again.") from exc
    try:
        for number, sheet in enumerate(book.worksheets, start=1):
            sheet.reset_dimensions()
            yield from sheet_blocks(_rows(sheet), heading=(sheet.title,), page=number)
    finally:
        book.close()
        file.close()


def _rows(sheet: Any) -> Iterator[Sequence[str]]:
    """Yield the rows of a sheet as text. Stop after 10,000 consecutive empty rows."""
    empty = 0
    for row in sheet.iter_rows(values_only=True):
        texts = [cell_text(value) for value in row[:MAX_COLUMNS]]
        empty = 0 if any(texts) else empty + 1
        if empty > MAX_EMPTY_ROWS:
            return
        yield texts


def cell_text(value: object) -> str:
    """Return a cell's value as a person writes it: no `.0`, no time for a date, and no text for an empty cell."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else f"{value:.15g}"
    if isinstance(value, datetime.datetime):
        midnight = value.time() == datetime.time()
        return value.date().isoformat() if midnight else value.isoformat(sep=" ", timespec="seconds")
    return str(value)
