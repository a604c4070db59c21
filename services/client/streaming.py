"""Reads server-sent events: the pieces of a streamed answer, and the states of a document. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from httpx_sse import ServerSentEvent

from zhiwen.client.errors import error_of_problem
from zhiwen.common.api.documents import DocumentOut
from zhiwen.common.api.fields import FROM_SERVICE
from zhiwen.common.api.questions import Answer, SourcesEvent, TokenEvent

AnswerEvent: TypeAlias = SourcesEvent | TokenEvent | Answer
"""The events of a streamed answer: its sources, its pieces, and at the end the whole answer."""

ANSWER_EVENTS: Final[Mapping[str, type[SourcesEvent] | type[TokenEvent] | type[Answer]]] = {
    "sources": SourcesEvent,
    "token": TokenEvent,
    "done": Answer,
}


def answer_event(event: ServerSentEvent) -> AnswerEvent | None:
    """Read an event of a streamed answer. Return None for an unknown kind of event.

    Raises `ApiError` for the event `error`, and `ValueError` for an event that no service sends.
    """
    if event.event == "error":
        raise error_of_problem({"type": "about:blank", "title": "The answer broke off", **_object(event)})
    kind = ANSWER_EVENTS.get(event.event)
    return None if kind is None else kind.model_validate_json(event.data, context=FROM_SERVICE)


def document_state(event: ServerSentEvent) -> DocumentOut | None:
    """Read an event of a document. Return None for an unknown kind of event."""
    if event.event != "document":
        return None
    return DocumentOut.model_validate_json(event.data, context=FROM_SERVICE)


def _object(event: ServerSentEvent) -> dict[str, Any]:
    data = event.json()
    if not isinstance(data, dict):
        raise ValueError("not an object")
    return data
