"""The tables of the ledger. A change here needs an Alembic revision in `services/common/ledger/migrations/versions`.

Times are seconds since 1970 (UTC): both databases compare them in the same way, and tests can pass a clock.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

ID = String(32)

knowledge_bases = Table(
    "knowledge_bases",
    metadata,
    Column("id", ID, primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("description", Text, nullable=False, server_default=""),
    Column("prompt_template", Text),
    # Whether a question finds texts in the other language. NULL means the service's setting.
    Column("cross_language", Boolean),
    # What was tuned for this base. NULL means the weight of the model, and the service's setting.
    Column("dense_weight", Double),
    Column("min_confidence", Double),
    Column("live_generation", Integer),
    Column("building_generation", Integer),
    # Why the last rebuild was given up.
    Column("rebuild_error", Text),
    Column("deleting", Boolean, nullable=False, default=False),
    # Grows with every change of what searches find, so that caches know when they are stale.
    Column("revision", Integer, nullable=False, default=0),
    # The time at which a worker last claimed a job of this base. The base that has waited longest is next.
    Column("served_at", Double, nullable=False, default=0.0),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
)

generations = Table(
    "generations",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("knowledge_base_id", ID, ForeignKey("knowledge_bases.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("collection", String(128), nullable=False, unique=True),
    Column("embedding_model", String(512), nullable=False),
    Column("dimension", Integer, nullable=False),
    Column("index_spec", JSON, nullable=False),
    Column("chunking", JSON, nullable=False),
    Column("created_at", Double, nullable=False),
    sqlite_autoincrement=True,  # no number is used twice, because caches are keyed by it
)

documents = Table(
    "documents",
    metadata,
    Column("id", ID, primary_key=True),
    Column("knowledge_base_id", ID, ForeignKey("knowledge_bases.id", ondelete="CASCADE"), nullable=False),
    Column("name", String(1024), nullable=False),
    Column("version", Integer, nullable=False),
    # The version that searches find; NULL hides the document from search.
    Column("live_version", Integer),
    Column("status", String(16), nullable=False),
    Column("stage_done", Integer, nullable=False, default=0),
    Column("stage_total", Integer, nullable=False, default=0),
    Column("error_code", String(64)),
    Column("error_detail", Text),
    Column("attempts", Integer, nullable=False, default=0),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Index("ix_documents_listing", "knowledge_base_id", "created_at", "id"),
    # Knowledge base and name identify a document. A document that is being deleted does not hold its name.
    Index(
        "uq_documents_identity",
        "knowledge_base_id",
        "name",
        unique=True,
        sqlite_where=text("status NOT IN ('deleting', 'deleted')"),
        postgresql_where=text("status NOT IN ('deleting', 'deleted')"),
    ),
)

versions = Table(
    "versions",
    metadata,
    Column("document_id", ID, ForeignKey("documents.id", ondelete="CASCADE"), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("sha256", String(64), nullable=False, index=True),
    Column("bytes", BigInteger, nullable=False),
    Column("media_type", String(255), nullable=False),
    Column("metadata", JSON, nullable=False),
    Column("created_at", Double, nullable=False),
)

# A row says that the collection of this generation holds all chunks of this version.
indexed = Table(
    "indexed",
    metadata,
    Column("document_id", ID, ForeignKey("documents.id", ondelete="CASCADE"), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column(
        "generation_id",
        Integer,
        ForeignKey("generations.id", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
        index=True,
    ),
    Column("chunks", Integer, nullable=False),
    Column("terms", LargeBinary),
)

# A sample of the chunks of a generation, by slot (`zhiwen.common.embedding.background`). Vectors are 16-bit numbers.
samples = Table(
    "samples",
    metadata,
    Column(
        "generation_id",
        Integer,
        ForeignKey("generations.id", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("slot", Integer, primary_key=True, autoincrement=False),
    Column("hash", BigInteger, nullable=False),
    Column("document_id", ID, ForeignKey("documents.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("version", Integer, nullable=False),
    Column("ordinal", Integer, nullable=False),
    Column("vector", LargeBinary, nullable=False),
    # The two halves of the chunk's text, for a model that nobody knows.
    Column("opening", LargeBinary),
    Column("rest", LargeBinary),
)

# One row for each stored original. An upload and a removal of the same bytes both lock this row.
originals = Table(
    "originals",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("touched_at", Double, nullable=False),
)

# Unfinished work only; a finished job has no row.
jobs = Table(
    "jobs",
    metadata,
    Column("id", ID, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("knowledge_base_id", ID, ForeignKey("knowledge_bases.id", ondelete="CASCADE"), nullable=False),
    Column("document_id", ID, ForeignKey("documents.id", ondelete="CASCADE"), index=True),
    Column("version", Integer),
    Column("generation_id", Integer),
    # The lowest number goes first.
    Column("priority", Integer, nullable=False),
    Column("due_at", Double, nullable=False),
    Column("lease_owner", String(128)),
    Column("lease_until", Double, nullable=False, default=0.0),
    Column("fence", Integer, nullable=False, default=0),
    Column("attempts", Integer, nullable=False, default=0),
    # How often the job waited because a dependency did not answer. A wait does not count as an attempt.
    Column("waits", Integer, nullable=False, default=0),
    Column("cancelled", Boolean, nullable=False, default=False),
    Column("request_id", String(128)),
    Column("created_at", Double, nullable=False),
    Index("ix_jobs_claim", "knowledge_base_id", "priority", "created_at"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", ID, primary_key=True),
    Column("name", String(128), nullable=False),
    Column("sha256", String(64), nullable=False, unique=True),
    Column("scope", String(16), nullable=False),
    Column("knowledge_base", String(64)),
    Column("created_at", Double, nullable=False),
    Column("revoked_at", Double),
)

# What each key used of each model on each day (in UTC, as 2026-01-31). The gateways add to the sums.
usage = Table(
    "usage",
    metadata,
    Column("day", String(10), primary_key=True),
    Column("key", String(128), primary_key=True),
    Column("model", String(255), primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("unmetered", BigInteger, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
)
