"""Documents: reading them and their versions, and the requests of clients: retry, cancel, delete."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from zhiwen.common.errors import Conflict, NotFound
from zhiwen.common.ledger import lifecycle
from zhiwen.common.ledger.bases import bump_revision, lock_base
from zhiwen.common.ledger.database import Database, utc_datetime
from zhiwen.common.ledger.jobs import add_job, cancel_ingests, cancel_jobs
from zhiwen.common.ledger.schema import documents, indexed, jobs, knowledge_bases, versions
from zhiwen.common.models import Document, DocumentStatus, JobKind, Progress

ACTIVE = documents.c.status.not_in(sorted(lifecycle.GONE))
"""Matches documents that are neither being deleted nor deleted."""

_LIVE = sa.select(documents.c.id, documents.c.live_version).where(documents.c.live_version.is_not(None))
_LIVE_OF_ARRAY = _LIVE.where(documents.c.id == sa.any_(sa.bindparam("ids", type_=sa.ARRAY(sa.String))))
_LIVE_OF_JSON = _LIVE.where(
    documents.c.id.in_(sa.select(sa.func.json_each(sa.bindparam("ids")).table_valued("value").c.value))
)
"""The same on SQLite, which has no arrays. Every search runs one of the two."""


class Documents:
    """The documents. Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def get(self, knowledge_base_id: str, document_id: str) -> Document:
        """Return a document. Raises `NotFound`."""
        with self.database.read() as c:
            return _owned_document(c, knowledge_base_id, document_id)

    def version(self, document_id: str, version: int) -> Document:
        """Return a document with the data of one of its versions. Raises `NotFound` when that version is gone."""
        query = _document_query(versions.c.version == version).where(documents.c.id == document_id)
        with self.database.read() as c:
            row = c.execute(query).one_or_none()
        if row is None or not row.sha256:
            raise NotFound("document-not-found", f"Version {version} of the document {document_id} is gone.")
        return replace(_to_document(row), version=version)

    def list(
        self,
        knowledge_base_id: str,
        *,
        status: DocumentStatus | None = None,
        name: str | None = None,
        after: tuple[float, str] | None = None,
        limit: int = 50,
    ) -> list[Document]:
        """Return up to `limit` documents of the knowledge base `knowledge_base_id`, in order of creation.

        `name` matches exactly, or by prefix when it ends with `*`. Without a `status`, documents that are being deleted
        or are deleted are left out. The list begins after the document that `after` names, by the time of its creation
        (seconds since 1970) and its id.
        """
        condition = documents.c.knowledge_base_id == knowledge_base_id
        condition &= (documents.c.status == status) if status else ACTIVE
        if name is not None:
            prefix = name[:-1]  # not LIKE: on SQLite it ignores the case of letters
            condition &= (
                sa.func.substr(documents.c.name, 1, len(prefix)) == prefix
                if name.endswith("*")
                else documents.c.name == name
            )
        if after is not None:
            condition &= sa.tuple_(documents.c.created_at, documents.c.id) > sa.tuple_(
                sa.literal(after[0]), sa.literal(after[1])
            )
        query = _document_query().where(condition).order_by(documents.c.created_at, documents.c.id).limit(limit)
        with self.database.read() as c:
            return [_to_document(row) for row in c.execute(query)]

    def count(self, knowledge_base_id: str) -> dict[str, int]:
        """Return the number of documents by status, and as `chunks` the number of searchable chunks."""
        with self.database.read() as c:
            by_status = c.execute(
                sa.select(documents.c.status, sa.func.count())
                .where(documents.c.knowledge_base_id == knowledge_base_id, ACTIVE)
                .group_by(documents.c.status)
            ).all()
            chunks = c.scalar(
                sa.select(sa.func.coalesce(sa.func.sum(indexed.c.chunks), 0))
                .select_from(
                    indexed.join(documents, _is_live()).join(
                        knowledge_bases, knowledge_bases.c.live_generation == indexed.c.generation_id
                    )
                )
                .where(knowledge_bases.c.id == knowledge_base_id)
            )
        return {**{str(status): int(count) for status, count in by_status}, "chunks": int(chunks or 0)}

    def live_versions(self, document_ids: Iterable[str]) -> dict[str, int]:
        """Return the number of the live version by document id. Documents without a live version are left out."""
        ids = list(set(document_ids))
        if self.database.is_sqlite:
            rows = self.database.look_up(_LIVE_OF_JSON, ids=orjson.dumps(ids).decode())
        else:
            rows = self.database.look_up(_LIVE_OF_ARRAY, ids=ids)
        return {row["id"]: row["live_version"] for row in rows}

    def live_pairs(self, generation_id: int) -> set[tuple[str, int]]:
        """Return the (document, version) pairs that are live in a generation."""
        with self.database.read() as c:
            rows = c.execute(
                sa.select(indexed.c.document_id, indexed.c.version)
                .select_from(indexed.join(documents, _is_live()))
                .where(indexed.c.generation_id == generation_id)
            )
            return {(str(id), int(version)) for id, version in rows}

    def indexed_chunks(self, generation_id: int) -> dict[tuple[str, int], int]:
        """Return the number of chunks in a generation by (document, version)."""
        with self.database.read() as c:
            rows = c.execute(
                sa.select(indexed.c.document_id, indexed.c.version, indexed.c.chunks).where(
                    indexed.c.generation_id == generation_id
                )
            )
            return {(str(id), int(version)): int(chunks) for id, version, chunks in rows}

    def terms(self, generation_id: int, document_ids: Sequence[str]) -> dict[tuple[str, int], bytes]:
        """Return the term statistics of documents in a generation, by (document, version)."""
        with self.database.read() as c:
            rows = c.execute(
                sa.select(indexed.c.document_id, indexed.c.version, indexed.c.terms).where(
                    indexed.c.generation_id == generation_id,
                    indexed.c.document_id.in_(document_ids),
                    indexed.c.terms.is_not(None),
                )
            )
            return {(str(id), int(version)): bytes(terms) for id, version, terms in rows}

    def retry(self, knowledge_base_id: str, document_id: str) -> Document:
        """Queue the indexing of a failed or cancelled document once more.

        Raises `NotFound`, or `Conflict` (`not-retryable`) for any other document.
        """
        with self.database.write() as c:
            document = _owned_document(c, knowledge_base_id, document_id, lock=True)
            if document.status not in lifecycle.RETRYABLE:
                raise Conflict(
                    "not-retryable", f"Only failed or cancelled documents can be retried; it is {document.status}."
                )
            return retry_document(c, self.database.now(), document)

    def cancel(self, knowledge_base_id: str, document_id: str) -> Document:
        """Stop the indexing of a document. Its live version stays searchable.

        Raises `NotFound`, or `Conflict` (`not-cancellable`) when it is not being indexed.
        """
        with self.database.write() as c:
            document = _owned_document(c, knowledge_base_id, document_id, lock=True)
            if document.status not in lifecycle.CANCELLABLE:
                raise Conflict("not-cancellable", f"There is nothing to cancel; the document is {document.status}.")
            cancel_ingests(c, document_id)
            lifecycle.cancel(c, self.database.now(), document_id)
            add_job(c, self.database.now(), JobKind.PURGE, knowledge_base_id, document_id, version=document.version)
            return read_document(c, document_id)

    def begin_delete(self, knowledge_base_id: str, document_id: str) -> Document:
        """Hide a document from search at once, and queue the removal of its chunks and originals. Raises `NotFound`."""
        with self.database.write() as c:
            document = _owned_document(c, knowledge_base_id, document_id, lock=True)
            if document.status in lifecycle.GONE:
                return document
            lifecycle.begin_delete(c, self.database.now(), document_id)
            bump_revision(c, knowledge_base_id)
            cancel_jobs(c, jobs.c.document_id == document_id)
            add_job(c, self.database.now(), JobKind.DELETE, knowledge_base_id, document_id)
            return read_document(c, document_id)


# Within the caller's transaction


def read_document(c: Connection, document_id: str) -> Document:
    """Return the document with this id; it must exist."""
    return _to_document(c.execute(_document_query().where(documents.c.id == document_id)).one())


def find_document(c: Connection, condition: sa.ColumnElement[bool], *, lock: bool = False) -> Document | None:
    """Return the oldest document that meets `condition`, or None.

    `lock` locks its jobs and its row until the transaction ends. The caller has already locked the knowledge base.
    """
    query = _document_query().where(condition).order_by(documents.c.created_at).limit(1)
    row = c.execute(query).one_or_none()
    if row is not None and lock:
        c.execute(sa.select(jobs.c.id).where(jobs.c.document_id == row.id).order_by(jobs.c.id).with_for_update())
        c.execute(sa.select(documents.c.id).where(documents.c.id == row.id).with_for_update())
        row = c.execute(query).one_or_none()
    return _to_document(row) if row else None


def retry_document(c: Connection, now: float, document: Document) -> Document:
    """Queue the indexing of a document's newest version once more; return the changed document."""
    lifecycle.retry(c, now, document.id)
    queue_indexing(c, now, document, document.version)
    return read_document(c, document.id)


def queue_indexing(c: Connection, now: float, document: Document, version: int) -> None:
    """Queue the indexing of a version of a document."""
    add_job(c, now, JobKind.INGEST, document.knowledge_base_id, document.id, version=version)


def _owned_document(c: Connection, knowledge_base_id: str, document_id: str, *, lock: bool = False) -> Document:
    """Return a document of a knowledge base. `lock` locks the base, the jobs and the row. Raises `NotFound`."""
    if lock:
        lock_base(c, knowledge_base_id)
    found = find_document(
        c, (documents.c.knowledge_base_id == knowledge_base_id) & (documents.c.id == document_id), lock=lock
    )
    if found is None:
        raise NotFound("document-not-found", f"There is no document with the id {document_id} here.")
    return found


def _document_query(which: sa.ColumnElement[bool] | None = None) -> sa.Select[Any]:
    """Select documents joined with their newest version, or with the version that `which` chooses."""
    chosen = versions.c.version == documents.c.version if which is None else which
    shown = documents.outerjoin(versions, (versions.c.document_id == documents.c.id) & chosen)
    in_live_generation = (
        sa.select(indexed.c.chunks)
        .join(knowledge_bases, knowledge_bases.c.live_generation == indexed.c.generation_id)
        .where(indexed.c.document_id == documents.c.id, indexed.c.version == documents.c.version)
        .scalar_subquery()
    )
    return sa.select(
        documents,
        # A deleted document has no version left.
        sa.func.coalesce(versions.c.sha256, "").label("sha256"),
        sa.func.coalesce(versions.c.bytes, 0).label("bytes"),
        sa.func.coalesce(versions.c.media_type, "").label("media_type"),
        versions.c.metadata,
        sa.func.coalesce(in_live_generation, 0).label("chunks"),
    ).select_from(shown)


def _to_document(row: Any) -> Document:
    """Return the document of a row of `_document_query`."""
    return Document(
        id=row.id,
        knowledge_base_id=row.knowledge_base_id,
        name=row.name,
        version=row.version,
        live_version=row.live_version,
        status=DocumentStatus(row.status),
        progress=Progress(row.status, row.stage_done, row.stage_total),
        chunks=row.chunks,
        bytes=row.bytes,
        sha256=row.sha256,
        media_type=row.media_type,
        metadata=row.metadata or {},
        error_code=row.error_code,
        error_detail=row.error_detail,
        attempts=row.attempts,
        created_at=utc_datetime(row.created_at),
        updated_at=utc_datetime(row.updated_at),
    )


def _is_live() -> sa.ColumnElement[bool]:
    """Match the rows of `indexed` that belong to the live version of their document."""
    return (indexed.c.document_id == documents.c.id) & (indexed.c.version == documents.c.live_version)
