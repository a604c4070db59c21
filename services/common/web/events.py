"""Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html) with JSON as their data."""

from __future__ import annotations

from collections.abc import AsyncIterator

import orjson
from fastapi.responses import StreamingResponse

HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""No cache keeps the stream, and no nginx in between holds it back."""


def server_sent_event(name: str, data: object) -> bytes:
    """Return an event as it goes over the wire. `data` is anything that orjson serialises, on one line."""
    return b"event: " + name.encode() + b"\ndata: " + orjson.dumps(data) + b"\n\n"


def event_stream(events: AsyncIterator[bytes]) -> StreamingResponse:
    """Return a response that sends events as they come, and ends the iterator when the client goes away.

    FastAPI's own `EventSourceResponse` encodes an event in 25 times the time, and only for routes that always stream.
    """
    return StreamingResponse(events, media_type="text/event-stream", headers=HEADERS)
