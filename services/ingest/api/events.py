"""The route that follows one document (server-sent events, WHATWG HTML 9.2)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from zhiwen.common.api.documents import DocumentOut, document_out
from zhiwen.common.auth.dependency import Needs
from zhiwen.common.errors import NotFound, Unavailable
from zhiwen.common.ledger import Documents
from zhiwen.common.models import DocumentStatus
from zhiwen.common.web import problems
from zhiwen.ingest.api.dependencies import BaseDep, IngestDep

router = APIRouter(prefix="/v1/knowledge-bases/{kb}/documents", tags=["documents"])

LOOK_SECONDS = 0.3
EVENTS: dict[str, Any] = {
    "description": "Server-sent events named `document`, whose data is the document.",
    "content": {
        "text/event-stream": {
            "itemSchema": {
                "properties": {
                    "event": {"const": "document"},
                    "data": {
                        "contentMediaType": "application/json",
                        "contentSchema": {"$ref": "#/components/schemas/DocumentOut"},
                    },
                },
                "required": ["event", "data"],
            }
        }
    },
}


def get_document(ingest: IngestDep, base: BaseDep, id: str) -> DocumentOut:
    """Return the document that the path names. Raises `NotFound`, which the client sees before a stream begins."""
    return document_out(ingest.ledger.documents.get(base.id, id))


def forbid_storing(response: Response) -> None:
    """Forbid caches to store the stream. FastAPI itself only sets `no-cache`."""
    response.headers["Cache-Control"] = "no-store"


@router.get(
    "/{id}/events",
    responses={**problems(404, 503), 200: EVENTS},
    response_class=EventSourceResponse,
    dependencies=[Depends(Needs("read")), Depends(forbid_storing)],
)
async def document_events(
    ingest: IngestDep, base: BaseDep, document: Annotated[DocumentOut, Depends(get_document)]
) -> AsyncIterator[ServerSentEvent]:
    """Follow a document: one event for each change. The stream ends when the document is settled."""
    async for shown in states_of(document, ingest.ledger.documents, base.id):
        yield ServerSentEvent(event="document", data=shown)


async def states_of(
    document: DocumentOut, documents: Documents, base_id: str, *, pause: float = LOOK_SECONDS
) -> AsyncIterator[DocumentOut]:
    """Yield a document, and yield it again after each change until it is settled. Look every `pause` seconds."""
    yield document
    while not document.status.settled:
        await asyncio.sleep(pause)
        try:
            now = document_out(await asyncio.to_thread(documents.get, base_id, document.id))
        except NotFound:  # its knowledge base was dropped
            now = document.model_copy(update={"status": DocumentStatus.DELETED})
        except Unavailable:  # an error here would end the stream as if the document were settled
            continue
        if now != document:
            document = now
            yield document
