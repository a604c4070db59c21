"""Handles one request: route it, admit it, answer it, and book it at its end."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import structlog

from zhiwen.common.auth.keyring import Principal
from zhiwen.common.errors import Forbidden, InvalidRequest, NotFound, ServiceError
from zhiwen.common.telemetry import current_request_id
from zhiwen.llm_gateway import metrics
from zhiwen.llm_gateway.accounting.booking import Booking, Ending
from zhiwen.llm_gateway.accounting.limits import limits_of
from zhiwen.llm_gateway.accounting.usage import usage_from
from zhiwen.llm_gateway.api.response import ResponseWriter
from zhiwen.llm_gateway.builtin import chat
from zhiwen.llm_gateway.builtin.embeddings import BuiltInEmbeddings
from zhiwen.llm_gateway.errors import FailureKind, UpstreamFailure
from zhiwen.llm_gateway.request import Endpoint, ModelRequest, read_request
from zhiwen.llm_gateway.state import GatewayState
from zhiwen.llm_gateway.upstreams.failover import ForwardedRequest, StreamedAnswer, WholeAnswer, ask_with_failover
from zhiwen.llm_gateway.upstreams.failures import as_error
from zhiwen.llm_gateway.upstreams.pool import deadline_exceeded
from zhiwen.llm_gateway.upstreams.routing import Route, may_use

log = structlog.get_logger(__name__)

_FORWARDED_HEADERS = ((b"traceparent", "traceparent"), (b"tracestate", "tracestate"))


@dataclass(frozen=True, slots=True)
class IncomingRequest:
    """A request as it came.

    `principal` is who sent it. The names in `headers` are in lower case. `asked` is when it came, on the event loop's
    clock.
    """

    endpoint: Endpoint
    principal: Principal
    headers: Mapping[bytes, bytes]
    body: bytes
    asked: float


@dataclass(frozen=True, slots=True)
class RoutedRequest:
    """A request that was read, with the route of its model. `deadline` is on the event loop's clock."""

    incoming: IncomingRequest
    request: ModelRequest
    route: Route
    deadline: float


async def handle(gateway: GatewayState, incoming: IncomingRequest, writer: ResponseWriter) -> None:
    """Answer one request.

    Raises `ServiceError` as long as nothing was sent. Afterwards an error becomes the last event of the stream.
    """
    deadline = incoming.asked + _seconds_allowed(incoming.headers, gateway.bounds.seconds)
    limit = asyncio.timeout_at(deadline)
    try:
        async with limit:
            routed = _route(gateway, incoming, deadline)
            booking = await _admit(gateway, routed)
            await _answer_and_book(gateway, routed, writer, booking)
    except TimeoutError:
        if not limit.expired():
            raise
        await writer.fail(deadline_exceeded("waiting for the model server"))
    except ServiceError as error:
        await writer.fail(error)


def _seconds_allowed(headers: Mapping[bytes, bytes], longest: float) -> float:
    """Return the seconds that a request may take: `longest`, or fewer when its `X-Request-Timeout` says so."""
    asked = headers.get(b"x-request-timeout")
    if asked is None:
        return longest
    try:
        seconds = float(asked)
    except ValueError:
        seconds = -1.0
    if not seconds > 0:
        raise InvalidRequest("invalid-request", "X-Request-Timeout must be a number of seconds.", status=400)
    return min(longest, seconds)


def _route(gateway: GatewayState, incoming: IncomingRequest, deadline: float) -> RoutedRequest:
    request = read_request(incoming.endpoint, incoming.body)
    embeddings = _embeddings_for(gateway, request)
    route = Route(embeddings.model) if embeddings is not None else gateway.pool.resolve(request.model)
    return RoutedRequest(incoming, request, route, deadline)


def _embeddings_for(gateway: GatewayState, request: ModelRequest) -> BuiltInEmbeddings | None:
    """Return the built-in embedding model when the request names it or names no model, otherwise None."""
    embeddings = gateway.embeddings
    if embeddings is None or request.endpoint is not Endpoint.EMBEDDINGS:
        return None
    return embeddings if request.model in ("", "default", embeddings.model) else None


async def _admit(gateway: GatewayState, routed: RoutedRequest) -> Booking:
    """Admit a request. Raises `Forbidden` for a model that the key may not use, `TooMany` over the key's limits."""
    key, model = routed.incoming.principal.name, routed.route.public
    limits = limits_of(gateway.pool.config.keys, key)
    if limits is not None and not may_use(limits.models, model):
        raise Forbidden("model-not-allowed", f"This key may not use {model}.", errors=[{"field": "model"}])
    return await gateway.books.open(routed.request, key=key, model=model, limits=limits)


async def _answer_and_book(
    gateway: GatewayState, routed: RoutedRequest, writer: ResponseWriter, booking: Booking
) -> None:
    try:
        if not routed.route.built_in:
            await _answer_from_upstream(gateway, routed, writer, booking)
        elif (embeddings := _embeddings_for(gateway, routed.request)) is not None:
            await _answer_with_embeddings(embeddings, routed.request, writer, booking)
        else:
            await _answer_with_quotes(routed.request, writer, booking)
    except asyncio.CancelledError:
        booking.ending = "cancelled"
        raise
    finally:
        booking.close(answered=writer.started, seconds=gateway.clock() - routed.incoming.asked)


async def _answer_with_embeddings(
    embeddings: BuiltInEmbeddings, request: ModelRequest, writer: ResponseWriter, booking: Booking
) -> None:
    payload = await embeddings.answer(request)
    booking.usage = usage_from(payload["usage"])
    await _send_json(payload, writer)
    booking.ending = "complete"


async def _answer_with_quotes(request: ModelRequest, writer: ResponseWriter, booking: Booking) -> None:
    if not request.endpoint.generates_text:
        raise NotFound("model-not-found", "The built-in answerer only answers questions.", errors=[{"field": "model"}])
    answer = await asyncio.to_thread(chat.answer, request, unique=secrets.token_hex(12), created=int(time.time()))
    booking.usage = usage_from(answer.usage)
    if booking.texts is not None:
        booking.texts.append(answer.text)
    if request.stream:
        await writer.send_events(answer.events())
    else:
        await _send_json(answer.payload(), writer)
    booking.ending = "complete"


async def _send_json(payload: dict[str, Any], writer: ResponseWriter) -> None:
    await writer.send_whole(orjson.dumps(payload), headers=[(b"content-type", b"application/json")])


async def _answer_from_upstream(
    gateway: GatewayState, routed: RoutedRequest, writer: ResponseWriter, booking: Booking
) -> None:
    headers = routed.incoming.headers
    forwarded = ForwardedRequest(
        routed.request,
        routed.route,
        current_request_id() or "",
        routed.deadline,
        booking.texts,
        gateway.bounds.response_bytes,
        tuple((name, headers[key].decode("latin-1")) for key, name in _FORWARDED_HEADERS if key in headers),
    )
    answer = await ask_with_failover(gateway.pool, gateway.client, forwarded)
    if isinstance(answer, StreamedAnswer):
        await _pass_stream_on(answer, writer, booking)
    else:
        await _pass_whole_on(answer, writer, booking)


async def _pass_whole_on(answer: WholeAnswer, writer: ResponseWriter, booking: Booking) -> None:
    booking.note_answer(answer.payload)
    content_type = answer.content_type.encode("utf-8", "surrogateescape")
    headers = [(b"content-type", content_type), *answer.headers]
    await writer.send_whole(answer.body, status=answer.status, headers=headers)
    booking.ending = "complete"


async def _pass_stream_on(answer: StreamedAnswer, writer: ResponseWriter, booking: Booking) -> None:
    """Pass a stream on to its end and settle its slot. A failure is raised as the error for the client."""
    slot, response = answer.slot, answer.response
    try:
        await _pass_chunks_on(answer, writer)
        booking.ending = _settle(answer)
        await response.drain()
    except UpstreamFailure as failure:
        name = slot.upstream.name
        slot.failed(failure)
        metrics.upstream_call(name, failure.kind.value)
        log.warning("upstream_failed", upstream=name, kind=failure.kind, after_first_byte=True)
        raise as_error(failure, name) from failure
    finally:
        booking.usage = usage_from(answer.stream.usage)
        slot.abandoned()  # unless it is settled
        response.close()


async def _pass_chunks_on(answer: StreamedAnswer, writer: ResponseWriter) -> None:
    """Send each chunk when it comes. Raises `UpstreamFailure`."""
    response, stream, send = answer.response, answer.stream, writer.send
    await writer.start_stream(response.status, response.headers())
    out, over = answer.first, answer.over
    while not (over or stream.done or stream.error is not None):
        if out:
            await send({"type": "http.response.body", "body": out, "more_body": True})
        chunk = await response.next_chunk()
        over = not chunk
        out = stream.feed(chunk) if chunk else stream.end()
    await writer.end(out)


def _settle(answer: StreamedAnswer) -> Ending:
    """Settle the slot of a stream that has ended, with an answer or with an error event of the model server."""
    slot, error = answer.slot, answer.stream.error
    if error is None:
        slot.succeeded()
        metrics.upstream_call(slot.upstream.name, "ok")
        return "complete"
    slot.failed(UpstreamFailure(FailureKind.STATUS, f"sent the error {error.code}", status=error.status))
    metrics.upstream_call(slot.upstream.name, "error-event")
    return "failed"
