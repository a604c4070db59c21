"""Documents and their versions, in the ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import orjson
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from zhiwen.common.errors import Conflict, NotFound
from zhiwen.common.ledger.database import Database
from zhiwen.common.ledger.document_rows import (
    ACTIVE,
    document_query,
    fresh_state,
    owned_document,
    read_document,
    to_document,
)
from zhiwen.common.ledger.queue import add_job, cancel_ingests, note_change
from zhiwen.common.ledger.schema import documents, indexed, jobs, knowledge_bases, versions
from zhiwen.common.ledger.touching import touch_originals
from zhiwen.common.ledger.uploads import OnDuplicate, Recorded, Upload, record_upload, requeue
from zhiwen.common.models import Document, DocumentStatus, JobKind

_LIVE = sa.select(documents.c.id, documents.c.live_version).where(documents.c.live_version.is_not(None))
_LIVE_OF_ARRAY = _LIVE.where(documents.c.id == sa.any_(sa.bindparam("ids", type_=sa.ARRAY(sa.String))))
_LIVE_OF_JSON = _LIVE.where(
    documents.c.id.in_(sa.select(sa.func.json_each(sa.bindparam("ids")).table_valued("value").c.value))
)
"""The same on SQLite, which has no arrays. Every search ends with one of them."""


class Documents:
    """Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def record(
        self,
        knowledge_base_id: str,
        upload: Upload,
        *,
        on_duplicate: OnDuplicate,
        request_id: str | None,
        keep_original: Callable[[], None],
    ) -> Recorded:
        """Make an upload part of the ledger and queue its indexing.

        `keep_original` is called inside the transaction, under the lock that a delete of the same bytes takes, and
        returns when the bytes are durably stored. Raises `Conflict` (`duplicate-content`) when other bytes of the
        same kind exist under another name and `on_duplicate` is `error`.
        """
        for attempt in range(3):
            try:
                with self.database.write() as c:
                    return record_upload(
                        c, self.database.now, knowledge_base_id, upload, on_duplicate, request_id, keep_original
                    )
            except IntegrityError:  # another client created the same name between our look and our insert
                if attempt == 2:
                    raise
        raise AssertionError("unreachable")

    def expect_original(self, sha256: str) -> None:
        """Note that bytes are about to be stored: if no version ever names them, `forgotten_originals` does."""
        with self.database.write() as c:
            touch_originals(c, self.database.now(), [sha256])

    def get(self, knowledge_base_id: str, document_id: str) -> Document:
        """Return a document. Raises `NotFound`."""
        with self.database.read() as c:
            return owned_document(c, knowledge_base_id, document_id)

    def version(self, document_id: str, version: int) -> Document:
        """Return a document as it is in one of its versions. Raises `NotFound` when that version is gone."""
        query = document_query(versions.c.version == version).where(documents.c.id == document_id)
        with self.database.read() as c:
            row = c.execute(query).one_or_none()
        if row is None or not row.sha256:
            raise NotFound("document-not-found", f"Version {version} of the document {document_id} is gone.")
        return replace(to_document(row), version=version)

    def list(
        self,
        knowledge_base_id: str,
        *,
        status: DocumentStatus | None = None,
        name: str | None = None,
        after: tuple[float, str] | None = None,
        limit: int = 50,
    ) -> list[Document]:
        """Return documents in order of arrival; `name` matches exactly, or by prefix when it ends with `*`."""
        condition = documents.c.knowledge_base_id == knowledge_base_id
        condition &= (documents.c.status == status) if status else ACTIVE
        if name is not None:
            prefix = name[:-1]  # compared as it stands: SQLite's LIKE takes a for A
            condition &= (
                sa.func.substr(documents.c.name, 1, len(prefix)) == prefix
                if name.endswith("*")
                else documents.c.name == name
            )
        if after is not None:
            condition &= sa.tuple_(documents.c.created_at, documents.c.id) > sa.tuple_(
                sa.literal(after[0]), sa.literal(after[1])
            )
        query = document_query().where(condition).order_by(documents.c.created_at, documents.c.id).limit(limit)
        with self.database.read() as c:
            return [to_document(row) for row in c.execute(query)]

    def count(self, knowledge_base_id: str) -> dict[str, int]:
        """Return the number of documents by status, and `chunks`: how many chunks answer."""
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
        """Return the version that answers, for those of the documents that have one (design section 2.4)."""
        ids = list(set(document_ids))
        if self.database.is_sqlite:
            rows = self.database.look_up(_LIVE_OF_JSON, ids=orjson.dumps(ids).decode())
        else:
            rows = self.database.look_up(_LIVE_OF_ARRAY, ids=ids)
        return {row["id"]: row["live_version"] for row in rows}

    def live_sets(self, generation_id: int) -> set[tuple[str, int]]:
        """Return the (document, version) pairs that answer in a generation."""
        with self.database.read() as c:
            rows = c.execute(
                sa.select(indexed.c.document_id, indexed.c.version)
                .select_from(indexed.join(documents, _is_live()))
                .where(indexed.c.generation_id == generation_id)
            )
            return {(str(id), int(version)) for id, version in rows}

    def indexed_chunks(self, generation_id: int) -> dict[tuple[str, int], int]:
        """Return how many chunks each (document, version) that stands in a generation has."""
        with self.database.read() as c:
            rows = c.execute(
                sa.select(indexed.c.document_id, indexed.c.version, indexed.c.chunks).where(
                    indexed.c.generation_id == generation_id
                )
            )
            return {(str(id), int(version)): int(chunks) for id, version, chunks in rows}

    def originals(self) -> set[str]:
        """Return the sha256 of all bytes that a version names."""
        with self.database.read() as c:
            return set(c.scalars(sa.select(versions.c.sha256).distinct()))

    def terms(self, generation_id: int, document_ids: Sequence[str]) -> dict[tuple[str, int], bytes]:
        """Return the term statistics, by (document, version), of documents indexed in a generation."""
        with self.database.read() as c:
            rows = c.execute(
                sa.select(indexed.c.document_id, indexed.c.version, indexed.c.terms).where(
                    indexed.c.generation_id == generation_id,
                    indexed.c.document_id.in_(document_ids),
                    indexed.c.terms.is_not(None),
                )
            )
            return {(str(id), int(version)): bytes(terms) for id, version, terms in rows}

    def begin_delete(self, knowledge_base_id: str, document_id: str, *, request_id: str | None) -> Document:
        """Hide a document from search at once and queue the removal of its chunks and original."""
        with self.database.write() as c:
            document = owned_document(c, knowledge_base_id, document_id, lock=True)
            if document.status in {DocumentStatus.DELETING, DocumentStatus.DELETED}:
                return document
            c.execute(
                documents.update()
                .where(documents.c.id == document_id)
                .values(live_version=None, updated_at=self.database.now(), **fresh_state(DocumentStatus.DELETING))
            )
            note_change(c, knowledge_base_id)
            c.execute(jobs.delete().where(jobs.c.document_id == document_id, jobs.c.lease_owner.is_(None)))
            c.execute(jobs.update().where(jobs.c.document_id == document_id).values(cancelled=True))
            add_job(c, self.database.now(), JobKind.DELETE, knowledge_base_id, document_id, request_id=request_id)
            return read_document(c, document_id)

    def retry(self, knowledge_base_id: str, document_id: str, *, request_id: str | None) -> Document:
        """Queue a failed or cancelled document again. Raises `Conflict` for any other."""
        with self.database.write() as c:
            document = owned_document(c, knowledge_base_id, document_id, lock=True)
            if document.status not in {DocumentStatus.FAILED, DocumentStatus.CANCELLED}:
                raise Conflict(
                    "not-retryable", f"Only failed or cancelled documents can be retried; it is {document.status}."
                )
            return requeue(c, self.database.now(), document, request_id)

    def cancel(self, knowledge_base_id: str, document_id: str) -> Document:
        """Stop the indexing of a document; a version that already answers goes on answering."""
        with self.database.write() as c:
            document = owned_document(c, knowledge_base_id, document_id, lock=True)
            if document.status.settled or document.status is DocumentStatus.DELETING:
                raise Conflict("not-cancellable", f"There is nothing to cancel; the document is {document.status}.")
            cancel_ingests(c, document_id)
            c.execute(
                documents.update()
                .where(documents.c.id == document_id)
                .values(updated_at=self.database.now(), **fresh_state(DocumentStatus.CANCELLED))
            )
            add_job(c, self.database.now(), JobKind.PURGE, knowledge_base_id, document_id, version=document.version)
            return read_document(c, document_id)


def _is_live() -> sa.ColumnElement[bool]:
    return (indexed.c.document_id == documents.c.id) & (indexed.c.version == documents.c.live_version)
