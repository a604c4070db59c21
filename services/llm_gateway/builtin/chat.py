"""The built-in extractive answerer behind OpenAI's API, whole and streamed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from zhiwen.common.prompts import EXTRACTIVE_MODEL
from zhiwen.llm_gateway.builtin import extractive
from zhiwen.llm_gateway.errors import invalid_field
from zhiwen.llm_gateway.passthrough.sse import DONE, event_of
from zhiwen.llm_gateway.request import Endpoint, ModelRequest, message_text, messages_of, prompt_text

PIECE = 12  # characters of one streamed event


@dataclass(frozen=True, slots=True)
class BuiltInAnswer:
    """The text and usage of one answer. `created` is in seconds since the epoch."""

    request: ModelRequest
    text: str
    usage: dict[str, int]
    answer_id: str
    created: int

    @property
    def _is_chat(self) -> bool:
        return self.request.endpoint is Endpoint.CHAT

    def payload(self) -> dict[str, Any]:
        """Return the body of an answer that is not streamed."""
        if self._is_chat:
            content: dict[str, Any] = {"message": {"role": "assistant", "content": self.text}}
        else:
            content = {"text": self.text}
        frame = self._frame("chat.completion" if self._is_chat else "text_completion")
        return frame | {"choices": [_choice(content, finish_reason="stop")], "usage": self.usage}

    def events(self) -> Iterator[bytes]:
        """Yield the events of a streamed answer, `[DONE]` included."""
        frame = self._frame("chat.completion.chunk" if self._is_chat else "text_completion")
        for content in self._pieces():
            yield event_of(frame | {"choices": [_choice(content, finish_reason=None)]})
        last: dict[str, Any] = {"delta": {}} if self._is_chat else {"text": ""}
        yield event_of(frame | {"choices": [_choice(last, finish_reason="stop")]})
        if self.request.shows_usage:
            yield event_of(frame | {"choices": [], "usage": self.usage})
        yield DONE

    def _pieces(self) -> Iterator[dict[str, Any]]:
        if self._is_chat:
            yield {"delta": {"role": "assistant", "content": ""}}
        for start in range(0, len(self.text), PIECE):
            piece = self.text[start : start + PIECE]
            yield {"delta": {"content": piece}} if self._is_chat else {"text": piece}

    def _frame(self, kind: str) -> dict[str, Any]:
        return {"id": self.answer_id, "object": kind, "created": self.created, "model": EXTRACTIVE_MODEL}


def answer(request: ModelRequest, *, unique: str, created: int) -> BuiltInAnswer:
    """Answer a request by quoting its passages. Raises `InvalidRequest` when it holds no text.

    `unique` is the unique part of the answer's id; `created` is in seconds since the epoch.
    """
    text = extractive.answer_prompt(_prompt(request)).text
    prompt_tokens = extractive.count_tokens(prompt_text(request))
    completion_tokens = extractive.count_tokens(text)
    usage = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }
    prefix = "chatcmpl" if request.endpoint is Endpoint.CHAT else "cmpl"
    return BuiltInAnswer(request, text, usage, f"{prefix}-{unique}", created)


def _prompt(request: ModelRequest) -> str:
    """Return the prompt of a completion, or the last user message of a chat.

    System messages come before that user message, because the passages may stand there.
    """
    if request.endpoint is Endpoint.COMPLETIONS:
        text = prompt_text(request)
    else:
        messages = messages_of(request)
        asked = [message_text(m) for m in messages if m.get("role") == "user"][-1:]
        system = [message_text(m) for m in messages if m.get("role") in ("system", "developer")] if asked else []
        text = "\n".join([*system, *asked])
    if not text.strip():
        field = "prompt" if request.endpoint is Endpoint.COMPLETIONS else "messages"
        raise invalid_field(field, f"{field} holds no text to answer.")
    return text


def _choice(content: dict[str, Any], *, finish_reason: str | None) -> dict[str, Any]:
    return {"index": 0, **content, "logprobs": None, "finish_reason": finish_reason}
