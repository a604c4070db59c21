"""What the ingest API takes and gives, as pydantic models (design section 6)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from zhiwen.common.models import (
    DEFAULT_METRIC,
    Document,
    DocumentStatus,
    Generation,
    Hit,
    KnowledgeBase,
    Rebuild,
)
from zhiwen.common.names import is_plain


def _checked_base_name(name: str) -> str:
    if name != name.strip() or "/" in name or not is_plain(name) or name in {".", ".."}:
        raise ValueError("must be printable, without / and without spaces around it")
    return name


Name = Annotated[
    str,
    Field(min_length=1, max_length=64, examples=["员工手册"]),
    AfterValidator(_checked_base_name),
]


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not hold the character NUL")
    return text


Text = Annotated[str, AfterValidator(_without_nul)]


class Strict(BaseModel):
    """A request body: unknown fields are errors, so that a typing mistake is not silently ignored."""

    model_config = ConfigDict(extra="forbid")


class Index(Strict):
    """How vectors are indexed; what the connected Milvus lacks is refused by name."""

    type: str | None = Field(
        None, description="None: HNSW on a Milvus server, AUTOINDEX on Milvus Lite.", examples=["HNSW"]
    )
    metric: str | None = Field(
        None, description=f"COSINE, IP or L2, which rank alike. None: the present one, {DEFAULT_METRIC} in a new one."
    )
    params: dict[str, int] = Field(default_factory=dict, examples=[{"M": 16, "efConstruction": 200}])
    search: dict[str, int] = Field(default_factory=dict, examples=[{"ef": 64}])


class Chunking(Strict):
    """Chunk size and overlap, in tokens of the embedding model."""

    size: int = Field(ge=16, le=8192)
    overlap: int = Field(ge=0, le=4096)


class CreateKnowledgeBase(Strict):
    """Everything but the name has a default."""

    name: Name
    description: Text = Field("", max_length=2000)
    embedding_model: Text | None = Field(
        None, min_length=1, max_length=512, description="None: the configured default."
    )
    index: Index | None = None
    chunking: Chunking | None = None
    prompt_template: Text | None = Field(
        None, max_length=20000, description="Must hold {context} and {question}; None: the default template."
    )
    cross_language: bool | None = Field(None, description="Find texts in the other language; None: as configured.")


class UpdateKnowledgeBase(Strict):
    """Fields that are not sent stay as they are."""

    description: Text | None = Field(None, max_length=2000)
    prompt_template: Text | None = Field(None, max_length=20000)
    cross_language: bool | None = Field(None, description="Find texts in the other language; None: as configured.")
    embedding_model: Text | None = Field(None, min_length=1, max_length=512)
    index: Index | None = None
    chunking: Chunking | None = None


class RebuildOut(BaseModel):
    """How many documents of how many stand in the generation that is being built."""

    embedding_model: str
    dimension: int
    index: dict[str, Any]
    chunking: dict[str, int]
    done: int
    total: int


class KnowledgeBaseOut(BaseModel):
    """A knowledge base, with how many of its documents are in which status and how many chunks answer."""

    name: str
    description: str
    embedding_model: str
    dimension: int
    index: dict[str, Any]
    chunking: dict[str, int]
    prompt_template: str | None
    cross_language: bool | None
    documents: dict[str, int] = Field(examples=[{"ready": 12}])
    chunks: int
    rebuild: RebuildOut | None = Field(description="The rebuild that is running, if one is.")
    rebuild_error: str | None = Field(description="Why the last rebuild was given up.")
    created_at: datetime
    updated_at: datetime


class ErrorOut(BaseModel):
    """Why a file or document did not go through: a stable code, and a sentence for people."""

    code: str = Field(examples=["encrypted"])
    detail: str


class UploadItem(BaseModel):
    """What became of one uploaded file."""

    id: str | None = Field(examples=["5f0c9d5b3c1e4c0f9a7d2b8e6f4a1c3d"])
    name: str = Field(examples=["制度/年假.md"])
    status: str = Field(examples=["queued"])
    version: int | None = Field(examples=[1])
    outcome: Literal["created", "replaced", "unchanged", "duplicate", "rejected"]
    error: ErrorOut | None = None
    duplicate_of: str | None = Field(None, description="Name of the document that already holds these bytes.")


class Uploaded(BaseModel):
    """One item per file, in order."""

    items: list[UploadItem]


class ProgressOut(BaseModel):
    """How far the current stage is."""

    stage: str
    done: int
    total: int


class DocumentOut(BaseModel):
    """A document: its newest version, and how far that is."""

    id: str = Field(examples=["5f0c9d5b3c1e4c0f9a7d2b8e6f4a1c3d"])
    name: str = Field(examples=["制度/年假.md"])
    version: int
    live_version: int | None = Field(description="The version that answers now; null when none does.")
    status: DocumentStatus
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


class KnowledgeBasePage(BaseModel):
    """A page of a list; `next_cursor` is null on the last."""

    items: list[KnowledgeBaseOut]
    next_cursor: str | None


class DocumentPage(BaseModel):
    """A page of a list; `next_cursor` is null on the last."""

    items: list[DocumentOut]
    next_cursor: str | None


class ChunkPage(BaseModel):
    """A page of a list; `next_cursor` is null on the last."""

    items: list[ChunkOut]
    next_cursor: str | None


def knowledge_base_out(base: KnowledgeBase, counts: dict[str, int], rebuild: Rebuild | None) -> KnowledgeBaseOut:
    """Show a knowledge base; `counts` is what `Documents.count` returned."""
    return KnowledgeBaseOut(
        name=base.name,
        description=base.description,
        **_generation_fields(base.live),
        prompt_template=base.prompt_template,
        cross_language=base.cross_language,
        documents={status: count for status, count in counts.items() if status != "chunks"},
        chunks=counts["chunks"],
        rebuild=RebuildOut(**_generation_fields(rebuild.generation), done=rebuild.done, total=rebuild.total)
        if rebuild
        else None,
        rebuild_error=base.rebuild_error,
        created_at=base.created_at,
        updated_at=base.updated_at,
    )


def _generation_fields(generation: Generation) -> dict[str, Any]:
    index = generation.index
    return {
        "embedding_model": generation.embedding_model,
        "dimension": generation.dimension,
        "index": {
            "type": index.type,
            "metric": index.metric,
            "params": dict(index.params),
            "search": dict(index.search),
        },
        "chunking": {"size": generation.chunking.size, "overlap": generation.chunking.overlap},
    }


def document_out(document: Document) -> DocumentOut:
    """Show a document."""
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
    """Show a stored chunk."""
    return ChunkOut(chunk_id=hit.chunk_id, ordinal=hit.ordinal, text=hit.text, page=hit.page, heading=hit.heading)
