"""Cursors of lists: opaque to clients, checked when they come back. Pure."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from zhiwen.common.errors import InvalidRequest


def encode_cursor(position: list[Any]) -> str:
    """Return a position in a list as an opaque string."""
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode().rstrip("=")


def decode_cursor(cursor: str, *kinds: type) -> list[Any]:
    """Return the position in a cursor, of exactly these kinds. Raises `InvalidRequest` (`bad-cursor`)."""
    try:
        position = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, binascii.Error) as exc:
        raise _bad() from exc
    matches = isinstance(position, list) and len(position) == len(kinds)
    if not matches or any(type(value) is not kind for value, kind in zip(position, kinds, strict=True)):
        raise _bad()
    return list(position)


def _bad() -> InvalidRequest:
    return InvalidRequest("bad-cursor", "This cursor is not one that a list of this service gave.")
