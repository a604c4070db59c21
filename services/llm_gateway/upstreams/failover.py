"""Sends one request to the upstreams: choose one, ask it, and ask another one if it fails before its first byte.

`routing.choose` and `failures.next_delay` decide; this module is the loop around them.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import Any

import orjson
import structlog

from zhiwen.common.errors import ServiceError
from zhiwen.llm_gateway.errors import (
    FailureKind,
    UpstreamError,
    UpstreamFailure,
    error_in,
    error_object,
    json_object,
)
from zhiwen.llm_gateway.metrics import upstream_call
from zhiwen.llm_gateway.passthrough import json_splice
from zhiwen.llm_gateway.passthrough.answer_stream import AnswerStream
from zhiwen.llm_gateway.request import ModelRequest, body_for
from zhiwen.llm_gateway.upstreams import failures
from zhiwen.llm_gateway.upstreams.http import Headers, UpstreamClient, UpstreamResponse
from zhiwen.llm_gateway.upstreams.pool import Pool, Slot
from zhiwen.llm_gateway.upstreams.routing import Route

log = structlog.get_logger(__name__)

TIMER_SLACK = 0.01  # seconds added to a wait: a timer may fire early, and `Retry-After` must have passed


@dataclass(slots=True)
class WholeAnswer:
    """An answer that was read to its end. `payload` is the parsed body, for reading only."""

    status: int
    headers: Headers
    content_type: str
    body: bytes
    payload: dict[str, Any]


@dataclass(slots=True)
class StreamedAnswer:
    """A streamed answer whose first event has arrived.

    `first` holds the bytes to send now. `over` is True when nothing follows them. The caller must settle the slot and
    close the response.
    """

    slot: Slot
    response: UpstreamResponse
    stream: AnswerStream
    first: bytes
    over: bool


@dataclass(frozen=True, slots=True)
class ForwardedRequest:
    """A request to forward, the same for every upstream that is tried.

    `deadline` is on the event loop's clock. `texts` collects the text of a streamed answer; None collects nothing.
    `max_bytes` limits an answer that is not streamed. `extra_headers` are sent beside those of the upstream.
    """

    request: ModelRequest
    route: Route
    request_id: str
    deadline: float
    texts: list[str] | None
    max_bytes: int
    extra_headers: tuple[tuple[str, str], ...] = ()


async def ask_with_failover(
    pool: Pool, client: UpstreamClient, forwarded: ForwardedRequest
) -> WholeAnswer | StreamedAnswer:
    """Return the answer of the first upstream that gives one. Raises `ServiceError`.

    It returns before the client has any byte of the answer. After that no other upstream is tried.
    """
    loop = asyncio.get_running_loop()
    tried: frozenset[str] = frozenset()
    last: UpstreamError | None = None
    attempt = 0
    while True:
        attempt += 1
        slot = await _acquire(pool, forwarded, tried, last)
        name = slot.upstream.name
        try:
            return await _ask_and_settle(client, slot, forwarded)
        except UpstreamFailure as failure:
            last = failures.as_error(failure, name)
            others = pool.others_left(forwarded.route, tried | {name})
            delay = failures.next_delay(
                failure,
                attempt=attempt,
                others=others,
                remaining=forwarded.deadline - loop.time(),
                jitter=random.random(),  # noqa: S311 (spreads retries, guards nothing)
                policy=pool.config.retry,
            )
            log.warning("upstream_failed", upstream=name, kind=failure.kind, status=failure.status, retry_in=delay)
            if delay is None:
                raise last from failure
        tried = tried | {name} if others else frozenset()
        if delay > 0:
            await asyncio.sleep(delay + TIMER_SLACK)


async def _acquire(pool: Pool, forwarded: ForwardedRequest, tried: frozenset[str], last: UpstreamError | None) -> Slot:
    """Return a slot. When no upstream is left, raise the last failure, because it is the more useful error."""
    try:
        return await pool.acquire(forwarded.route, tried, forwarded.deadline)
    except ServiceError as exc:
        if last is not None and exc.code in ("no-upstream", "upstream-rate-limited"):
            raise last from exc
        raise


async def _ask_and_settle(
    client: UpstreamClient, slot: Slot, forwarded: ForwardedRequest
) -> WholeAnswer | StreamedAnswer:
    """Ask one upstream and settle its slot. The slot of a streamed answer is left to the caller."""
    name = slot.upstream.name
    try:
        answer = await _ask(client, slot, forwarded)
    except UpstreamFailure as failure:
        slot.failed(failure)
        upstream_call(name, failure.kind.value)
        raise
    except BaseException:
        slot.abandoned()
        raise
    if isinstance(answer, WholeAnswer):
        slot.succeeded()
        upstream_call(name, "ok")
    else:
        slot.first_byte()
    return answer


async def _ask(client: UpstreamClient, slot: Slot, forwarded: ForwardedRequest) -> WholeAnswer | StreamedAnswer:
    upstream, request = slot.upstream, forwarded.request
    asks_usage = upstream.asks_usage
    try:
        response = await _post(client, slot, forwarded, asks_usage=asks_usage)
    except UpstreamFailure as failure:
        if not (asks_usage and _is_about_usage(failure, request)):
            raise
        log.info("upstream_refuses_stream_options", upstream=upstream.name)
        upstream.refuses_usage = True
        asks_usage = False
        response = await _post(client, slot, forwarded, asks_usage=False)
    try:
        if not request.stream:
            return await _read_whole(response, slot, forwarded)
        if not response.is_event_stream:
            raise await _not_a_stream(response, forwarded)
        return await _read_first_event(response, slot, forwarded, hide_usage=asks_usage and not request.shows_usage)
    except BaseException:
        response.close()
        raise


async def _post(
    client: UpstreamClient, slot: Slot, forwarded: ForwardedRequest, *, asks_usage: bool
) -> UpstreamResponse:
    upstream, request = slot.upstream, forwarded.request
    body = body_for(request, slot.model, ask_usage=asks_usage)
    headers = {**upstream.headers, "X-Request-ID": forwarded.request_id, **dict(forwarded.extra_headers)}
    headers["Accept"] = "text/event-stream" if request.stream else "application/json"
    return await client.post(upstream.url(request.endpoint.value), body, headers, upstream.timeouts)


def _is_about_usage(failure: UpstreamFailure, request: ModelRequest) -> bool:
    """Return True when a server refuses the usage field, which the gateway added and not the client."""
    ours = request.stream and "stream_options" not in request.fields
    return ours and failure.status in (400, 422) and b"stream_options" in failure.body


async def _read_whole(response: UpstreamResponse, slot: Slot, forwarded: ForwardedRequest) -> WholeAnswer:
    body = await response.read(forwarded.max_bytes)
    payload = json_object(body)
    if payload is None:
        raise UpstreamFailure(FailureKind.GARBAGE, "sent an answer that is no JSON object")
    if "choices" not in payload and (error := error_in(payload)) is not None:
        raise _as_http_error(error)
    if "model" in payload and slot.model != forwarded.route.public:
        body = json_splice.splice(body, {"model": orjson.dumps(forwarded.route.public)})
    content_type = response.content_type or "application/json"
    answer = WholeAnswer(response.status, response.headers(), content_type, body, payload)
    response.close()
    return answer


async def _read_first_event(
    response: UpstreamResponse, slot: Slot, forwarded: ForwardedRequest, *, hide_usage: bool
) -> StreamedAnswer:
    """Wait for the first whole event. Until then no status was sent, so another upstream can still be asked."""
    stream = AnswerStream(
        alias=forwarded.route.public if slot.model != forwarded.route.public else None,
        hide_usage=hide_usage,
        texts=forwarded.texts,
    )
    first = b""
    over = False
    while not first and not over:
        chunk = await response.next_chunk()
        over = not chunk
        first = stream.feed(chunk) if chunk else stream.end()
    if stream.error is not None and stream.events <= 1:
        raise _as_http_error(stream.error)
    return StreamedAnswer(slot, response, stream, first, over)


async def _not_a_stream(response: UpstreamResponse, forwarded: ForwardedRequest) -> UpstreamFailure:
    payload = json_object(await response.read(forwarded.max_bytes))
    if payload is not None and (error := error_in(payload)) is not None:
        return _as_http_error(error)
    return UpstreamFailure(FailureKind.GARBAGE, "did not answer with a stream of events")


def _as_http_error(error: UpstreamError) -> UpstreamFailure:
    """Return an error that came with status 200 as the failure with the status that it means."""
    body = error.body or orjson.dumps(error_object(error))
    return UpstreamFailure(FailureKind.STATUS, f"answered with the error {error.code}", status=error.status, body=body)
