"""Reads Excel workbooks of 1993-2003 with xlrd: each sheet is a page with its name as heading."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import xlrd
from xlrd.xldate import XLDateError, xldate_as_datetime

from zhiwen.common.errors import DocumentError
from zhiwen.common.models import Block
from zhiwen.ingest.parsing.detect.containers import encrypted
from zhiwen.ingest.parsing.formats.xlsx import cell_text
from zhiwen.ingest.parsing.text.tables import sheet_blocks


def read_xls(path: Path) -> Iterator[Block]:
    """Yield the tables of each sheet; raises DocumentError `encrypted`, `corrupt`."""
    book = _open(path)
    try:
        for index in range(book.nsheets):
            sheet = book.sheet_by_index(index)
            yield from sheet_blocks(_rows(book, sheet), heading=(sheet.name,), page=index + 1)
            book.unload_sheet(index)
    finally:
        book.release_resources()


def _open(path: Path) -> Any:
    try:
        return xlrd.open_workbook(path, on_demand=True, ragged_rows=True, logfile=io.StringIO())
    except MemoryError:
        raise
    except Exception as exc:  # damaged files raise whatever the library meets
        if "encrypted" in str(exc).lower():
            raise encrypted() from None
        raise DocumentError("corrupt", "This workbook is damaged. Open it in Excel and save it as .xlsx.") from exc


def _rows(book: Any, sheet: Any) -> Iterator[Sequence[str]]:
    for index in range(sheet.nrows):
        yield [_cell(book, cell) for cell in sheet.row(index)]


def _cell(book: Any, cell: Any) -> str:
    if cell.ctype == xlrd.XL_CELL_DATE:
        try:
            return cell_text(xldate_as_datetime(cell.value, book.datemode))
        except (XLDateError, ValueError, OverflowError):
            return cell_text(cell.value)
    if cell.ctype == xlrd.XL_CELL_BOOLEAN:
        return cell_text(bool(cell.value))
    if cell.ctype == xlrd.XL_CELL_ERROR:
        return ""
    return cell_text(cell.value)
