"""Routes of documents."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any
from urllib.parse import quote

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse

from zhiwen.common.api.cursors import decode_cursor, encode_cursor
from zhiwen.common.api.documents import (
    ChunkPage,
    DocumentOut,
    DocumentPage,
    Uploaded,
    UploadItem,
    chunk_out,
    document_out,
)
from zhiwen.common.auth.dependency import Needs
from zhiwen.common.errors import InvalidRequest, NotFound
from zhiwen.common.ledger import OnDuplicate
from zhiwen.common.models import DocumentStatus, KnowledgeBase
from zhiwen.common.telemetry import current_request_id
from zhiwen.common.web import problems
from zhiwen.ingest.api.dependencies import BaseDep, IngestDep
from zhiwen.ingest.service import Ingest
from zhiwen.ingest.upload.multipart import ReceivedFile, receive_body, receive_form
from zhiwen.ingest.upload.staging import incoming_folder

router = APIRouter(prefix="/v1/knowledge-bases/{kb}/documents", tags=["documents"])

EVENT_SECONDS = 0.3
KEEP_ALIVE_SECONDS = 15.0
MAX_METADATA_BYTES = 60_000  # Milvus keeps 65,536 of JSON
MAX_METADATA_DEPTH = 32
DELETED_SHOWN = {DocumentStatus.DELETED}
ON_DUPLICATE: tuple[OnDuplicate, ...] = ("keep", "skip", "error")

UPLOAD_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {"type": "array", "items": {"type": "string", "format": "binary"}},
                        "metadata": {"type": "string", "description": "A JSON object.", "example": '{"部门": "人事"}'},
                        "on_duplicate": {"type": "string", "enum": list(ON_DUPLICATE), "default": "keep"},
                    },
                }
            }
        },
    }
}
RAW_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/octet-stream": {
                "schema": {"type": "string", "format": "binary"},
                "example": "员工年假为十天。",
            }
        },
    }
}


@router.post(
    "",
    status_code=202,
    responses=problems(404, 409, 413, 429, 503, 507),
    openapi_extra=UPLOAD_FORM,
    dependencies=[Depends(Needs("write"))],
)
async def upload_documents(request: Request, ingest: IngestDep, base: BaseDep) -> Uploaded:
    """Upload files (field `file`, repeated; a zip is unpacked). Answers when all bytes are safely kept.

    Each file has its own outcome: one bad file never fails the others.
    """
    await asyncio.to_thread(ingest.refuse_when_full)
    settings = ingest.settings
    async with incoming_folder(settings.data_dir / "incoming") as folder:
        form = await receive_form(
            request, folder, max_file=settings.max_upload_bytes, max_request=settings.max_request_bytes
        )
        if not form.files:
            raise InvalidRequest("no-file", "Send at least one file in a field named file.")
        metadata = _metadata(form.fields.get("metadata"))
        on_duplicate = _on_duplicate(form.fields.get("on_duplicate", "keep"))
        items = await asyncio.to_thread(_accept_all, ingest, base, form.files, metadata, on_duplicate)
    return Uploaded(items=items)


@router.put(
    "/by-name/{name:path}",
    status_code=202,
    responses=problems(404, 409, 413, 415, 429, 503, 507),
    openapi_extra=RAW_BODY,
    dependencies=[Depends(Needs("write"))],
)
async def put_document(
    request: Request,
    ingest: IngestDep,
    base: BaseDep,
    name: str,
    on_duplicate: OnDuplicate = "keep",
    metadata: Annotated[str | None, Query(description="A JSON object.")] = None,
) -> UploadItem:
    """Upload one file under a name: the raw body is the file."""
    await asyncio.to_thread(ingest.refuse_when_full)
    checked = _metadata(metadata)
    async with incoming_folder(ingest.settings.data_dir / "incoming") as folder:
        received = await receive_body(request, folder, name, max_file=ingest.settings.max_upload_bytes)
        if await asyncio.to_thread(ingest.is_archive, received):
            raise InvalidRequest("archive-by-name", "A zip holds many documents; upload it with POST.")
        items = await asyncio.to_thread(_accept_all, ingest, base, [received], checked, on_duplicate)
    return items[0]


def _accept_all(
    ingest: Ingest,
    base: KnowledgeBase,
    files: list[ReceivedFile],
    metadata: dict[str, Any] | None,
    on_duplicate: OnDuplicate,
) -> list[UploadItem]:
    request_id = current_request_id()
    items: list[UploadItem] = []
    for received in files:
        items += ingest.accept(base, received, metadata, on_duplicate=on_duplicate, request_id=request_id)
    ingest.broker.wake(request_id)
    return items


def _metadata(text: str | None) -> dict[str, Any] | None:
    if not text:
        return None
    try:
        value = orjson.loads(text)
    except ValueError as exc:
        raise InvalidRequest("invalid-json", "The field metadata is not valid JSON.") from exc
    if not isinstance(value, dict):
        raise InvalidRequest("bad-metadata", "The field metadata must be a JSON object.")
    if _depth(value) > MAX_METADATA_DEPTH or len(orjson.dumps(value)) > MAX_METADATA_BYTES:
        raise InvalidRequest(
            "bad-metadata", f"metadata may be {MAX_METADATA_BYTES} bytes long and {MAX_METADATA_DEPTH} levels deep."
        )
    return value


def _depth(value: Any) -> int:
    """Return how many levels of objects and lists a JSON value has (`orjson` has ended at 1024)."""
    level, levels = [value], 0
    while level := [item for item in level if isinstance(item, dict | list)]:
        levels += 1
        level = [child for item in level for child in (item.values() if isinstance(item, dict) else item)]
    return levels


def _on_duplicate(value: str) -> OnDuplicate:
    for known in ON_DUPLICATE:
        if value == known:
            return known
    raise InvalidRequest("bad-on-duplicate", f"on_duplicate is one of {', '.join(ON_DUPLICATE)}.")


@router.get("", responses=problems(404, 503), dependencies=[Depends(Needs("read"))])
def list_documents(
    ingest: IngestDep,
    base: BaseDep,
    status: DocumentStatus | None = None,
    name: Annotated[str | None, Query(description="Exact name, or a prefix that ends with *.")] = None,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> DocumentPage:
    """List documents in order of arrival."""
    after = decode_cursor(cursor, float, str) if cursor else None
    found = ingest.ledger.documents.list(
        base.id, status=status, name=name, after=(after[0], after[1]) if after else None, limit=limit + 1
    )
    last = found[limit - 1] if len(found) > limit else None
    return DocumentPage(
        items=[document_out(document) for document in found[:limit]],
        next_cursor=encode_cursor([last.created_at.timestamp(), last.id]) if last else None,
    )


@router.get("/{id}", responses=problems(404, 503), dependencies=[Depends(Needs("read"))])
def get_document(ingest: IngestDep, base: BaseDep, id: str) -> DocumentOut:
    """Show one document."""
    return document_out(ingest.ledger.documents.get(base.id, id))


@router.get(
    "/{id}/events",
    responses={
        **problems(404, 503),
        200: {
            "description": "Server-sent events named `document`, whose data is the document.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
    },
    response_class=StreamingResponse,
    dependencies=[Depends(Needs("read"))],
)
async def document_events(ingest: IngestDep, base: BaseDep, id: str) -> Response:
    """Follow a document: an event at each change, the end when it is settled."""
    first = await asyncio.to_thread(ingest.ledger.documents.get, base.id, id)
    return StreamingResponse(
        _events(ingest, base.id, document_out(first)),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _events(ingest: Ingest, base_id: str, shown: DocumentOut) -> AsyncIterator[bytes]:
    quiet = 0.0
    yield _event(shown)
    while not shown.status.settled:
        await asyncio.sleep(EVENT_SECONDS)
        quiet += EVENT_SECONDS
        try:
            now = document_out(await asyncio.to_thread(ingest.ledger.documents.get, base_id, shown.id))
        except NotFound:  # its knowledge base is gone
            now = shown.model_copy(update={"status": DocumentStatus.DELETED})
        if now != shown:
            shown, quiet = now, 0.0
            yield _event(shown)
        elif quiet >= KEEP_ALIVE_SECONDS:
            quiet = 0.0
            yield b": still here\n\n"


def _event(document: DocumentOut) -> bytes:
    return b"event: document\ndata: " + orjson.dumps(document.model_dump(mode="json")) + b"\n\n"


@router.get(
    "/{id}/content",
    responses={
        **problems(404, 503),
        200: {
            "description": "The original bytes.",
            "content": {"*/*": {"schema": {"type": "string", "format": "binary"}}},
        },
    },
    response_class=Response,
    dependencies=[Depends(Needs("read"))],
)
def get_content(ingest: IngestDep, base: BaseDep, id: str) -> Response:
    """Download the original of the newest version."""
    document = ingest.ledger.documents.get(base.id, id)
    if not document.sha256 or not ingest.originals.exists(document.sha256):
        raise NotFound("original-missing", "The original file of this document is no longer stored.")
    base_name = document.name.rsplit("/", 1)[-1]
    return StreamingResponse(
        _pieces(ingest, document.sha256),
        media_type=document.media_type,
        headers={
            "Content-Length": str(document.bytes),
            # RFC 6266; an uploaded page must never run as one of ours.
            "Content-Disposition": f"attachment; filename*=UTF-8''{quote(base_name, safe='')}",
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": "sandbox",
        },
    )


def _pieces(ingest: Ingest, sha256: str) -> Iterator[bytes]:
    with ingest.originals.open_file(sha256) as path, path.open("rb") as data:
        while piece := data.read(1 << 20):
            yield piece


@router.get("/{id}/chunks", responses=problems(404, 503), dependencies=[Depends(Needs("read"))])
def list_chunks(
    ingest: IngestDep,
    base: BaseDep,
    id: str,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> ChunkPage:
    """List the chunks of the version that answers, in order; none while no version does."""
    document = ingest.ledger.documents.get(base.id, id)
    if document.live_version is None:
        return ChunkPage(items=[], next_cursor=None)
    first = decode_cursor(cursor, int)[0] if cursor else 0
    found = ingest.store.chunks(base.live.collection, id, document.live_version, first=first, count=limit + 1)
    items = [chunk_out(hit) for hit in found[:limit]]
    return ChunkPage(items=items, next_cursor=encode_cursor([first + limit]) if len(found) > limit else None)


@router.post("/{id}/retry", status_code=202, responses=problems(404, 409, 503), dependencies=[Depends(Needs("write"))])
def retry_document(ingest: IngestDep, base: BaseDep, id: str) -> DocumentOut:
    """Index a failed or cancelled document again."""
    document = ingest.ledger.documents.retry(base.id, id)
    ingest.broker.wake(current_request_id())
    return document_out(document)


@router.post("/{id}/cancel", status_code=202, responses=problems(404, 409, 503), dependencies=[Depends(Needs("write"))])
def cancel_document(ingest: IngestDep, base: BaseDep, id: str) -> DocumentOut:
    """Stop the indexing of a document; an older version that answers goes on answering."""
    document = ingest.ledger.documents.cancel(base.id, id)
    ingest.broker.wake(current_request_id())
    return document_out(document)


@router.delete("/{id}", status_code=202, responses=problems(404, 503), dependencies=[Depends(Needs("write"))])
def delete_document(ingest: IngestDep, base: BaseDep, id: str) -> DocumentOut:
    """Hide a document from search at once; chunks and original are removed, then it is reported as `deleted`."""
    document = ingest.ledger.documents.begin_delete(base.id, id)
    ingest.broker.wake(current_request_id())
    return document_out(document)
