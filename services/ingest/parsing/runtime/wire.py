"""The messages between a pool and its children: 4 bytes of length, then JSON.

This is JSON and not pickle: if a document takes over a child, the child must not be able to run code in its parent.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

import orjson

from zhiwen.common.models import Block

FOLDER_PREFIX = "zhiwen-parser-"
"""The beginning of the name of a child's own folder. A child works and removes files only there."""

LENGTH = struct.Struct(">I")
BEAT: dict[str, Any] = {"beat": True}


def pack(message: dict[str, Any]) -> bytes:
    """Return a message as one frame."""
    body = orjson.dumps(message)
    return LENGTH.pack(len(body)) + body


def unpack(body: bytes | bytearray) -> dict[str, Any]:
    """Return the message in the body of a frame. Raises ValueError if it is not a message."""
    message = orjson.loads(body)
    if not isinstance(message, dict):
        raise ValueError("a frame holds one JSON object")
    return message


def blocks_to_lists(blocks: Iterable[Block]) -> list[list[Any]]:
    """Return blocks as lists that JSON can hold."""
    return [[b.text, b.kind, b.heading, b.page, b.header] for b in blocks]


def blocks_from_lists(rows: Iterable[list[Any]]) -> list[Block]:
    """Return blocks from the lists of `blocks_to_lists`."""
    return [Block(text, kind, tuple(heading), page, header) for text, kind, heading, page, header in rows]
