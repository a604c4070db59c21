"""Routes of documents: list, show, download, retry, cancel and delete."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import StreamingResponse

from zhiwen.common.api.cursors import decode_cursor, encode_cursor
from zhiwen.common.api.documents import ChunkPage, DocumentOut, DocumentPage, chunk_out, document_out
from zhiwen.common.auth.dependency import Needs
from zhiwen.common.errors import NotFound
from zhiwen.common.models import DocumentStatus
from zhiwen.common.originals import Originals
from zhiwen.common.web import problems
from zhiwen.ingest.api.dependencies import BaseDep, IngestDep

router = APIRouter(prefix="/v1/knowledge-bases/{kb}/documents", tags=["documents"])

PIECE_BYTES = 1 << 20


@router.get("", responses=problems(404, 503), dependencies=[Depends(Needs("read"))])
def list_documents(
    ingest: IngestDep,
    base: BaseDep,
    status: DocumentStatus | None = None,
    name: Annotated[str | None, Query(description="Exact name, or a prefix that ends with *.")] = None,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> DocumentPage:
    """List documents in order of creation."""
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
        _pieces(ingest.originals, document.sha256),
        media_type=document.media_type,
        headers={
            "Content-Length": str(document.bytes),
            # RFC 6266. A browser must never run an uploaded page as a page of this service.
            "Content-Disposition": f"attachment; filename*=UTF-8''{quote(base_name, safe='')}",
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": "sandbox",
        },
    )


def _pieces(originals: Originals, sha256: str) -> Iterator[bytes]:
    with originals.open_file(sha256) as path, path.open("rb") as data:
        while piece := data.read(PIECE_BYTES):
            yield piece


@router.get("/{id}/chunks", responses=problems(404, 503), dependencies=[Depends(Needs("read"))])
def list_chunks(
    ingest: IngestDep,
    base: BaseDep,
    id: str,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> ChunkPage:
    """List the chunks of the live version, in order; none while no version is live."""
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
    ingest.broker.wake()
    return document_out(document)


@router.post("/{id}/cancel", status_code=202, responses=problems(404, 409, 503), dependencies=[Depends(Needs("write"))])
def cancel_document(ingest: IngestDep, base: BaseDep, id: str) -> DocumentOut:
    """Stop the indexing of a document. An older version that is live stays searchable."""
    document = ingest.ledger.documents.cancel(base.id, id)
    ingest.broker.wake()
    return document_out(document)


@router.delete("/{id}", status_code=202, responses=problems(404, 503), dependencies=[Depends(Needs("write"))])
def delete_document(ingest: IngestDep, base: BaseDep, id: str) -> DocumentOut:
    """Hide a document from search at once. It is `deleted` when its chunks and its original are removed."""
    document = ingest.ledger.documents.begin_delete(base.id, id)
    ingest.broker.wake()
    return document_out(document)
