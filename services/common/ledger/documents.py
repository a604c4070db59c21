"""Documents and their versions, in the ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from services.common.errors import Conflict, NotFound
from services.common.ledger.bases import read_knowledge_base
from services.common.ledger.database import Database, moment, new_id
from services.common.ledger.queue import add_job, cancel_ingests, note_change
from services.common.ledger.schema import documents, indexed, jobs, knowledge_bases, versions
from services.common.ledger.touching import touch_originals
from services.common.models import Document, DocumentStatus, JobKind, Progress

OnDuplicate = Literal["keep", "skip", "error"]
Outcome = Literal["created", "replaced", "unchanged", "duplicate"]

ACTIVE = documents.c.status.not_in([DocumentStatus.DELETING, DocumentStatus.DELETED])
_LIVE_VERSIONS = sa.select(documents.c.id, documents.c.live_version).where(
    documents.c.id.in_(sa.bindparam("ids", expanding=True)), documents.c.live_version.is_not(None)
)
"""Built once: every search ends with it."""


@dataclass(frozen=True, slots=True)
class Upload:
    """Bytes that have arrived: their identity and what the uploader says about them."""

    name: str
    sha256: str
    bytes: int
    media_type: str
    metadata: Mapping[str, Any] | None  # None: as before


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of an upload; `document` is the one that now stands for it."""

    outcome: Outcome
    document: Document


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
                    return self._record(c, knowledge_base_id, upload, on_duplicate, request_id, keep_original)
            except IntegrityError:  # another client created the same name between our look and our insert
                if attempt == 2:
                    raise
        raise AssertionError("unreachable")

    def _record(
        self,
        c: Connection,
        knowledge_base_id: str,
        upload: Upload,
        on_duplicate: OnDuplicate,
        request_id: str | None,
        keep_original: Callable[[], None],
    ) -> Recorded:
        _lock_base(c, knowledge_base_id)
        read_knowledge_base(c, (knowledge_bases.c.id == knowledge_base_id) & ~knowledge_bases.c.deleting)
        same_name = (documents.c.knowledge_base_id == knowledge_base_id) & (documents.c.name == upload.name) & ACTIVE
        current = _find_document(c, same_name, lock=True)
        if current is not None and current.sha256 == upload.sha256 and _same_metadata(current, upload):
            if current.status in {DocumentStatus.FAILED, DocumentStatus.CANCELLED}:
                touch_originals(c, self.database.now(), [upload.sha256])
                keep_original()
                current = self._requeue(c, current, request_id)
            return Recorded("unchanged", current)
        if current is None and on_duplicate != "keep":
            holder = _find_document(
                c,
                (documents.c.knowledge_base_id == knowledge_base_id) & (versions.c.sha256 == upload.sha256) & ACTIVE,
            )
            if holder is not None and on_duplicate == "skip":
                return Recorded("duplicate", holder)
            if holder is not None:
                raise Conflict(
                    "duplicate-content",
                    f"The same bytes are already here as {holder.name}.",
                    errors=[{"document_id": holder.id, "name": holder.name}],
                )
        touch_originals(c, self.database.now(), [upload.sha256])
        keep_original()
        if current is None:
            return Recorded("created", self._insert_document(c, knowledge_base_id, upload, request_id))
        return Recorded("replaced", self._insert_version(c, current, upload, request_id))

    def _insert_document(
        self, c: Connection, knowledge_base_id: str, upload: Upload, request_id: str | None
    ) -> Document:
        now = self.database.now()
        document_id = new_id()
        c.execute(
            documents.insert().values(
                id=document_id,
                knowledge_base_id=knowledge_base_id,
                name=upload.name,
                version=1,
                status=DocumentStatus.QUEUED,
                stage_done=0,
                stage_total=0,
                attempts=0,
                created_at=now,
                updated_at=now,
            )
        )
        _insert_version_row(c, document_id, 1, upload, upload.metadata or {}, now)
        add_job(
            c, self.database.now(), JobKind.INGEST, knowledge_base_id, document_id, version=1, request_id=request_id
        )
        return _document(c, document_id)

    def _insert_version(self, c: Connection, current: Document, upload: Upload, request_id: str | None) -> Document:
        now = self.database.now()
        version = current.version + 1
        metadata = current.metadata if upload.metadata is None else upload.metadata
        _insert_version_row(c, current.id, version, upload, metadata, now)
        c.execute(
            documents.update()
            .where(documents.c.id == current.id)
            .values(version=version, updated_at=now, **fresh_state(DocumentStatus.QUEUED))
        )
        cancel_ingests(c, current.id)
        if current.version != current.live_version:  # it will never be live: nobody needs it any more
            add_job(
                c,
                self.database.now(),
                JobKind.PURGE,
                current.knowledge_base_id,
                current.id,
                version=current.version,
                request_id=request_id,
            )
        add_job(
            c,
            self.database.now(),
            JobKind.INGEST,
            current.knowledge_base_id,
            current.id,
            version=version,
            request_id=request_id,
        )
        return _document(c, current.id)

    def _requeue(self, c: Connection, document: Document, request_id: str | None) -> Document:
        c.execute(
            documents.update()
            .where(documents.c.id == document.id)
            .values(updated_at=self.database.now(), **fresh_state(DocumentStatus.QUEUED))
        )
        add_job(
            c,
            self.database.now(),
            JobKind.INGEST,
            document.knowledge_base_id,
            document.id,
            version=document.version,
            request_id=request_id,
        )
        return _document(c, document.id)

    def expect_original(self, sha256: str) -> None:
        """Note that bytes are about to be stored: if no version ever names them, `forgotten_originals` does."""
        with self.database.write() as c:
            touch_originals(c, self.database.now(), [sha256])

    def get(self, knowledge_base_id: str, document_id: str) -> Document:
        """Return a document. Raises `NotFound`."""
        with self.database.read() as c:
            return self._owned(c, knowledge_base_id, document_id)

    def version(self, document_id: str, version: int) -> Document:
        """Return a document as it is in one of its versions. Raises `NotFound` when that version is gone."""
        query = _document_query(versions.c.version == version).where(documents.c.id == document_id)
        with self.database.read() as c:
            row = c.execute(query).one_or_none()
        if row is None or not row.sha256:
            raise NotFound("document-not-found", f"Version {version} of the document {document_id} is gone.")
        return replace(_to_document(row), version=version)

    def _owned(self, c: Connection, knowledge_base_id: str, document_id: str, *, lock: bool = False) -> Document:
        if lock:
            _lock_base(c, knowledge_base_id)
        found = _find_document(
            c, (documents.c.knowledge_base_id == knowledge_base_id) & (documents.c.id == document_id), lock=lock
        )
        if found is None:
            raise NotFound("document-not-found", f"There is no document with the id {document_id} here.")
        return found

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
        query = _document_query().where(condition).order_by(documents.c.created_at, documents.c.id).limit(limit)
        with self.database.read() as c:
            return [_to_document(row) for row in c.execute(query)]

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
        with self.database.read() as c:
            rows = c.execute(_LIVE_VERSIONS, {"ids": list(set(document_ids))})
            return {str(id): int(version) for id, version in rows}

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
            document = self._owned(c, knowledge_base_id, document_id, lock=True)
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
            return _document(c, document_id)

    def retry(self, knowledge_base_id: str, document_id: str, *, request_id: str | None) -> Document:
        """Queue a failed or cancelled document again. Raises `Conflict` for any other."""
        with self.database.write() as c:
            document = self._owned(c, knowledge_base_id, document_id, lock=True)
            if document.status not in {DocumentStatus.FAILED, DocumentStatus.CANCELLED}:
                raise Conflict(
                    "not-retryable", f"Only failed or cancelled documents can be retried; it is {document.status}."
                )
            return self._requeue(c, document, request_id)

    def cancel(self, knowledge_base_id: str, document_id: str) -> Document:
        """Stop the indexing of a document; a version that already answers goes on answering."""
        with self.database.write() as c:
            document = self._owned(c, knowledge_base_id, document_id, lock=True)
            if document.status.settled or document.status is DocumentStatus.DELETING:
                raise Conflict("not-cancellable", f"There is nothing to cancel; the document is {document.status}.")
            cancel_ingests(c, document_id)
            c.execute(
                documents.update()
                .where(documents.c.id == document_id)
                .values(updated_at=self.database.now(), **fresh_state(DocumentStatus.CANCELLED))
            )
            add_job(c, self.database.now(), JobKind.PURGE, knowledge_base_id, document_id, version=document.version)
            return _document(c, document_id)


def fresh_state(status: DocumentStatus) -> dict[str, Any]:
    """The column values of a document that enters `status` with nothing done and no error."""
    return {
        "status": status,
        "stage_done": 0,
        "stage_total": 0,
        "error_code": None,
        "error_detail": None,
        "attempts": 0,
    }


def _insert_version_row(
    c: Connection, document_id: str, version: int, upload: Upload, metadata: Mapping[str, Any], now: float
) -> None:
    c.execute(
        versions.insert().values(
            document_id=document_id,
            version=version,
            sha256=upload.sha256,
            bytes=upload.bytes,
            media_type=upload.media_type,
            metadata=dict(metadata),
            created_at=now,
        )
    )


def _same_metadata(current: Document, upload: Upload) -> bool:
    return upload.metadata is None or dict(upload.metadata) == dict(current.metadata)


def _is_live() -> sa.ColumnElement[bool]:
    return (indexed.c.document_id == documents.c.id) & (indexed.c.version == documents.c.live_version)


def _document_query(which: sa.ColumnElement[bool] | None = None) -> sa.Select[Any]:
    """Documents joined with their newest version, or with the version that `which` chooses."""
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


def _lock_base(c: Connection, knowledge_base_id: str) -> None:
    """Let one transaction at a time change which versions and jobs the documents of a knowledge base have.

    Every transaction locks in this order, so that none waits in a circle: knowledge base, jobs, documents.
    """
    row = sa.select(knowledge_bases.c.id).where(knowledge_bases.c.id == knowledge_base_id)
    c.execute(row.with_for_update(key_share=True))


def _find_document(c: Connection, condition: sa.ColumnElement[bool], *, lock: bool = False) -> Document | None:
    """Return the oldest document that fits; `lock`, under the lock of its base, locks its jobs and its row."""
    query = _document_query().where(condition).order_by(documents.c.created_at).limit(1)
    row = c.execute(query).one_or_none()
    if row is not None and lock:
        c.execute(sa.select(jobs.c.id).where(jobs.c.document_id == row.id).order_by(jobs.c.id).with_for_update())
        c.execute(sa.select(documents.c.id).where(documents.c.id == row.id).with_for_update())
        row = c.execute(query).one_or_none()
    return _to_document(row) if row else None


def _document(c: Connection, document_id: str) -> Document:
    return _to_document(c.execute(_document_query().where(documents.c.id == document_id)).one())


def _to_document(row: Any) -> Document:
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
        created_at=moment(row.created_at),
        updated_at=moment(row.updated_at),
    )
