"""Asking the language model, through the gateway. The openai SDK appears only here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import openai
from openai import AsyncOpenAI, AsyncStream

from zhiwen.common.errors import ServiceError, Unavailable
from zhiwen.common.telemetry import REQUEST_ID_HEADER


@dataclass(frozen=True, slots=True)
class Generated:
    """A piece of an answer (`text`), and, where known, the model and the tokens used."""

    text: str
    model: str | None = None
    usage: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the model is asked, and how."""

    messages: Sequence[Mapping[str, str]]
    model: str
    temperature: float | None = None
    max_tokens: int | None = None
    request_id: str | None = None


class Generator:
    """Chat completions of the gateway.

    Raises `Unavailable` (`gateway-unavailable`) when it does not answer, `ServiceError` (`model-error`) with the
    gateway's own sentence when it answers with an error, before or in the middle of a stream.
    """

    def __init__(self, url: str, *, api_key: str, timeout: float) -> None:
        self._client = AsyncOpenAI(
            base_url=f"{url.rstrip('/')}/v1", api_key=api_key or "none", timeout=timeout, max_retries=0
        )

    async def close(self) -> None:
        await self._client.close()

    async def ping(self) -> None:
        """Raise unless the gateway answers."""
        try:
            await self._client.models.list()
        except openai.APIError as exc:
            raise _translated(exc) from exc

    async def complete(self, prompt: Prompt) -> Generated:
        """Return the whole answer."""
        try:
            reply = await self._client.chat.completions.create(**_fields(prompt), extra_headers=_headers(prompt))
        except openai.APIError as exc:
            raise _translated(exc) from exc
        text = (reply.choices[0].message.content or "") if reply.choices else ""
        return Generated(text, reply.model, _usage(reply.usage.model_dump() if reply.usage else None))

    async def stream(self, prompt: Prompt) -> AsyncIterator[Generated]:
        """Yield the answer piece by piece as it comes. Closing the iterator ends the upstream call.

        Events are taken as plain JSON: to build the SDK's models of each token costs more than all the rest.
        """
        finished = False
        try:
            reply = await self._client.post(
                "/chat/completions",
                body={**_fields(prompt), "stream": True, "stream_options": {"include_usage": True}},
                options={"headers": _headers(prompt)},
                cast_to=object,
                stream=True,
                stream_cls=AsyncStream[object],
            )
            async with reply:
                async for event in reply:
                    piece, ends = _piece(event)
                    finished = finished or ends
                    yield piece
        except openai.APIError as exc:
            raise _translated(exc) from exc
        if not finished:
            raise ServiceError(
                "answer-broken-off", "The model server broke off in the middle of its answer.", status=502
            )


def _piece(event: Any) -> tuple[Generated, bool]:
    """Return what a `chat.completion.chunk` adds to the answer, and whether it gives the reason for the end."""
    choice = event["choices"][0] if event.get("choices") else {}
    text = (choice.get("delta") or {}).get("content") or ""
    return Generated(text, event.get("model"), _usage(event.get("usage"))), bool(choice.get("finish_reason"))


def _fields(prompt: Prompt) -> dict[str, Any]:
    fields: dict[str, Any] = {"model": prompt.model, "messages": list(prompt.messages)}
    if prompt.temperature is not None:
        fields["temperature"] = prompt.temperature
    if prompt.max_tokens is not None:
        fields["max_tokens"] = prompt.max_tokens
    return fields


def _headers(prompt: Prompt) -> dict[str, str]:
    return {REQUEST_ID_HEADER: prompt.request_id} if prompt.request_id else {}


def _usage(usage: Mapping[str, Any] | None) -> Mapping[str, int] | None:
    if usage is None:
        return None
    return {name: usage.get(name) or 0 for name in ("prompt_tokens", "completion_tokens", "total_tokens")}


def _translated(exc: openai.APIError) -> ServiceError:
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
    """Return the server's own message: the SDK's begins with "Error code" and may hold the whole body."""
    message = exc.body.get("message") if isinstance(exc.body, dict) else None
    if isinstance(message, str) and message.strip():
        return message
    return f"status {exc.status_code}, without a message." if isinstance(exc, openai.APIStatusError) else exc.message
