"""The routes that answer, as plain ASGI: FastAPI's per-request machinery costs more than the rest of the gateway.

A door reads the request, asks the built-in answerer or an upstream, and sends what comes as it comes. A client that
goes away cancels all of it at once.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterable

import orjson
import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.common.errors import InvalidRequest, ServiceError, TooLarge
from services.common.telemetry import current_request_id
from services.llm_gateway import builtin, metrics
from services.llm_gateway.call import Call, Door, read_call
from services.llm_gateway.dispatch import Attempt, OpenAnswer, WholeAnswer, dispatch
from services.llm_gateway.errors import error_event
from services.llm_gateway.failures import Kind, UpstreamFailure, as_error
from services.llm_gateway.gateway import Gateway
from services.llm_gateway.pool import deadline_exceeded
from services.llm_gateway.routing import Route

log = structlog.get_logger(__name__)

_PASSED_HEADERS = {b"traceparent": "traceparent", b"tracestate": "tracestate"}
_SSE_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


class ClientGone(Exception):
    """The client closed its connection."""


class DoorApp:
    """ASGI application of one route. `gateway` is asked at each request, it exists only once the lifespan began."""

    def __init__(self, door: Door, gateway: Callable[[], Gateway]) -> None:
        self.door = door
        self.gateway = gateway
        self.path = f"/v1{door.value}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = self  # its path names the request in logs and metrics
        headers = dict(scope["headers"])
        gateway = self.gateway()
        try:
            body = await _read_body(headers, receive, gateway.settings.gateway_max_request_bytes)
        except ClientGone:
            return
        exchange = Exchange(gateway, self.door, headers, body, send)
        watch = _ClientWatch(receive)
        try:
            await exchange.run(watch)
        except asyncio.CancelledError:
            if not watch.gone:
                raise
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
            log.info("client_left", door=self.door.value)
        finally:
            watch.stop()


class DoorsFirst:
    """ASGI middleware that hands a POST at a door to it at once, past the machinery that it does not use."""

    def __init__(self, app: ASGIApp, doors: Iterable[DoorApp]) -> None:
        self.app = app
        self.doors = {door.path: door for door in doors}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        door = self.doors.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        await (door or self.app)(scope, receive, send)


class _ClientWatch:
    """Cancels the task that created it when the client's connection closes, until `stop` is called."""

    def __init__(self, receive: Receive) -> None:
        self.gone = False
        self._receive = receive
        task = asyncio.current_task()
        assert task is not None
        self._served = task
        self._task = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        self._served.cancel()

    def stop(self) -> None:
        self._task.cancel()


class Exchange:
    """One request and its answer."""

    def __init__(self, gateway: Gateway, door: Door, headers: dict[bytes, bytes], body: bytes, send: Send) -> None:
        self.gateway = gateway
        self.door = door
        self.headers = headers
        self.body = body
        self.send = send
        self.started = asyncio.get_running_loop().time()
        self.sent_start = False

    async def run(self, watch: _ClientWatch) -> None:
        """Answer. Raises `ServiceError` as long as nothing was sent; afterwards an error becomes an event."""
        deadline = self.started + self._seconds_allowed()
        limit = asyncio.timeout_at(deadline)
        try:
            async with limit:
                await self._answer(deadline, watch)
        except TimeoutError:
            if not limit.expired():
                raise
            await self._fail(deadline_exceeded("waiting for the model server"))
        except ServiceError as error:
            await self._fail(error)

    async def _answer(self, deadline: float, watch: _ClientWatch) -> None:
        header = self.headers.get(b"authorization")
        await self.gateway.keyring.authenticate(header.decode("latin-1") if header is not None else None)
        call = read_call(self.door, self.body)
        route = self.gateway.pool.resolve(call.model)
        if route.built_in:
            await self._answer_built_in(call, watch)
        else:
            await self._answer_upstream(call, route, deadline, watch)

    def _seconds_allowed(self) -> float:
        """The deadline of the settings, or a shorter one that the client asks for with `X-Request-Timeout`."""
        longest = self.gateway.settings.gateway_deadline
        asked = self.headers.get(b"x-request-timeout")
        if asked is None:
            return longest
        try:
            seconds = float(asked)
        except ValueError:
            seconds = -1.0
        if not seconds > 0:
            raise InvalidRequest("invalid-request", "X-Request-Timeout must be a number of seconds.", status=400)
        return min(longest, seconds)

    async def _answer_upstream(self, call: Call, route: Route, deadline: float, watch: _ClientWatch) -> None:
        attempt = Attempt(
            call,
            route,
            current_request_id() or "",
            deadline,
            collect_text=False,
            max_bytes=self.gateway.settings.gateway_max_response_bytes,
            passed_headers=tuple(
                (n, self.headers[b].decode("latin-1")) for b, n in _PASSED_HEADERS.items() if b in self.headers
            ),
        )
        answer = await dispatch(self.gateway.pool, self.gateway.client, attempt)
        if isinstance(answer, WholeAnswer):
            watch.stop()
            await self._send_whole(answer)
        else:
            await self._send_stream(answer, watch)

    async def _send_whole(self, answer: WholeAnswer) -> None:
        headers = [(b"content-type", answer.content_type.encode("latin-1")), *answer.headers]
        await self._start(answer.status, [*headers, (b"content-length", str(len(answer.body)).encode())])
        await self.send({"type": "http.response.body", "body": answer.body})

    async def _send_stream(self, answer: OpenAnswer, watch: _ClientWatch) -> None:
        lease, reply = answer.lease, answer.reply
        settled = False
        try:
            await self._relay(answer, watch)
            settled = True
            _settle(answer)
            await reply.finish()
        except UpstreamFailure as failure:
            lease.failed(failure)
            settled = True
            metrics.UPSTREAM_CALLS.labels(lease.upstream.name, failure.kind.value).inc()
            log.warning("upstream_failed", upstream=lease.upstream.name, kind=failure.kind, after_first_byte=True)
            raise as_error(failure, lease.upstream.name) from failure
        finally:
            if not settled:
                lease.abandoned()
            reply.close()

    async def _relay(self, answer: OpenAnswer, watch: _ClientWatch) -> None:
        """Pass on each chunk when it comes. Raises `UpstreamFailure`."""
        reply, stream, send = answer.reply, answer.stream, self.send
        await self._start(reply.status, [*_SSE_HEADERS, *_without_ours(reply.headers())])
        out, over = answer.first, answer.over
        while not (over or stream.done or stream.error is not None):
            if out:
                await send({"type": "http.response.body", "body": out, "more_body": True})
            chunk = await reply.next_chunk()
            over = not chunk
            out = stream.feed(chunk) if chunk else stream.end()
        watch.stop()
        await send({"type": "http.response.body", "body": out})

    async def _answer_built_in(self, call: Call, watch: _ClientWatch) -> None:
        if not self.door.streams:
            raise InvalidRequest(
                "model-not-found",
                "The built-in answerer only answers questions.",
                status=404,
                errors=[{"field": "model"}],
            )
        text, usage = await asyncio.to_thread(builtin.answer, call)
        answer_id = f"{'chatcmpl' if self.door is Door.CHAT else 'cmpl'}-{secrets.token_hex(12)}"
        watch.stop()
        if call.stream:
            events = builtin.events(call, text, usage, answer_id=answer_id, created=int(time.time()))
            await self._send_events(events)
            return
        body = orjson.dumps(builtin.whole(call, text, usage, answer_id=answer_id, created=int(time.time())))
        await self._send_whole(WholeAnswer(200, [], "application/json", body, None))

    async def _send_events(self, events: Iterable[bytes]) -> None:
        await self._start(200, _SSE_HEADERS)
        for event in events:
            await self.send({"type": "http.response.body", "body": event, "more_body": True})
        await self.send({"type": "http.response.body", "body": b""})

    async def _start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.sent_start = True
        metrics.FIRST_BYTE.observe(asyncio.get_running_loop().time() - self.started)
        await self.send({"type": "http.response.start", "status": status, "headers": list(headers)})

    async def _fail(self, error: ServiceError) -> None:
        if not self.sent_start:
            raise error
        await self.send({"type": "http.response.body", "body": error_event(error)})


def _settle(answer: OpenAnswer) -> None:
    """Book a stream that reached its end, be it with an error event of the model server."""
    lease, error = answer.lease, answer.stream.error
    if error is None:
        lease.succeeded()
    else:
        lease.failed(UpstreamFailure(Kind.STATUS, f"sent the error {error.code}", status=error.status))
    metrics.UPSTREAM_CALLS.labels(lease.upstream.name, "ok" if error is None else "error-event").inc()


def _without_ours(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in headers if name not in (b"cache-control", b"x-accel-buffering")]


async def _read_body(headers: dict[bytes, bytes], receive: Receive, limit: int) -> bytes:
    """Return the request's body. Raises `TooLarge` before more than `limit` bytes are held, `ClientGone`."""
    declared = headers.get(b"content-length", b"0")
    if declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    parts: list[bytes] = []
    size = 0
    more = True
    while more:
        message: Message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise _too_large(limit)
        more = message.get("more_body", False)
    return b"".join(parts)


def _too_large(limit: int) -> TooLarge:
    return TooLarge("request-too-large", f"The request body is larger than {limit} bytes.")
