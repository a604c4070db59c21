"""Knowledge bases as the REST API shows and takes them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from zhiwen.common.api.fields import Name, StoredText, Strict
from zhiwen.common.models import DEFAULT_METRIC, Generation, KnowledgeBase, Rebuild


class Index(Strict):
    """How vectors are indexed. An index type or a parameter that the connected Milvus lacks is refused by name."""

    type: str | None = Field(
        None, description="None: HNSW on a Milvus server, AUTOINDEX on Milvus Lite.", examples=["HNSW"]
    )
    metric: str | None = Field(
        None,
        description=f"COSINE, IP or L2; all rank alike. None: no change, and {DEFAULT_METRIC} in a new knowledge base.",
    )
    params: dict[str, int] = Field(default_factory=dict, examples=[{"M": 16, "efConstruction": 200}])
    search: dict[str, int] = Field(default_factory=dict, examples=[{"ef": 64}])


class Chunking(Strict):
    """Chunk size and overlap, in tokens of the embedding model."""

    size: int = Field(ge=16, le=8192)
    overlap: int = Field(ge=0, le=4096)


class CreateKnowledgeBase(Strict):
    """A new knowledge base. Every field but `name` has a default."""

    name: Name
    description: StoredText = Field("", max_length=2000)
    embedding_model: StoredText | None = Field(
        None, min_length=1, max_length=512, description="None: the configured default."
    )
    index: Index | None = None
    chunking: Chunking | None = None
    prompt_template: StoredText | None = Field(
        None, max_length=20000, description="Must hold {context} and {question}; None: the default template."
    )
    cross_language: bool | None = Field(None, description="Find texts in the other language; None: as configured.")
    dense_weight: float | None = Field(
        None, ge=0, le=10, description="Weight of the embedding model beside the words; None: as fits the model."
    )
    min_confidence: float | None = Field(
        None, ge=0, le=1, description="How sure the built-in answerer must be to answer; None: as configured."
    )


class UpdateKnowledgeBase(Strict):
    """Changes of a knowledge base. Fields that are not sent stay as they are."""

    description: StoredText | None = Field(None, max_length=2000)
    prompt_template: StoredText | None = Field(None, max_length=20000)
    cross_language: bool | None = Field(None, description="Find texts in the other language; None: as configured.")
    dense_weight: float | None = Field(
        None, ge=0, le=10, description="Weight of the embedding model beside the words; None: as fits the model."
    )
    min_confidence: float | None = Field(
        None, ge=0, le=1, description="How sure the built-in answerer must be to answer; None: as configured."
    )
    embedding_model: StoredText | None = Field(None, min_length=1, max_length=512)
    index: Index | None = None
    chunking: Chunking | None = None


class RebuildOut(BaseModel):
    """A running rebuild: `done` of `total` documents are in the new index."""

    embedding_model: str
    dimension: int
    index: dict[str, Any]
    chunking: dict[str, int]
    done: int
    total: int


class CosinesOut(BaseModel):
    """The cosines between the chunks of a sample: what a cosine of this model means in this knowledge base."""

    samples: int
    mean: float
    deviation: float
    p99: float


class KnowledgeBaseOut(BaseModel):
    """A knowledge base, with its number of documents by status and its number of searchable chunks."""

    name: str
    description: str
    embedding_model: str
    dimension: int
    index: dict[str, Any]
    chunking: dict[str, int]
    prompt_template: str | None
    cross_language: bool | None
    dense_weight: float | None = Field(None, description="Null: as fits the embedding model.")
    min_confidence: float | None = Field(None, description="Null: as configured.")
    documents: dict[str, int] = Field(examples=[{"ready": 12}])
    chunks: int
    cosines: CosinesOut | None = Field(
        None, description="Cosines between unrelated chunks; null in a list, and for fewer than two chunks."
    )
    rebuild: RebuildOut | None = Field(description="The running rebuild; null when there is none.")
    rebuild_error: str | None = Field(description="Why the last rebuild failed.")
    created_at: datetime
    updated_at: datetime


class KnowledgeBasePage(BaseModel):
    """A page of knowledge bases; `next_cursor` is null on the last page."""

    items: list[KnowledgeBaseOut]
    next_cursor: str | None


def knowledge_base_out(
    base: KnowledgeBase, counts: dict[str, int], rebuild: Rebuild | None, cosines: CosinesOut | None = None
) -> KnowledgeBaseOut:
    """Return a knowledge base as the API shows it; `counts` is the result of `Documents.count`."""
    return KnowledgeBaseOut(
        name=base.name,
        description=base.description,
        **_generation_fields(base.live),
        prompt_template=base.prompt_template,
        cross_language=base.cross_language,
        dense_weight=base.dense_weight,
        min_confidence=base.min_confidence,
        cosines=cosines,
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
