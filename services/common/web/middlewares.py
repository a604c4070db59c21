"""What stands around the routes of every service: request ids, a last catch for defects, and a limit of bodies.

All are plain ASGI and not `BaseHTTPMiddleware`, which buffers streams and breaks disconnects.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable
from functools import lru_cache

import structlog
from fastapi import Request
from fastapi.responses import Response
from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from zhiwen.common.errors import InvalidRequest, TooLarge
from zhiwen.common.telemetry import REQUEST_ID_HEADER, REQUEST_SECONDS, REQUESTS, request_id_from

log = structlog.get_logger(__package__)

MAX_BODY_BYTES = 2**20
"""Of a request whose route does not count for itself: FastAPI parses JSON before it asks for the key."""


class RequestContext:
    """ASGI middleware: gives each request its id, logs one line, counts it, and lets nothing unknown leak."""

    def __init__(self, app: ASGIApp, service: str) -> None:
        self.app = app
        self.service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        request_id = request_id_from(headers.get(REQUEST_ID_HEADER.lower().encode(), b"").decode("latin-1"))
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (REQUEST_ID_HEADER.encode(), request_id.encode())]
            await send(message)

        started = time.perf_counter()
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self.app(scope, receive, send_with_id)
            finally:
                self._record(scope, status, time.perf_counter() - started)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "unmatched")
        method = scope["method"]
        counter, histogram = _metrics_of(self.service, method, route, status)
        counter.inc()
        histogram.observe(seconds)
        if route not in {"/healthz", "/readyz", "/metrics"}:
            log.info("request", method=method, route=route, status=status, ms=round(seconds * 1000, 1))


@lru_cache(maxsize=1024)
def _metrics_of(service: str, method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    """Return the counter and the histogram of these labels; prometheus_client looks them up more slowly."""
    return REQUESTS.labels(service, method, route, str(status)), REQUEST_SECONDS.labels(service, method, route)


class CatchAll:
    """ASGI middleware inside `RequestContext`: a defect becomes a rendered 500 while its request id is still bound."""

    def __init__(self, app: ASGIApp, render: Callable[[Request, Exception], Awaitable[Response]]) -> None:
        self.app = app
        self.render = render

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def note_start(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            if "\0" in scope["path"] or b"%00" in scope["query_string"]:  # no database takes it, so nothing has it
                raise InvalidRequest("invalid-request", "An address cannot hold the character NUL.")
            await self.app(scope, receive, note_start)
        except Exception as exc:  # a defect, which the client is told of and the log names
            response = await self.render(Request(scope, receive), exc)
            if started:
                raise
            await response(scope, receive, send)


class BodyLimit:
    """ASGI middleware inside `CatchAll`: refuses what is larger than `MAX_BODY_BYTES` before anybody looks into it.

    `uncounted` matches the paths whose routes have limits of their own. Not FastAPI's `max_body_size`, whose answer is
    plain text without a request id.
    """

    def __init__(self, app: ASGIApp, uncounted: re.Pattern[str] | None = None) -> None:
        self.app = app
        self.uncounted = uncounted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or (self.uncounted and self.uncounted.fullmatch(scope["path"])):
            await self.app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > MAX_BODY_BYTES:
            raise _body_too_large()
        received: Message | None = await _whole_body(receive)

        async def receive_again() -> Message:
            nonlocal received
            message, received = received, None
            return await receive() if message is None else message

        await self.app(scope, receive_again, send)


async def _whole_body(receive: Receive) -> Message:
    """Return the body as one message, or the news that the client left. Raises `TooLarge`."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return message
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MAX_BODY_BYTES:
            raise _body_too_large()
        if not message.get("more_body", False):
            return {"type": "http.request", "body": b"".join(parts), "more_body": False}


def _body_too_large() -> TooLarge:
    return TooLarge("request-too-large", f"The body of this request may be {MAX_BODY_BYTES} bytes long.")
