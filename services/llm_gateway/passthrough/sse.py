"""Cuts a byte stream into server-sent events, and reads or changes single events.

Format: https://html.spec.whatwg.org/multipage/server-sent-events.html. The bytes of an event and its line ends stay
unchanged, unless something in it has to change.
"""

from __future__ import annotations

import re

import orjson

_END = re.compile(rb"\r\n\r\n|\n\n|\r\r|\n\r\n")
DONE = b"data: [DONE]\n\n"


class EventTooLong(ValueError):
    """An event is longer than the limit."""


class EventSplitter:
    """Cuts chunks of any size into whole events, each with its blank line at the end."""

    __slots__ = ("_rest", "limit")

    def __init__(self, limit: int = 16 * 2**20) -> None:
        self._rest = b""
        self.limit = limit

    @property
    def rest(self) -> bytes:
        """The bytes of an event that is not complete yet."""
        return self._rest

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the events that `chunk` completes. Raises `EventTooLong` past `limit` bytes."""
        searched = max(0, len(self._rest) - 3)
        data = self._rest + chunk
        events: list[bytes] = []
        begin = 0
        for match in _END.finditer(data, searched):
            events.append(data[begin : match.end()])
            begin = match.end()
        self._rest = data[begin:]
        if len(self._rest) > self.limit:
            raise EventTooLong(f"an event is longer than {self.limit} bytes")
        return events


def data_of(event: bytes) -> bytes | None:
    """Return the `data` lines of an event joined by line feeds, None when it has none (a comment)."""
    if event.startswith(b"data: {") and event.find(b"\n") >= len(event) - 2:
        return event[6:]
    lines = [line for line in event.splitlines() if line.startswith(b"data")]
    fields = [line[5:].removeprefix(b" ") for line in lines if line[4:5] == b":"]
    return b"\n".join(fields) if fields else None


def with_data(event: bytes, data: bytes) -> bytes:
    """Return `event` with other data. Its remaining lines and its line ends stay as they were."""
    if event.startswith(b"data: ") and event.endswith(b"\n\n") and event.find(b"\n") == len(event) - 2:
        return b"data: " + data.rstrip() + b"\n\n"
    newline = b"\r\n" if b"\r\n" in event else b"\n"
    kept = [line for line in event.splitlines() if line and not line.startswith(b"data")]
    return newline.join([*kept, b"data: " + data.strip(), b"", b""])


def event_of(payload: object) -> bytes:
    """Serialize one event with a JSON payload."""
    return b"data: " + orjson.dumps(payload) + b"\n\n"
