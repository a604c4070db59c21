"""Reads CSV and TSV. It finds the delimiter and the header; rows may have different lengths."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from zhiwen.common.models import Block
from zhiwen.ingest.parsing.detect.decode import decode_text
from zhiwen.ingest.parsing.text.tables import table_blocks

DELIMITERS = ",;\t|"
SAMPLE_LINES = 50
MAX_FIELD_CHARACTERS = 2**31 - 1


def read_csv(path: Path) -> Iterator[Block]:
    """Yield the rows of a file as table blocks. Its delimiter is a comma, semicolon, tab or vertical bar."""
    yield from _read(path, None)


def read_tsv(path: Path) -> Iterator[Block]:
    """Yield the rows of a file as table blocks. Its delimiter is a tab."""
    yield from _read(path, "\t")


def _read(path: Path, delimiter: str | None) -> Iterator[Block]:
    text = decode_text(path.read_bytes()).replace("\0", "")
    csv.field_size_limit(MAX_FIELD_CHARACTERS)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter or find_delimiter(text))
    yield from table_blocks(rows)


def find_delimiter(text: str) -> str:
    """Return the delimiter that splits the first lines most evenly; a comma if none does."""
    lines = [line for line in text[:65536].splitlines()[:SAMPLE_LINES] if line.strip()]

    def evenness(delimiter: str) -> tuple[int, int]:
        counts = Counter(len(next(csv.reader([line], delimiter=delimiter), [])) for line in lines)
        width, agreeing = counts.most_common(1)[0] if counts else (1, 0)
        return (agreeing if width > 1 else 0, width)

    return max(DELIMITERS, key=evenness) if lines else ","
