"""Asking the language model, through the gateway. The openai SDK appears only here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import openai
from openai import AsyncOpenAI

from services.common.errors import ServiceError, Unavailable
from services.common.telemetry import REQUEST_ID_HEADER


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
            reply = await self._client.chat.completions.create(**_arguments(prompt))
        except openai.APIError as exc:
            raise _translated(exc) from exc
        text = (reply.choices[0].message.content or "") if reply.choices else ""
        return Generated(text, reply.model, _usage(reply.usage))

    async def stream(self, prompt: Prompt) -> AsyncIterator[Generated]:
        """Yield the answer piece by piece as it comes. Closing the iterator ends the upstream call."""
        finished = False
        try:
            reply = await self._client.chat.completions.create(
                **_arguments(prompt), stream=True, stream_options={"include_usage": True}
            )
            async with reply:
                async for event in reply:
                    choice = event.choices[0] if event.choices else None
                    finished = finished or bool(choice and choice.finish_reason)
                    text = (choice.delta.content or "") if choice else ""
                    yield Generated(text, event.model, _usage(event.usage))
        except openai.APIError as exc:
            raise _translated(exc) from exc
        if not finished:
            raise ServiceError(
                "answer-broken-off", "The model server broke off in the middle of its answer.", status=502
            )


def _arguments(prompt: Prompt) -> dict[str, Any]:
    arguments: dict[str, Any] = {"model": prompt.model, "messages": list(prompt.messages)}
    if prompt.temperature is not None:
        arguments["temperature"] = prompt.temperature
    if prompt.max_tokens is not None:
        arguments["max_tokens"] = prompt.max_tokens
    if prompt.request_id:
        arguments["extra_headers"] = {REQUEST_ID_HEADER: prompt.request_id}
    return arguments


def _usage(usage: Any) -> Mapping[str, int] | None:
    if usage is None:
        return None
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }


def _translated(exc: openai.APIError) -> ServiceError:
    match exc:
        case openai.APITimeoutError():
            return ServiceError("answer-timeout", "The language model did not answer in time.", status=504)
        case openai.APIConnectionError():
            return Unavailable("gateway-unavailable", "The LLM gateway does not answer.")
        case openai.APIStatusError(status_code=429):
            error = ServiceError("model-busy", f"The language model is busy: {exc.message}", status=429)
            error.headers["Retry-After"] = exc.response.headers.get("retry-after", "5")
            return error
        case _:
            return ServiceError("model-error", f"The language model answered with an error: {exc.message}", status=502)
