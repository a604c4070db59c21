"""The frames between a pool and its children: 4 bytes of length, then JSON.

JSON and not pickle: a child that a document has taken over must not be able to run code in its parent.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

import orjson

from zhiwen.common.models import Block

FOLDER_PREFIX = "zhiwen-parser-"
"""How the name of a child's own folder begins; a child works, and cleans up, nowhere else."""

LENGTH = struct.Struct(">I")
BEAT: dict[str, Any] = {"beat": True}


def pack(message: dict[str, Any]) -> bytes:
    """Return one frame."""
    body = orjson.dumps(message)
    return LENGTH.pack(len(body)) + body


def unpack(body: bytes | bytearray) -> dict[str, Any]:
    """Return the message of a frame's body; raises ValueError when it is none."""
    message = orjson.loads(body)
    if not isinstance(message, dict):
        raise ValueError("a frame holds one JSON object")
    return message


def blocks_to_lists(blocks: Iterable[Block]) -> list[list[Any]]:
    """Return blocks as JSON can carry them."""
    return [[b.text, b.kind, b.heading, b.page, b.header] for b in blocks]


def blocks_from_lists(rows: Iterable[list[Any]]) -> list[Block]:
    """Return the blocks of `blocks_to_lists`."""
    return [Block(text, kind, tuple(heading), page, header) for text, kind, heading, page, header in rows]
