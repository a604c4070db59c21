"""One request and its answer: who asks, which model, where it goes, what it cost. Bytes leave as they come."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterable
from typing import Any

import orjson
import structlog
from starlette.types import Scope, Send

from zhiwen.common.auth.keyring import Principal
from zhiwen.common.errors import Forbidden, InvalidRequest, NotFound, ServiceError
from zhiwen.common.telemetry import current_request_id
from zhiwen.llm_gateway import metrics
from zhiwen.llm_gateway.accounting.limits import Admission, estimated_tokens, limits_of
from zhiwen.llm_gateway.accounting.usage import Usage, usage_from
from zhiwen.llm_gateway.builtin import chat
from zhiwen.llm_gateway.errors import error_event
from zhiwen.llm_gateway.gateway import Gateway
from zhiwen.llm_gateway.passthrough.answer_stream import choice_texts
from zhiwen.llm_gateway.request import Call, Door, messages_of, prompt_text, read_call
from zhiwen.llm_gateway.upstreams.failover import Attempt, Headers, OpenAnswer, WholeAnswer, dispatch
from zhiwen.llm_gateway.upstreams.failures import Kind, UpstreamFailure, as_error
from zhiwen.llm_gateway.upstreams.pool import deadline_exceeded
from zhiwen.llm_gateway.upstreams.routing import Route, may_use

log = structlog.get_logger(__name__)

_PASSED_HEADERS = ((b"traceparent", "traceparent"), (b"tracestate", "tracestate"))
_SSE_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


class Exchange:
    """Serves one request of `principal`. `usage`, `texts` and `status` say afterwards what came of it."""

    def __init__(
        self, gateway: Gateway, door: Door, principal: Principal, scope: Scope, body: bytes, send: Send
    ) -> None:
        self.gateway = gateway
        self.door = door
        self.principal = principal
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.body = body
        self.send = send
        self.started = gateway.loop.time()
        self.sent_start = False
        self.usage = Usage()
        self.texts: list[str] | None = [] if gateway.exporter is not None and door.streams else None
        self.status = "refused"

    async def run(self, stop_watching: Callable[[], None]) -> None:
        """Answer. Raises `ServiceError` as long as nothing was sent; afterwards an error becomes an event.

        `stop_watching` is called before the last byte leaves: from then on a client that goes is no news.
        """
        self.stop_watching = stop_watching
        limit = asyncio.timeout_at(self.started + self._seconds_allowed())
        try:
            async with limit:
                await self._admit_and_answer(limit.when() or self.started)
        except TimeoutError:
            if not limit.expired():
                raise
            await self._fail(deadline_exceeded("waiting for the model server"))
        except ServiceError as error:
            await self._fail(error)

    async def _admit_and_answer(self, deadline: float) -> None:
        gateway, principal = self.gateway, self.principal
        call = read_call(self.door, self.body)
        built_in = gateway.embeddings if self._asks_built_in_embeddings(call) else None
        route = Route(built_in.model) if built_in is not None else gateway.pool.resolve(call.model)
        admission = await self._admit(principal, call, route)
        try:
            if built_in is not None:
                await self._send_json(await built_in.answer(call))
            elif route.built_in:
                await self._answer_built_in(call)
            else:
                await self._answer_upstream(call, route, deadline)
        except asyncio.CancelledError:
            self.status = "cancelled"
            raise
        except ServiceError:
            self.status = "failed"
            raise
        finally:
            self._book(principal, call, route, admission)

    def _asks_built_in_embeddings(self, call: Call) -> bool:
        """The built-in embedding model serves under its name, and where nobody else could be meant."""
        embeddings = self.gateway.embeddings
        if embeddings is None or self.door is not Door.EMBEDDINGS:
            return False
        return call.model in ("", "default", embeddings.model)

    async def _admit(self, principal: Principal, call: Call, route: Route) -> Admission | None:
        """Raises `Forbidden` for a model the key may not use, `TooMany` over its limits."""
        limits = limits_of(self.gateway.pool.config.keys, principal.name)
        if limits is None:
            return None
        if not may_use(limits.models, route.public):
            raise Forbidden("model-not-allowed", f"This key may not use {route.public}.", errors=[{"field": "model"}])
        if limits.requests_per_minute is None and limits.tokens_per_minute is None:
            return None
        return await self.gateway.limiter.admit(limits, principal.name, estimated_tokens(call))

    def _book(self, principal: Principal, call: Call, route: Route, admission: Admission | None) -> None:
        """Write down what the request cost. Blocks on nothing."""
        if admission is not None and (self.usage.metered or not self.sent_start):
            self.gateway.limiter.settle(admission, self.usage.total)
        if self.sent_start:
            self.gateway.book(principal.name, route.public, self.usage)
        if self.gateway.exporter is not None and self.door.streams:
            self.gateway.exporter.put(self._record(principal, call, route))

    def _record(self, principal: Principal, call: Call, route: Route) -> dict[str, Any]:
        asked: dict[str, Any] = (
            {"messages": messages_of(call)} if self.door is Door.CHAT else {"prompt": prompt_text(call)}
        )
        return {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "request_id": current_request_id(),
            "key": principal.name,
            "model": route.public,
            **asked,
            "answer": "".join(self.texts or ()),
            "status": self.status,
            "usage": {"prompt_tokens": self.usage.prompt_tokens, "completion_tokens": self.usage.completion_tokens},
            "ms": round((self.gateway.loop.time() - self.started) * 1000),
        }

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

    async def _answer_upstream(self, call: Call, route: Route, deadline: float) -> None:
        headers = self.headers
        attempt = Attempt(
            call,
            route,
            current_request_id() or "",
            deadline,
            self.texts,
            self.gateway.settings.gateway_max_response_bytes,
            tuple((name, headers[key].decode("latin-1")) for key, name in _PASSED_HEADERS if key in headers),
        )
        answer = await dispatch(self.gateway.pool, self.gateway.client, attempt)
        if isinstance(answer, OpenAnswer):
            await self._send_stream(answer)
            return
        self.usage = usage_from(answer.payload.get("usage"))
        if self.texts is not None:
            self.texts += choice_texts(answer.payload.get("choices"))
        await self._send_whole(answer)

    async def _send_whole(self, answer: WholeAnswer) -> None:
        headers = [(b"content-type", answer.content_type.encode("utf-8", "surrogateescape")), *answer.headers]
        await self._start(answer.status, [*headers, (b"content-length", str(len(answer.body)).encode())])
        await self._send_last(answer.body)
        self.status = "complete"

    async def _send_json(self, payload: dict[str, Any]) -> None:
        self.usage = usage_from(payload.get("usage"))
        await self._send_whole(WholeAnswer(200, [], "application/json", orjson.dumps(payload), payload))

    async def _send_stream(self, answer: OpenAnswer) -> None:
        lease, reply = answer.lease, answer.reply
        settled = False
        try:
            await self._relay(answer)
            settled = True
            self.status = _settle(answer)
            await reply.finish()
        except UpstreamFailure as failure:
            lease.failed(failure)
            settled = True
            metrics.upstream_call(lease.upstream.name, failure.kind.value)
            log.warning("upstream_failed", upstream=lease.upstream.name, kind=failure.kind, after_first_byte=True)
            raise as_error(failure, lease.upstream.name) from failure
        finally:
            self.usage = usage_from(answer.stream.usage)
            if not settled:
                lease.abandoned()
            reply.close()

    async def _relay(self, answer: OpenAnswer) -> None:
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
        await self._send_last(out)

    async def _answer_built_in(self, call: Call) -> None:
        if not self.door.streams:
            raise NotFound(
                "model-not-found", "The built-in answerer only answers questions.", errors=[{"field": "model"}]
            )
        text, usage = await asyncio.to_thread(chat.answer, call)
        self.usage = usage_from(usage)
        if self.texts is not None:
            self.texts.append(text)
        answer_id = f"{'chatcmpl' if self.door is Door.CHAT else 'cmpl'}-{secrets.token_hex(12)}"
        if call.stream:
            await self._send_events(chat.events(call, text, usage, answer_id=answer_id, created=int(time.time())))
        else:
            await self._send_json(chat.whole(call, text, usage, answer_id=answer_id, created=int(time.time())))
        self.status = "complete"

    async def _send_events(self, events: Iterable[bytes]) -> None:
        await self._start(200, _SSE_HEADERS)
        for event in events:
            await self.send({"type": "http.response.body", "body": event, "more_body": True})
        await self._send_last(b"")

    async def _start(self, status: int, headers: Headers) -> None:
        self.sent_start = True
        metrics.FIRST_BYTE.observe(self.gateway.loop.time() - self.started)
        await self.send({"type": "http.response.start", "status": status, "headers": list(headers)})

    async def _send_last(self, body: bytes) -> None:
        self.stop_watching()
        await self.send({"type": "http.response.body", "body": body})

    async def _fail(self, error: ServiceError) -> None:
        if not self.sent_start:
            raise error
        await self._send_last(error_event(error))


def _settle(answer: OpenAnswer) -> str:
    """Book a stream that reached its end, be it with an error event of the model server; return how it ended."""
    lease, error = answer.lease, answer.stream.error
    if error is None:
        lease.succeeded()
        metrics.upstream_call(lease.upstream.name, "ok")
        return "complete"
    lease.failed(UpstreamFailure(Kind.STATUS, f"sent the error {error.code}", status=error.status))
    metrics.upstream_call(lease.upstream.name, "error-event")
    return "failed"


def _without_ours(headers: Headers) -> Headers:
    return [(name, value) for name, value in headers if name not in (b"cache-control", b"x-accel-buffering")]
