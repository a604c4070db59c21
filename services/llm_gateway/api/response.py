"""The response to one request: what was sent of it, and how it ends."""

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
    """Writes the response to one client. `started` is True once its status has left.

    `send` is ASGI's. Code that streams calls it for each chunk between `start` and `end`, which costs no call more.
    `asked` is when the request came, on `clock`. `before_end` is called before the last byte leaves: from then on the
    client may leave, and that cancels nothing.
    """

    __slots__ = ("_asked", "_before_end", "_clock", "send", "started")

    def __init__(self, send: Send, *, asked: float, clock: Callable[[], float], before_end: Callable[[], None]) -> None:
        self.send = send
        self.started = False
        self._asked = asked
        self._clock = clock
        self._before_end = before_end

    async def start(self, status: int, headers: Headers) -> None:
        """Send status and headers."""
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
        """Send a response that is all here. Its length is added to `headers`."""
        await self.start(status, [*headers, (b"content-length", str(len(body)).encode())])
        await self.end(body)

    async def send_events(self, events: Iterable[bytes]) -> None:
        """Send a stream whose events are at hand."""
        await self.start_stream(200, [])
        for event in events:
            await self.send({"type": "http.response.body", "body": event, "more_body": True})
        await self.end()

    async def fail(self, error: ServiceError) -> None:
        """End the response with an error: raise it as long as nothing was sent, and send it as the last event then."""
        if not self.started:
            raise error
        await self.end(error_event(error))
