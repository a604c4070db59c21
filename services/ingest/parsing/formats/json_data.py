"""Reads JSON and JSON Lines: one block per record, one line `name: value` per value, the path of names as heading."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zhiwen.common.models import Block
from zhiwen.ingest.parsing.detect.decode import decode_text
from zhiwen.ingest.parsing.formats.plain import plain_blocks
from zhiwen.ingest.parsing.text.normalise import MAX_HEADING_CHARACTERS

HEADING_LEVELS = 4
# Up to this size, a record of a list is one block with everything nested in it.
RECORD_CHARACTERS = 2_000


def read_json(path: Path) -> Iterator[Block]:
    """Yield the records of a JSON file. A file that is not JSON is read as plain text.

    Raises RecursionError if the nesting is too deep for the interpreter.
    """
    text = decode_text(path.read_bytes())
    try:
        value = _loads(text)
    except ValueError:
        yield from plain_blocks(text)
        return
    yield from record_blocks(value, ())


def read_json_lines(path: Path) -> Iterator[Block]:
    """Yield a record for each line. A line that is not JSON is a paragraph."""
    for line in decode_text(path.read_bytes()).splitlines():
        try:
            value = _loads(line) if line.strip() else None
        except ValueError:
            yield Block(line)
            continue
        yield from record_blocks(value, ())


def _loads(text: str) -> Any:
    # Numbers stay text: they are not rounded, and none is too long.
    return json.loads(text, parse_int=str, parse_float=str, strict=False)


def record_blocks(value: Any, heading: tuple[str, ...]) -> Iterator[Block]:
    """Yield the blocks of a value under the path `heading`: its own lines first, then its nested records."""
    lines: list[str] = []
    nested: list[tuple[tuple[str, ...], Any]] = []
    for name, inner in _members(value):
        if _is_record(inner) and len(heading) < HEADING_LEVELS:
            nested.append(((*heading, name[:MAX_HEADING_CHARACTERS]) if name else heading, inner))
        else:
            lines.extend(_lines(name, inner))
    if lines:
        yield Block("\n".join(lines), "list", heading)
    for path, inner in nested:
        whole = "\n".join(_lines("", inner)) if isinstance(value, list) else ""
        if 0 < len(whole) <= RECORD_CHARACTERS:
            yield Block(whole, "list", path)
        else:
            yield from record_blocks(inner, path)


def _members(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, list):
        yield from (("", inner) for inner in value)
    else:
        yield "", value


def _is_record(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and any(isinstance(i, dict | list) for i in value))


def _lines(name: str, value: Any) -> Iterator[str]:
    """Yield lines `name: value`: a list of plain values on one line, deeper values with dotted names."""
    stack: list[tuple[str, Any]] = [(name, value)]
    while stack:
        label, current = stack.pop()
        if isinstance(current, dict):
            stack.extend((f"{label}.{key}" if label else key, inner) for key, inner in reversed(current.items()))
        elif isinstance(current, list) and _is_record(current):
            stack.extend((label, inner) for inner in reversed(current))
        else:
            text = ", ".join(map(_scalar, current)) if isinstance(current, list) else _scalar(current)
            if text:
                yield f"{label}: {text}" if label else text


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)
