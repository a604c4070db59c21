"""Reads a client's request just far enough to route it. The bytes are passed on unchanged."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson

from zhiwen.common.errors import InvalidRequest
from zhiwen.llm_gateway.errors import invalid_field
from zhiwen.llm_gateway.passthrough import json_splice

_READ_FIELDS = frozenset({"model", "stream", "stream_options", "max_tokens", "max_completion_tokens"})
INCLUDE_USAGE = b'{"include_usage":true}'


class Endpoint(StrEnum):
    """The endpoints that models answer. The value is the path below a model server's base URL."""

    CHAT = "/chat/completions"
    COMPLETIONS = "/completions"
    EMBEDDINGS = "/embeddings"
    RERANK = "/rerank"

    @property
    def generates_text(self) -> bool:
        """True when the answer is text that a model writes. Only such answers can be streamed and are logged."""
        return self in (Endpoint.CHAT, Endpoint.COMPLETIONS)


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """What a client asks of a model.

    `body` holds the client's bytes, and `fields` the parsed body, for reading only. `shows_usage` is True when the
    client itself asked for the usage of a stream.
    """

    endpoint: Endpoint
    body: bytes
    fields: dict[str, Any]
    model: str
    stream: bool
    shows_usage: bool

    @property
    def max_tokens(self) -> int | None:
        """The longest answer that the client allows, in tokens. None means no limit."""
        for name in ("max_completion_tokens", "max_tokens"):
            if isinstance(value := self.fields.get(name), int) and value >= 0:
                return value
        return None


def read_request(endpoint: Endpoint, body: bytes) -> ModelRequest:
    """Parse a request body. Raises `InvalidRequest` (400) when it is not a JSON object, or is ambiguous."""
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as exc:  # also raised for a body that is nested more than 1024 levels deep
        raise InvalidRequest("invalid-json", f"The body is not valid JSON ({exc}).", status=400) from exc
    if not isinstance(fields, dict):
        raise InvalidRequest("invalid-json", "The body must be a JSON object.", status=400)
    _refuse_repeated(body)
    model = fields.get("model")
    if model is not None and not isinstance(model, str):
        raise invalid_field("model", "model must be a string.")
    stream = fields.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise invalid_field("stream", "stream must be true or false.")
    options = fields.get("stream_options")
    shows = isinstance(options, dict) and options.get("include_usage") is True
    return ModelRequest(endpoint, body, fields, model or "", bool(stream) and endpoint.generates_text, shows)


def _refuse_repeated(body: bytes) -> None:
    """Refuse a field that occurs twice, because gateway and model server could read different values."""
    if body.count(b'"model"') <= 1 and body.count(b'"stream"') <= 1 and b"\\u" not in body:
        return
    seen = set()
    for member in json_splice.members(body):
        if member.key in _READ_FIELDS:
            if member.key in seen:
                raise invalid_field(member.key, f"The field {member.key} occurs twice.", code="repeated-field")
            seen.add(member.key)


def body_for(request: ModelRequest, model: str, *, ask_usage: bool) -> bytes:
    """Return the body for an upstream whose name for the model is `model`.

    It is the client's body with at most two changes: the model's name, if the upstream has another one, and
    `stream_options.include_usage`, if `ask_usage` is set and the client did not ask for the usage of its stream.
    """
    replace: dict[str, bytes] = {}
    if request.fields.get("model") != model:
        replace["model"] = orjson.dumps(model)
    if ask_usage and request.stream and not request.shows_usage:
        replace["stream_options"] = _with_usage(request)
    return json_splice.splice(request.body, replace) if replace else request.body


def _with_usage(request: ModelRequest) -> bytes:
    """Return the client's `stream_options` with `include_usage` set.

    The member is spliced in and not serialized again, because orjson reads deeper nesting than it writes.
    """
    if not isinstance(request.fields.get("stream_options"), dict):
        return INCLUDE_USAGE
    *_, given = (member for member in json_splice.members(request.body) if member.key == "stream_options")
    return json_splice.splice(request.body[given.value : given.end], {"include_usage": b"true"})


def prompt_text(request: ModelRequest) -> str:
    """Return all text that a request holds, for the conversation log and the built-in answerer."""
    if request.endpoint is Endpoint.CHAT:
        return "\n".join(message_text(message) for message in messages_of(request))
    value = request.fields.get("prompt" if request.endpoint is Endpoint.COMPLETIONS else "input")
    if isinstance(value, str):
        return value
    return "\n".join(item for item in value if isinstance(item, str)) if isinstance(value, list) else ""


def messages_of(request: ModelRequest) -> list[dict[str, Any]]:
    """Return the chat messages that are JSON objects."""
    messages = request.fields.get("messages")
    return [m for m in messages if isinstance(m, dict)] if isinstance(messages, list) else []


def message_text(message: dict[str, Any]) -> str:
    """Return a message's text. Of a list of parts, return the text parts, one per line."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = (part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text")
    return "\n".join(text for text in parts if isinstance(text, str))
