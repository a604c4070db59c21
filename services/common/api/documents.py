"""Documents, their chunks and the outcome of an upload, as the REST API shows them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from zhiwen.common.api.fields import OrNewer, Status
from zhiwen.common.models import Document, Hit


class ErrorOut(BaseModel):
    """Why a file or a document failed: a stable code for programs, and a sentence for people."""

    code: str = Field(examples=["encrypted"])
    detail: str


class UploadItem(BaseModel):
    """The outcome of one uploaded file."""

    id: str | None = Field(examples=["5f0c9d5b3c1e4c0f9a7d2b8e6f4a1c3d"])
    name: str = Field(examples=["制度/年假.md"])
    status: str = Field(examples=["queued"])
    version: int | None = Field(examples=[1])
    outcome: Annotated[Literal["created", "replaced", "unchanged", "duplicate", "rejected"], OrNewer]
    error: ErrorOut | None = None
    duplicate_of: str | None = Field(None, description="Name of the document that already holds these bytes.")


class Uploaded(BaseModel):
    """The outcome of an upload: one item per file, in order."""

    items: list[UploadItem]


class ProgressOut(BaseModel):
    """The progress of the current stage: `done` of `total`."""

    stage: str
    done: int
    total: int


class DocumentOut(BaseModel):
    """A document: its newest version, and the progress of its indexing."""

    id: str = Field(examples=["5f0c9d5b3c1e4c0f9a7d2b8e6f4a1c3d"])
    name: str = Field(examples=["制度/年假.md"])
    version: int
    live_version: int | None = Field(description="The version that searches find; null when there is none.")
    status: Status
    progress: ProgressOut
    chunks: int
    bytes: int
    sha256: str
    media_type: str
    metadata: dict[str, Any]
    error: ErrorOut | None
    attempts: int
    created_at: datetime
    updated_at: datetime


class ChunkOut(BaseModel):
    """A chunk of a document."""

    chunk_id: str = Field(examples=["5f0c9d5b3c1e4c0f9a7d2b8e6f4a1c3d:1:0"])
    ordinal: int = Field(examples=[0])
    text: str = Field(examples=["员工年假为十天。"])
    page: int | None = Field(examples=[3])
    heading: str = Field(examples=["制度 > 年假"])


class DocumentPage(BaseModel):
    """A page of documents; `next_cursor` is null on the last page."""

    items: list[DocumentOut]
    next_cursor: str | None


class ChunkPage(BaseModel):
    """A page of chunks; `next_cursor` is null on the last page."""

    items: list[ChunkOut]
    next_cursor: str | None


def document_out(document: Document) -> DocumentOut:
    """Return a document as the API shows it."""
    error = None
    if document.error_code:
        error = ErrorOut(code=document.error_code, detail=document.error_detail or "")
    progress = document.progress
    return DocumentOut(
        id=document.id,
        name=document.name,
        version=document.version,
        live_version=document.live_version,
        status=document.status,
        progress=ProgressOut(stage=progress.stage, done=progress.done, total=progress.total),
        chunks=document.chunks,
        bytes=document.bytes,
        sha256=document.sha256,
        media_type=document.media_type,
        metadata=dict(document.metadata),
        error=error,
        attempts=document.attempts,
        created_at=document.created_at,
        updated_at=document.updated_at,
    )


def chunk_out(hit: Hit) -> ChunkOut:
    """Return a stored chunk as the API shows it."""
    return ChunkOut(chunk_id=hit.chunk_id, ordinal=hit.ordinal, text=hit.text, page=hit.page, heading=hit.heading)
