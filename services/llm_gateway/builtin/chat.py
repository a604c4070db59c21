"""The built-in extractive answerer in OpenAI's shapes, whole and streamed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from zhiwen.common.errors import InvalidRequest
from zhiwen.common.prompts import EXTRACTIVE_MODEL
from zhiwen.llm_gateway.builtin import extractive
from zhiwen.llm_gateway.passthrough.sse import DONE, event_of
from zhiwen.llm_gateway.request import Call, Door, message_text, messages_of, prompt_text

PIECE = 12  # characters a streamed piece holds


def answer(call: Call) -> tuple[str, dict[str, int]]:
    """Return the quoted answer and its usage. Raises `InvalidRequest` when there is nothing to answer."""
    text = _prompt(call)
    found = extractive.answer_prompt(text).text
    prompt_tokens = extractive.count_tokens(prompt_text(call))
    completion_tokens = extractive.count_tokens(found)
    return found, {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


def _prompt(call: Call) -> str:
    """Return the last user message, or the prompt of a completion; system messages come before it, since the passages
    may stand there."""
    if call.door is Door.COMPLETIONS:
        text = prompt_text(call)
    else:
        messages = messages_of(call)
        asked = [message_text(m) for m in messages if m.get("role") == "user"][-1:]
        system = [message_text(m) for m in messages if m.get("role") in ("system", "developer")] if asked else []
        text = "\n".join([*system, *asked])
    if not text.strip():
        field = "prompt" if call.door is Door.COMPLETIONS else "messages"
        raise InvalidRequest(
            "invalid-request", f"{field} holds no text to answer.", status=400, errors=[{"field": field}]
        )
    return text


def whole(call: Call, text: str, usage: dict[str, int], *, answer_id: str, created: int) -> dict[str, Any]:
    """Return the body of an answer that is not streamed. `created` is seconds since the epoch."""
    if call.door is Door.CHAT:
        content: dict[str, Any] = {"message": {"role": "assistant", "content": text}}
        kind = "chat.completion"
    else:
        content, kind = {"text": text}, "text_completion"
    choice = {"index": 0, **content, "logprobs": None, "finish_reason": "stop"}
    return _frame(kind, answer_id, created) | {"choices": [choice], "usage": usage}


def events(call: Call, text: str, usage: dict[str, int], *, answer_id: str, created: int) -> Iterator[bytes]:
    """Yield the events of a streamed answer, `[DONE]` included."""
    chat = call.door is Door.CHAT
    frame = _frame("chat.completion.chunk" if chat else "text_completion", answer_id, created)
    pieces: list[dict[str, Any]] = [{"delta": {"role": "assistant", "content": ""}}] if chat else []
    for start in range(0, len(text), PIECE):
        piece = text[start : start + PIECE]
        pieces.append({"delta": {"content": piece}} if chat else {"text": piece})
    for content in pieces:
        yield event_of(frame | {"choices": [{"index": 0, **content, "logprobs": None, "finish_reason": None}]})
    last: dict[str, Any] = {"delta": {}} if chat else {"text": ""}
    yield event_of(frame | {"choices": [{"index": 0, **last, "logprobs": None, "finish_reason": "stop"}]})
    if call.shows_usage:
        yield event_of(frame | {"choices": [], "usage": usage})
    yield DONE


def _frame(kind: str, answer_id: str, created: int) -> dict[str, Any]:
    return {"id": answer_id, "object": kind, "created": created, "model": EXTRACTIVE_MODEL}
