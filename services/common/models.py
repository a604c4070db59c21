"""The nouns that all services share, as frozen dataclasses: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

Mode = Literal["hybrid", "dense", "full_text"]
"""What a search searches: vectors, words, or both."""
Fusion = Literal["relevance", "min_max", "rrf"]
"""What orders the hits of a hybrid search."""


class DocumentStatus(StrEnum):
    """Where a document is in its life: `queued -> parsing -> embedding -> indexing -> ready`, or an end."""

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
        """True when nothing more will happen unless somebody asks for it."""
        return self in SETTLED


SETTLED = frozenset({DocumentStatus.READY, DocumentStatus.FAILED, DocumentStatus.CANCELLED, DocumentStatus.DELETED})


class JobKind(StrEnum):
    """What a worker can be asked to do."""

    INGEST = "ingest"  # index one (document, version)
    PURGE = "purge"  # remove the chunks of a superseded (document, version)
    DELETE = "delete"  # remove a document: chunks, original, row
    DROP = "drop"  # remove a knowledge base: collections, originals, rows
    REBUILD = "rebuild"  # index one live (document, version) into one generation, beside what answers now
    RETIRE = "retire"  # remove a generation that no longer answers, or never will


DEFAULT_METRIC = "IP"
"""All vectors have length 1, so IP is the cosine already; Milvus's COSINE divides by their lengths again each time."""


@dataclass(frozen=True, slots=True)
class IndexSpec:
    """How vectors are indexed. `type` and `metric` are Milvus's names; `params` are the build parameters
    (`nlist`, `M`, `efConstruction`, ...) and `search` the search parameters (`nprobe`, `ef`, ...)."""

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
    """One collection of a knowledge base: fixed model, dimension, index and chunking.

    A change of any of them is a new generation, built beside the live one (design section 3).
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
    """How far a generation that is being built is, in documents."""

    generation: Generation
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class KnowledgeBase:
    """A named set of documents. `live` answers; `building` is being filled beside it, if any.

    `revision` grows whenever what answers changes.
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
    """How far the current stage is; `total` is 0 while unknown. Units: chunks (bytes while parsing)."""

    stage: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Document:
    """One document as its owner sees it: the newest version, and which version answers (`live_version`)."""

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
    """A claimed piece of work. `fence` grows with every claim; only its newest holder may write."""

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

    `heading` is the path of titles above it, `page` counts from 1 (slides and sheets too), `kind` is one of
    `heading`, `paragraph`, `list`, `table`, `code`. For a table `header` is its header row, already rendered, which
    every chunk of the table repeats.
    """

    text: str
    kind: str = "paragraph"
    heading: tuple[str, ...] = ()
    page: int | None = None
    header: str | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """A passage of a document: what is embedded, found and cited. `ordinal` counts from 0."""

    ordinal: int
    text: str
    heading: str
    page: int | None


@dataclass(frozen=True, slots=True)
class Hit:
    """A found chunk. `score` is in 0..1 and higher is better, whatever the metric; so is a reranker's, where one was
    asked."""

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


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What one key used of one model on one day (UTC, `2026-01-31`): sums to be added to what is there.

    `unmetered` counts the requests whose model server reported no usage; their tokens are in no sum.
    """

    day: str
    key: str
    model: str
    requests: int
    unmetered: int
    prompt_tokens: int
    completion_tokens: int


def chunk_id(document_id: str, version: int, ordinal: int) -> str:
    """Return the primary key of a chunk: the same for every attempt at the same work."""
    return f"{document_id}:{version}:{ordinal}"


def parse_chunk_id(id: str) -> tuple[str, int, int]:
    """Return what `chunk_id` was made of: document id, version, ordinal."""
    document_id, version, ordinal = id.rsplit(":", 2)
    return document_id, int(version), int(ordinal)


def with_heading(heading: str, text: str) -> str:
    """Return a text below the titles that stand above it, which say what the text is about."""
    return f"{heading}\n{text}" if heading else text
