"""One request against the upstreams: choose, call, fail over before the first byte, and hand over what came.

The decisions are `routing.choose` and `failures.next_delay`; this is the loop around them.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import Any

import orjson
import structlog

from zhiwen.common.errors import ServiceError
from zhiwen.llm_gateway.errors import UpstreamError, error_in, error_object
from zhiwen.llm_gateway.metrics import upstream_call
from zhiwen.llm_gateway.passthrough import json_splice
from zhiwen.llm_gateway.passthrough.answer_stream import AnswerStream
from zhiwen.llm_gateway.request import Call, body_for
from zhiwen.llm_gateway.upstreams import failures
from zhiwen.llm_gateway.upstreams.failures import Kind, UpstreamFailure
from zhiwen.llm_gateway.upstreams.http import Reply, UpstreamClient
from zhiwen.llm_gateway.upstreams.pool import Lease, Pool
from zhiwen.llm_gateway.upstreams.routing import Route

log = structlog.get_logger(__name__)

TIMER_SLACK = 0.01  # seconds; a timer may fire a little early, and a server's `Retry-After` must have passed

Headers = list[tuple[bytes, bytes]]


@dataclass(slots=True)
class WholeAnswer:
    """An answer that is all here. `payload` is the parsed body, for reading only."""

    status: int
    headers: Headers
    content_type: str
    body: bytes
    payload: Any


@dataclass(slots=True)
class OpenAnswer:
    """A streamed answer whose first event is here; `first` are the bytes to send. The caller settles the lease and
    closes the reply."""

    lease: Lease
    reply: Reply
    stream: AnswerStream
    first: bytes
    over: bool


@dataclass(frozen=True, slots=True)
class Attempt:
    """What every attempt of one request has in common. `deadline` is on the event loop's clock, `texts` collects the
    text of a streamed answer for whoever wants it."""

    call: Call
    route: Route
    request_id: str
    deadline: float
    texts: list[str] | None
    max_bytes: int
    passed_headers: tuple[tuple[str, str], ...] = ()


async def dispatch(pool: Pool, client: UpstreamClient, attempt: Attempt) -> WholeAnswer | OpenAnswer:
    """Return the answer of the first upstream that gives one. Raises `ServiceError`; never fails over once a byte of
    an answer is with the client, because then it has returned."""
    loop = asyncio.get_running_loop()
    tried: frozenset[str] = frozenset()
    last: UpstreamError | None = None
    count = 0
    while True:
        count += 1
        lease = await _acquire(pool, attempt, tried, last)
        name = lease.upstream.name
        try:
            answer = await _call(client, lease, attempt)
        except UpstreamFailure as failure:
            lease.failed(failure)
            upstream_call(name, failure.kind.value)
            last = failures.as_error(failure, name)
            delay = failures.next_delay(
                failure,
                attempt=count,
                others=pool.others_left(attempt.route, tried | {name}),
                remaining=attempt.deadline - loop.time(),
                jitter=random.random(),  # noqa: S311 (spreads retries, guards nothing)
                policy=pool.config.retry,
            )
            log.warning("upstream_failed", upstream=name, kind=failure.kind, status=failure.status, retry_in=delay)
            if delay is None:
                raise last from failure
            tried = tried | {name} if pool.others_left(attempt.route, tried | {name}) else frozenset()
            if delay > 0:
                await asyncio.sleep(delay + TIMER_SLACK)
        except BaseException:
            lease.abandoned()
            raise
        else:
            if isinstance(answer, WholeAnswer):
                lease.succeeded()
                upstream_call(name, "ok")
            else:
                lease.first_byte()
            return answer


async def _acquire(pool: Pool, attempt: Attempt, tried: frozenset[str], last: UpstreamError | None) -> Lease:
    """Where nobody is left to ask, the failure that led there says more than that."""
    try:
        return await pool.acquire(attempt.route, tried, attempt.deadline)
    except ServiceError as exc:
        if last is not None and exc.code in ("no-upstream", "upstream-rate-limited"):
            raise last from exc
        raise


async def _call(client: UpstreamClient, lease: Lease, attempt: Attempt) -> WholeAnswer | OpenAnswer:
    upstream, call = lease.upstream, attempt.call
    asks_usage = upstream.asks_usage
    try:
        reply = await _post(client, lease, attempt, asks_usage=asks_usage)
    except UpstreamFailure as failure:
        if not (asks_usage and _is_about_usage(failure, call)):
            raise
        log.info("upstream_refuses_stream_options", upstream=upstream.name)
        upstream.refuses_usage = True
        asks_usage = False
        reply = await _post(client, lease, attempt, asks_usage=False)
    try:
        if not call.stream:
            return await _whole(reply, lease, attempt)
        if not reply.is_event_stream:
            raise await _not_a_stream(reply, attempt)
        return await _open(reply, lease, attempt, hide_usage=asks_usage and not call.shows_usage)
    except BaseException:
        reply.close()
        raise


async def _post(client: UpstreamClient, lease: Lease, attempt: Attempt, *, asks_usage: bool) -> Reply:
    upstream, call = lease.upstream, attempt.call
    body = body_for(call, lease.model, ask_usage=asks_usage)
    headers = {**upstream.headers, "X-Request-ID": attempt.request_id, **dict(attempt.passed_headers)}
    headers["Accept"] = "text/event-stream" if call.stream else "application/json"
    return await client.post(upstream.url(call.door.value), body, headers, upstream.timeouts)


def _is_about_usage(failure: UpstreamFailure, call: Call) -> bool:
    """True when a server refuses the field that the gateway, and not the client, put into the request."""
    ours = call.stream and "stream_options" not in call.fields
    return ours and failure.status in (400, 422) and b"stream_options" in failure.body


async def _whole(reply: Reply, lease: Lease, attempt: Attempt) -> WholeAnswer:
    body = await reply.read(attempt.max_bytes)
    payload = _payload_of(body)
    if payload is None:
        raise UpstreamFailure(Kind.GARBAGE, "sent an answer that is no JSON object")
    if "choices" not in payload and (error := error_in(payload)) is not None:
        raise _as_status(error)
    if "model" in payload and lease.model != attempt.route.public:
        body = json_splice.splice(body, {"model": orjson.dumps(attempt.route.public)})
    answer = WholeAnswer(reply.status, reply.headers(), reply.content_type or "application/json", body, payload)
    reply.close()
    return answer


async def _open(reply: Reply, lease: Lease, attempt: Attempt, *, hide_usage: bool) -> OpenAnswer:
    """Wait for the first whole event: until then the status is still open and another upstream can be asked."""
    stream = AnswerStream(
        alias=attempt.route.public if lease.model != attempt.route.public else None,
        hide_usage=hide_usage,
        texts=attempt.texts,
    )
    first = b""
    over = False
    while not first and not over:
        chunk = await reply.next_chunk()
        over = not chunk
        first = stream.feed(chunk) if chunk else stream.end()
    if stream.error is not None and stream.events <= 1:
        raise _as_status(stream.error)
    return OpenAnswer(lease, reply, stream, first, over)


async def _not_a_stream(reply: Reply, attempt: Attempt) -> UpstreamFailure:
    payload = _payload_of(await reply.read(attempt.max_bytes))
    if payload is not None and (error := error_in(payload)) is not None:
        return _as_status(error)
    return UpstreamFailure(Kind.GARBAGE, "did not answer with a stream of events")


def _as_status(error: UpstreamError) -> UpstreamFailure:
    """An error that came with status 200 is treated as what it says it is."""
    body = error.body or orjson.dumps(error_object(error))
    return UpstreamFailure(Kind.STATUS, f"answered with the error {error.code}", status=error.status, body=body)


def _payload_of(body: bytes) -> dict[str, Any] | None:
    try:
        payload = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return payload if isinstance(payload, dict) else None
