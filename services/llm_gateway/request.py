"""A client's request, read just far enough to route it; its bytes go on as they came."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson

from zhiwen.common.errors import InvalidRequest
from zhiwen.llm_gateway.passthrough import json_splice

_READ_FIELDS = frozenset({"model", "stream", "stream_options", "max_tokens", "max_completion_tokens"})
INCLUDE_USAGE = b'{"include_usage":true}'


class Door(StrEnum):
    """The routes that answer; the value is the path below the upstream's base URL."""

    CHAT = "/chat/completions"
    COMPLETIONS = "/completions"
    EMBEDDINGS = "/embeddings"
    RERANK = "/rerank"

    @property
    def streams(self) -> bool:
        return self in (Door.CHAT, Door.COMPLETIONS)


@dataclass(frozen=True, slots=True)
class Call:
    """What a request asks. `fields` is the parsed body, for reading only; `shows_usage`: the client asked for the
    usage of a stream itself."""

    door: Door
    body: bytes
    fields: dict[str, Any]
    model: str
    stream: bool
    shows_usage: bool

    @property
    def max_tokens(self) -> int | None:
        """The longest answer the client allows, in tokens."""
        for name in ("max_completion_tokens", "max_tokens"):
            if isinstance(value := self.fields.get(name), int) and value >= 0:
                return value
        return None


def read_call(door: Door, body: bytes) -> Call:
    """Parse a request body. Raises `InvalidRequest` (400) when it is no JSON object or says unclearly what it asks."""
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        raise _invalid("invalid-json", f"The body is not valid JSON ({exc}).") from exc  # or nested over 1024 deep
    if not isinstance(fields, dict):
        raise _invalid("invalid-json", "The body must be a JSON object.")
    _refuse_repeated(body)
    model = fields.get("model")
    if model is not None and not isinstance(model, str):
        raise _invalid("invalid-request", "model must be a string.", "model")
    stream = fields.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise _invalid("invalid-request", "stream must be true or false.", "stream")
    options = fields.get("stream_options")
    shows = isinstance(options, dict) and options.get("include_usage") is True
    return Call(door, body, fields, model or "", bool(stream) and door.streams, shows)


def _refuse_repeated(body: bytes) -> None:
    """A field that is there twice could mean one thing to the gateway and another to the model server."""
    if body.count(b'"model"') <= 1 and body.count(b'"stream"') <= 1 and b"\\u" not in body:
        return
    seen = set()
    for member in json_splice.members(body):
        if member.key in _READ_FIELDS:
            if member.key in seen:
                raise _invalid("repeated-field", f"{member.key} is there twice.", member.key)
            seen.add(member.key)


def body_for(call: Call, model: str, *, ask_usage: bool) -> bytes:
    """Return the bytes for the upstream: the client's, but for the model's name there and, for a stream whose client
    did not ask for its usage, `stream_options.include_usage`."""
    replace: dict[str, bytes] = {}
    if call.fields.get("model") != model:
        replace["model"] = orjson.dumps(model)
    if ask_usage and call.stream and not call.shows_usage:
        replace["stream_options"] = _with_usage(call)
    return json_splice.splice(call.body, replace) if replace else call.body


def _with_usage(call: Call) -> bytes:
    """Return the client's `stream_options` with `include_usage` set, spliced in: orjson reads deeper than it writes."""
    if not isinstance(call.fields.get("stream_options"), dict):
        return INCLUDE_USAGE
    *_, given = (member for member in json_splice.members(call.body) if member.key == "stream_options")
    return json_splice.splice(call.body[given.value : given.end], {"include_usage": b"true"})


def prompt_text(call: Call) -> str:
    """Return all text a request holds: for estimates of its size and for the built-in answerer."""
    if call.door is Door.CHAT:
        return "\n".join(message_text(message) for message in messages_of(call))
    value = call.fields.get("prompt" if call.door is Door.COMPLETIONS else "input")
    if isinstance(value, str):
        return value
    return "\n".join(item for item in value if isinstance(item, str)) if isinstance(value, list) else ""


def messages_of(call: Call) -> list[dict[str, Any]]:
    """Return the chat messages that have the shape of one."""
    messages = call.fields.get("messages")
    return [m for m in messages if isinstance(m, dict)] if isinstance(messages, list) else []


def message_text(message: dict[str, Any]) -> str:
    """Return a message's text; of a list of parts the text parts."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = (part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text")
    return "\n".join(text for text in parts if isinstance(text, str))


def _invalid(code: str, detail: str, field: str | None = None) -> InvalidRequest:
    return InvalidRequest(code, detail, status=400, errors=[{"field": field, "message": detail}] if field else None)
