"""Cursors of lists. A client sends a cursor back unchanged, and the service checks it. Pure."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from zhiwen.common.errors import InvalidRequest


def encode_cursor(position: list[Any]) -> str:
    """Return the cursor of a position in a list. A position is a list of JSON values."""
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode().rstrip("=")


def decode_cursor(cursor: str, *kinds: type) -> list[Any]:
    """Return the position of a cursor. `kinds` are the expected types of its values, in order.

    Raises `InvalidRequest` (`bad-cursor`) for a text that is no cursor, or the cursor of another kind of list.
    """
    try:
        position = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, binascii.Error) as exc:
        raise _bad() from exc
    matches = isinstance(position, list) and len(position) == len(kinds)
    if not matches or any(type(value) is not kind for value, kind in zip(position, kinds, strict=True)):
        raise _bad()
    return list(position)


def _bad() -> InvalidRequest:
    return InvalidRequest("bad-cursor", "This cursor is not valid. Send the next_cursor of this list unchanged.")
