"""Passes a streamed answer on, event by event. It does no I/O, so tests need nothing but bytes.

Each event is parsed once. It is passed on unchanged, except for the model's alias and for usage that the client did not
ask for. The stream's usage, its error, and whether it ended properly are kept.
"""

from __future__ import annotations

from typing import Any

import orjson

from zhiwen.llm_gateway.errors import FailureKind, UpstreamError, UpstreamFailure, error_event, error_in
from zhiwen.llm_gateway.passthrough import json_splice
from zhiwen.llm_gateway.passthrough.sse import DONE, EventSplitter, EventTooLong, data_of, with_data


class AnswerStream:
    """One streamed answer. Feed it the upstream's bytes, send what it returns, then ask it how the answer ended.

    `alias` is the client's name of the model, None when the upstream uses the same name. `hide_usage` is True when the
    gateway asked for the usage and the client did not. `texts` collects the answer's text; None collects nothing.
    """

    __slots__ = (
        "_alias",
        "_ended",
        "_hide_usage",
        "_new_prefix",
        "_old_prefix",
        "_seen",
        "_splitter",
        "_texts",
        "done",
        "error",
        "events",
        "usage",
    )

    def __init__(self, *, alias: str | None, hide_usage: bool, texts: list[str] | None = None) -> None:
        self._alias = orjson.dumps(alias) if alias is not None else None
        self._hide_usage = hide_usage
        self._texts = texts
        self._splitter = EventSplitter()
        self._seen: set[int] = set()
        self._ended: set[int] = set()
        self._old_prefix = b""
        self._new_prefix = b""
        self.usage: dict[str, Any] | None = None
        self.error: UpstreamError | None = None
        self.done = False
        self.events = 0

    @property
    def complete(self) -> bool:
        """True when the answer has ended properly: with `[DONE]`, or with a finish reason for every choice."""
        return self.done or (bool(self._ended) and self._seen <= self._ended)

    def feed(self, chunk: bytes) -> bytes:
        """Return the bytes that may be sent to the client now.

        An error event sets `error`, and nothing after it is returned. Raises `UpstreamFailure` (garbage) when something
        is not an event.
        """
        if self._splitter.rest or chunk[-2:] != b"\n\n" or b"\r" in chunk:
            try:
                events = self._splitter.feed(chunk)
            except EventTooLong as exc:
                raise UpstreamFailure(FailureKind.GARBAGE, f"sent {exc}") from exc
            return b"".join([self._pass(event) for event in events if not self._over])
        return self._pass_lines(chunk)

    @property
    def _over(self) -> bool:
        return self.done or self.error is not None

    def _pass_lines(self, chunk: bytes) -> bytes:
        """Pass on a chunk of whole events of one line each. This is the common case, so it is one loop."""
        out: list[bytes] | None = None
        bodies = chunk[:-2].split(b"\n\n")
        for number, body in enumerate(bodies):
            plain = self._pass_plain(body)
            if plain is body:
                if out is not None:
                    out += (body, b"\n\n")
                continue
            if out is None:
                out = [part for earlier in bodies[:number] for part in (earlier, b"\n\n")]
            out.append(self._pass(body + b"\n\n") if plain is None else plain + b"\n\n")
            if self.done or self.error is not None:
                break
        return chunk if out is None else b"".join(out)

    def _pass_plain(self, body: bytes) -> bytes | None:
        """Return an ordinary event (without its blank line) as it is to be sent, or None when it is not ordinary.

        An ordinary event has one `data` line with an object. It has one choice, which is known already and does not
        end, and it has no usage.
        """
        if body[:7] != b"data: {" or b"\n" in body or self._texts is not None:
            return None
        try:
            payload = orjson.loads(body[6:])
            (choice,) = payload["choices"]
            if choice.get("finish_reason") is not None or choice["index"] not in self._seen or "error_code" in payload:
                return None
        except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError, ValueError):
            return None
        if "usage" in payload and (payload["usage"] is not None or self._hide_usage):
            if payload["usage"] is not None or not body.endswith(_NO_USAGE):
                return None
            body = body[: -len(_NO_USAGE)] + b"}"
        if self._alias is not None:
            if not self._old_prefix or not body.startswith(self._old_prefix):
                return None
            body = self._new_prefix + body[len(self._old_prefix) :]
        self.events += 1
        return body

    def end(self) -> bytes:
        """Return the last bytes for the client, with a `[DONE]` if the server sent none. Call it at the upstream's end.

        Raises `UpstreamFailure` when the answer is not complete.
        """
        tail = b""
        if rest := self._splitter.rest.strip():
            tail = self._pass(rest + b"\n\n")  # some servers leave out the last blank line
        if self.error is not None:
            return tail
        if not self.complete:
            if self.events == 0:
                raise UpstreamFailure(FailureKind.EMPTY, "answered with a stream that holds no event")
            raise UpstreamFailure(FailureKind.DIED, "ended its answer before it was complete")
        return tail if self.done else tail + DONE

    def _pass(self, event: bytes) -> bytes:
        data = data_of(event)
        if data is None:
            if event[:1] in b":eir\r\n":  # comments, and the fields event, id, retry without data
                return event
            raise UpstreamFailure(FailureKind.GARBAGE, "sent something that is no event")
        if data.strip() == b"[DONE]":
            self.done = True
            return event
        try:
            payload = orjson.loads(data)
        except orjson.JSONDecodeError as exc:
            raise UpstreamFailure(FailureKind.GARBAGE, "sent an event that is not JSON") from exc
        if not isinstance(payload, dict):
            raise UpstreamFailure(FailureKind.GARBAGE, "sent an event that is no JSON object")
        self.events += 1
        return self._pass_payload(event, data, payload)

    def _pass_payload(self, event: bytes, data: bytes, payload: dict[str, Any]) -> bytes:
        choices = payload.get("choices")
        if not choices and ("error" in payload or "message" in payload or "detail" in payload or "text" in payload):
            if (error := error_in(payload)) is not None:
                return self._fail(error, data)
        elif payload.get("error_code") and (error := error_in(payload)) is not None:
            return self._fail(error, data)
        if choices:
            self._note_choices(choices)
        changed = data
        if "usage" in payload:
            usage = payload["usage"]
            if isinstance(usage, dict):
                self.usage = usage
            if self._hide_usage:
                if usage is not None and not choices:
                    return b""
                changed = _without_usage(changed)
        if self._alias is not None and "model" in payload:
            changed = self._with_alias(changed)
        return event if changed is data else with_data(event, changed)

    def _with_alias(self, data: bytes) -> bytes:
        """Put in the alias. The bytes before it are remembered, because they are usually the same in every event."""
        assert self._alias is not None
        changed = json_splice.splice(data, {"model": self._alias})
        model = next(member for member in json_splice.members(data) if member.key == "model")
        self._old_prefix = b"data: " + data[: model.end]
        self._new_prefix = b"data: " + data[: model.value] + self._alias
        return changed

    def _fail(self, error: UpstreamError, data: bytes) -> bytes:
        self.error = error
        payload = orjson.loads(data)
        inner = payload.get("error")
        if isinstance(inner, dict) and {"message", "type"} <= inner.keys():
            *_, member = (member for member in json_splice.members(data) if member.key == "error")
            error.body = b'{"error":' + data[member.value : member.end] + b"}"
        return error_event(error)

    def _note_choices(self, choices: Any) -> None:
        for choice in choices if isinstance(choices, list) else ():
            if not isinstance(choice, dict):
                continue
            index = choice.get("index")
            if not isinstance(index, int):
                index = 0
            self._seen.add(index)
            if choice.get("finish_reason"):
                self._ended.add(index)
            if self._texts is not None and (text := choice_text(choice)):
                self._texts.append(text)


_NO_USAGE = b',"usage":null}'


def choice_text(choice: dict[str, Any]) -> str:
    """Return the text of one choice: that of a chat delta or message, or that of a completion."""
    part = choice.get("delta") or choice.get("message")
    text = part.get("content") if isinstance(part, dict) else choice.get("text")
    return text if isinstance(text, str) else ""


def choice_texts(choices: Any) -> list[str]:
    """Return the texts of an answer's choices. Anything that is not a choice has none."""
    return [choice_text(choice) for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []


def _without_usage(data: bytes) -> bytes:
    for ending in (b',"usage":null}', b', "usage": null}'):
        stripped = data.rstrip()
        if stripped.endswith(ending):
            return stripped[: -len(ending)] + b"}"
    return json_splice.without(data, "usage")
