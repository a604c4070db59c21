"""The values that all services share, as frozen dataclasses. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

Mode = Literal["hybrid", "dense", "full_text"]
"""What a search searches: vectors, words, or both."""
Fusion = Literal["relevance", "min_max", "rrf"]
"""How a hybrid search orders its hits."""
Scope = Literal["read", "write", "admin"]
"""What an API key may do; each scope includes those before it."""


class DocumentStatus(StrEnum):
    """The status of a document. Indexing goes `queued -> parsing -> embedding -> indexing -> ready`.

    It can also end in `failed` or `cancelled`. A removal goes `deleting -> deleted`.
    """

    QUEUED = "queued"
    PARSING = "parsing"
    EMBEDDING = "embedding"
    INDEXING = "indexing"
    READY = "ready"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DELETING = "deleting"
    DELETED = "deleted"

    @property
    def settled(self) -> bool:
        """Whether the document stays as it is until a request changes it."""
        return self in SETTLED


SETTLED = frozenset({DocumentStatus.READY, DocumentStatus.FAILED, DocumentStatus.CANCELLED, DocumentStatus.DELETED})


class JobKind(StrEnum):
    """The kinds of work that workers do."""

    INGEST = "ingest"  # index one (document, version)
    PURGE = "purge"  # remove the chunks of a superseded (document, version)
    DELETE = "delete"  # remove a document: chunks, original, row
    DROP = "drop"  # remove a knowledge base: collections, originals, rows
    REBUILD = "rebuild"  # index one live (document, version) into a generation that is being built
    RETIRE = "retire"  # remove a generation that a rebuild has replaced, or whose rebuild was given up


DEFAULT_METRIC = "IP"
"""The inner product. All vectors have length 1, so it equals the cosine, without the division that COSINE does."""


@dataclass(frozen=True, slots=True)
class IndexSpec:
    """How vectors are indexed.

    `type` and `metric` are Milvus's names, `params` the build parameters (`nlist`, `M`, `efConstruction`, …) and
    `search` the search parameters (`nprobe`, `ef`, …).
    """

    type: str = "AUTOINDEX"
    metric: str = DEFAULT_METRIC
    params: Mapping[str, Any] = field(default_factory=dict)
    search: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ChunkingSpec:
    """Chunk size and overlap in tokens of the embedding model."""

    size: int = 240
    overlap: int = 40


@dataclass(frozen=True, slots=True)
class Generation:
    """One collection of a knowledge base. Its model, dimension, index and chunking never change.

    To change one of them, a new generation is built beside the live one. Searches use the live one until the new one is
    complete.
    """

    id: int
    knowledge_base_id: str
    collection: str
    embedding_model: str
    dimension: int
    index: IndexSpec
    chunking: ChunkingSpec


@dataclass(frozen=True, slots=True)
class Rebuild:
    """A generation that is being built: `done` of `total` documents are in it."""

    generation: Generation
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class KnowledgeBase:
    """A named set of documents.

    Searches use the generation `live`. `building` is the generation of a running rebuild; None: no rebuild runs.
    `revision` grows with every change of what searches find.
    """

    id: str
    name: str
    description: str
    prompt_template: str | None
    cross_language: bool | None
    live: Generation
    building: Generation | None
    rebuild_error: str | None
    deleting: bool
    revision: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a document in its current stage: `done` of `total` chunks, or bytes while parsing.

    `total` is 0 while it is unknown.
    """

    stage: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Document:
    """A document in its newest version. `live_version` is the version that searches find; None: there is none."""

    id: str
    knowledge_base_id: str
    name: str
    version: int
    live_version: int | None
    status: DocumentStatus
    progress: Progress
    chunks: int
    bytes: int
    sha256: str
    media_type: str
    metadata: Mapping[str, Any]
    error_code: str | None
    error_detail: str | None
    attempts: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Job:
    """A claimed piece of work. `fence` grows with every claim, and only the holder of the newest claim may write."""

    id: str
    kind: JobKind
    knowledge_base_id: str
    document_id: str | None
    version: int | None
    generation_id: int | None
    attempts: int
    waits: int
    fence: int
    request_id: str | None


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of a parsed document, in reading order.

    `kind` is `heading`, `paragraph`, `list`, `table` or `code`. `heading` is the path of titles above the block. `page`
    counts pages, slides or sheets from 1. `header` is the header row of a table as text, which every chunk of the table
    repeats.
    """

    text: str
    kind: str = "paragraph"
    heading: tuple[str, ...] = ()
    page: int | None = None
    header: str | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """A passage of a document. It is embedded, found and cited as a whole. `ordinal` counts from 0."""

    ordinal: int
    text: str
    heading: str
    page: int | None


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk that was found. `score` is in 0..1, and higher is better, whatever the metric.

    `rerank_score` is the reranker's score, also in 0..1; None: no reranker was asked. `full_text_score` and
    `dense_score` are the parts of `score`; None: that half was not searched.
    """

    chunk_id: str
    document_id: str
    version: int
    ordinal: int
    source: str
    page: int | None
    heading: str
    text: str
    score: float
    metadata: Mapping[str, Any]
    rerank_score: float | None = None
    full_text_score: float | None = None
    dense_score: float | None = None


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What one key used of one model on one day in UTC, such as `2026-01-31`.

    `unmetered` is the number of requests for which the model server reported no usage. Their tokens are not counted.
    """

    day: str
    key: str
    model: str
    requests: int
    unmetered: int
    prompt_tokens: int
    completion_tokens: int


def chunk_id(document_id: str, version: int, ordinal: int) -> str:
    """Return the primary key of a chunk. Every attempt to index the chunk gives the same key."""
    return f"{document_id}:{version}:{ordinal}"


def parse_chunk_id(id: str) -> tuple[str, int, int]:
    """Return document id, version and ordinal of a chunk's primary key."""
    document_id, version, ordinal = id.rsplit(":", 2)
    return document_id, int(version), int(ordinal)


def with_heading(heading: str, text: str) -> str:
    """Return a text with its titles in front: they say what the text is about."""
    return f"{heading}\n{text}" if heading else text
