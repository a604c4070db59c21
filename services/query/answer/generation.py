"""Asks the language model through the gateway. Only this module uses the openai SDK."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import openai
from openai import AsyncOpenAI, AsyncStream

from zhiwen.common.api.questions import Usage
from zhiwen.common.errors import ServiceError, Unavailable
from zhiwen.common.telemetry import REQUEST_ID_HEADER, current_request_id


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What the model is asked, and how. `model` is "" for the gateway's default."""

    messages: Sequence[Mapping[str, str]]
    model: str
    temperature: float | None = None
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of a streamed completion, with the model and the used tokens if the server reports them."""

    text: str
    model: str | None = None
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """The whole text that the model wrote, with the model and the used tokens if the server reported them."""

    text: str
    model: str | None = None
    usage: Usage | None = None

    @classmethod
    def of(cls, deltas: Sequence[Delta]) -> Self:
        """Join pieces. The last reported model and the last reported tokens count."""
        return cls(
            text="".join(delta.text for delta in deltas),
            model=next((delta.model for delta in reversed(deltas) if delta.model), None),
            usage=next((delta.usage for delta in reversed(deltas) if delta.usage), None),
        )


class Generator:
    """Chat completions of the gateway.

    Raises `Unavailable` (`gateway-unavailable`) when the gateway does not answer, and `ServiceError` when it answers
    with an error, before or in the middle of a stream: `answer-timeout`, `model-busy`, `answer-broken-off`, or
    `model-error` with the gateway's own sentence.
    """

    def __init__(self, url: str, *, api_key: str, timeout: float) -> None:
        """Take the gateway's address without `/v1`, its key if it wants one, and the seconds an answer may take."""
        self._client = AsyncOpenAI(
            base_url=f"{url.rstrip('/')}/v1", api_key=api_key or "none", timeout=timeout, max_retries=0
        )

    async def close(self) -> None:
        """Close the connections to the gateway."""
        await self._client.close()

    async def ping(self) -> None:
        """Raise unless the gateway answers."""
        try:
            await self._client.models.list()
        except openai.APIError as exc:
            raise _translated(exc) from exc

    async def complete(self, request: ChatRequest) -> Completion:
        """Return the whole completion at once."""
        try:
            reply = await self._client.chat.completions.create(**_fields(request), extra_headers=_headers())
        except openai.APIError as exc:
            raise _translated(exc) from exc
        text = (reply.choices[0].message.content or "") if reply.choices else ""
        return Completion(text, reply.model, _usage(reply.usage.model_dump() if reply.usage else None))

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Delta, None]:
        """Yield the completion piece by piece as it comes. Closing the generator ends the call to the gateway.

        Events are read as plain JSON, because building the SDK's objects for each token would cost more than the rest.
        """
        finished = False
        try:
            reply = await self._client.post(
                "/chat/completions",
                body={**_fields(request), "stream": True, "stream_options": {"include_usage": True}},
                options={"headers": _headers()},
                cast_to=object,
                stream=True,
                stream_cls=AsyncStream[object],
            )
            async with reply:
                async for event in reply:
                    delta, ends = _delta(event)
                    finished = finished or ends
                    yield delta
        except openai.APIError as exc:
            raise _translated(exc) from exc
        if not finished:
            raise ServiceError(
                "answer-broken-off", "The model server broke off in the middle of its answer.", status=502
            )


def _delta(event: Any) -> tuple[Delta, bool]:
    """Return what a `chat.completion.chunk` adds to the completion, and whether it says why the completion ends."""
    choice = event["choices"][0] if event.get("choices") else {}
    text = (choice.get("delta") or {}).get("content") or ""
    return Delta(text, event.get("model"), _usage(event.get("usage"))), bool(choice.get("finish_reason"))


def _fields(request: ChatRequest) -> dict[str, Any]:
    fields: dict[str, Any] = {"model": request.model, "messages": list(request.messages)}
    if request.temperature is not None:
        fields["temperature"] = request.temperature
    if request.max_tokens is not None:
        fields["max_tokens"] = request.max_tokens
    return fields


def _headers() -> dict[str, str]:
    """Return the header that lets the gateway log under the id of the request being served."""
    request_id = current_request_id()
    return {REQUEST_ID_HEADER: request_id} if request_id else {}


def _usage(counted: Mapping[str, Any] | None) -> Usage | None:
    if counted is None:
        return None
    return Usage(**{name: counted.get(name) or 0 for name in Usage.model_fields})


def _translated(exc: openai.APIError) -> ServiceError:
    """Return the SDK's error as one of ours."""
    match exc:
        case openai.APITimeoutError():
            return ServiceError("answer-timeout", "The language model did not answer in time.", status=504)
        case openai.APIConnectionError():
            return Unavailable("gateway-unavailable", "The LLM gateway does not answer.")
        case openai.APIStatusError(status_code=429):
            error = ServiceError("model-busy", f"The language model is busy: {_message(exc)}", status=429)
            error.headers["Retry-After"] = exc.response.headers.get("retry-after", "5")
            return error
        case _:
            return ServiceError(
                "model-error", f"The language model answered with an error: {_message(exc)}", status=502
            )


def _message(exc: openai.APIError) -> str:
    """Return the server's own message. The SDK's begins with "Error code" and may hold the whole body."""
    message = exc.body.get("message") if isinstance(exc.body, dict) else None
    if isinstance(message, str) and message.strip():
        return message
    return f"status {exc.status_code}, without a message." if isinstance(exc, openai.APIStatusError) else exc.message
