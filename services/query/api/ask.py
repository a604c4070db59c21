"""The route for questions: an answer with its sources, as JSON or as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Body, Depends, Request, Response

from zhiwen.common.api.questions import Answer, AskBody
from zhiwen.common.auth.dependency import Needs
from zhiwen.common.web import problems
from zhiwen.common.web.events import event_stream, server_sent_event
from zhiwen.query.answer.events import Done, Event, Failed, Sources, Token
from zhiwen.query.answer.request import checked_ask
from zhiwen.query.api.state import BaseDep, parts_of

router = APIRouter(prefix="/v1/knowledge-bases/{kb}", tags=["questions"])

EXAMPLES = {
    "plain": {"summary": "One answer", "value": {"question": "年假有几天?"}},
    "streamed": {"summary": "As server-sent events", "value": {"question": "年假有几天?", "stream": True}},
}


@router.post(
    "/ask",
    response_model=Answer,
    responses={
        **problems(404, 429, 502, 503, 504),
        200: {
            "description": "The answer; with `stream` as server-sent events `sources`, `token`…, `done` (or `error`).",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
    },
    dependencies=[Depends(Needs("read"))],
)
async def ask(
    request: Request, base: BaseDep, body: Annotated[AskBody, Body(openapi_examples=EXAMPLES)]
) -> Answer | Response:
    """Answer a question from the knowledge base, with numbered sources; refuse when the answer is not there."""
    parts = parts_of(request)
    asked = checked_ask(body, base, parts.rules)  # before the stream begins, so that a wrong request gets a status
    if not body.stream:
        return await parts.answerer.answer(base, asked)
    return event_stream(_rendered(parts.answerer.events(base, asked)))


async def _rendered(events: AsyncGenerator[Event, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(events):
        async for event in events:
            yield render(event)


def render(event: Event) -> bytes:
    """Return an event of an answer as a server-sent event."""
    match event:
        case Token(text):
            return server_sent_event("token", {"text": text})
        case Sources(sources):
            return server_sent_event("sources", {"sources": [source.model_dump() for source in sources]})
        case Done(answer):
            return server_sent_event("done", answer.model_dump())
        case Failed(error):
            return server_sent_event("error", {"code": error.code, "detail": error.detail, "status": error.status})
