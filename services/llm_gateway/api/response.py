"""Writes the response to one request, and ends it properly, also with an error."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from starlette.types import Send

from zhiwen.common.errors import ServiceError
from zhiwen.llm_gateway import metrics
from zhiwen.llm_gateway.errors import error_event
from zhiwen.llm_gateway.upstreams.http import Headers

_OWN_STREAM_HEADERS = (b"cache-control", b"x-accel-buffering")
EVENT_STREAM: Headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


class ResponseWriter:
    """Writes the response to one client. `started` is True once its status was sent.

    `send` is ASGI's; code that streams calls it directly for each chunk between `start` and `end`, which is cheaper.
    `asked` is when the request came, on `clock`. `before_end` is called before the last byte is sent, because from then
    on a client that leaves must cancel nothing.
    """

    __slots__ = ("_asked", "_before_end", "_clock", "send", "started")

    def __init__(self, send: Send, *, asked: float, clock: Callable[[], float], before_end: Callable[[], None]) -> None:
        self.send = send
        self.started = False
        self._asked = asked
        self._clock = clock
        self._before_end = before_end

    async def start(self, status: int, headers: Headers) -> None:
        """Send the status and the headers."""
        self.started = True
        metrics.FIRST_BYTE.observe(self._clock() - self._asked)
        await self.send({"type": "http.response.start", "status": status, "headers": headers})

    async def start_stream(self, status: int, headers: Headers) -> None:
        """Send the status and headers of an event stream. `headers` are the model server's."""
        kept = [header for header in headers if header[0] not in _OWN_STREAM_HEADERS]
        await self.start(status, [*EVENT_STREAM, *kept])

    async def end(self, body: bytes = b"") -> None:
        """Send the last bytes."""
        self._before_end()
        await self.send({"type": "http.response.body", "body": body})

    async def send_whole(self, body: bytes, *, status: int = 200, headers: Headers) -> None:
        """Send a whole response. Its length is added to `headers`."""
        await self.start(status, [*headers, (b"content-length", str(len(body)).encode())])
        await self.end(body)

    async def send_events(self, events: Iterable[bytes]) -> None:
        """Send a stream of events that are all known already."""
        await self.start_stream(200, [])
        for event in events:
            await self.send({"type": "http.response.body", "body": event, "more_body": True})
        await self.end()

    async def fail(self, error: ServiceError) -> None:
        """End the response with an error: raise it if nothing was sent yet, otherwise send it as the last event."""
        if not self.started:
            raise error
        await self.end(error_event(error))
