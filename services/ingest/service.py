"""What the ingest API does, apart from HTTP: blocking functions over ledger, store and originals."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import structlog

from zhiwen.common.api.documents import ErrorOut, UploadItem
from zhiwen.common.api.knowledge_bases import Chunking, CreateKnowledgeBase, Index, UpdateKnowledgeBase
from zhiwen.common.embedding.registry import describe_model
from zhiwen.common.errors import Conflict, DocumentError, InvalidRequest, NotFound, ServiceError, TooMany, Unsupported
from zhiwen.common.ledger import Ledger, NewGeneration, OnDuplicate, Upload, new_id
from zhiwen.common.models import DEFAULT_METRIC, ChunkingSpec, IndexSpec, KnowledgeBase
from zhiwen.common.originals import Originals, storage_error
from zhiwen.common.prompts import validated_template
from zhiwen.common.store import ChunkStore
from zhiwen.common.store.index_specs import validated_index
from zhiwen.ingest.parsing import detect_media_type
from zhiwen.ingest.settings import IngestSettings
from zhiwen.ingest.upload.archives import unpack
from zhiwen.ingest.upload.multipart import ReceivedFile, checked_name
from zhiwen.ingest.worker.broker import Broker

log = structlog.get_logger(__name__)

HEAD_BYTES = 8192
ZIP = "application/zip"
MAX_RATIO = 200


@dataclass(frozen=True, slots=True)
class Ingest:
    """The ingest API's dependencies, and what it does with them. Every method blocks."""

    settings: IngestSettings
    ledger: Ledger
    store: ChunkStore
    originals: Originals
    broker: Broker

    def create_knowledge_base(self, body: CreateKnowledgeBase) -> KnowledgeBase:
        """Create the collection, then the ledger's row: a crash between leaves an empty collection, nothing worse."""
        if body.prompt_template is not None:
            validated_template(body.prompt_template)
        model = body.embedding_model or self.settings.embedding_model
        described = describe_model(model, self.settings)
        index = self._index(body.index, None, described.dimension)
        chunking = self._chunking(body.chunking, described.max_tokens)
        self._refuse_taken(body.name)
        id = new_id()
        collection = f"kb_{id}_1"
        self.store.create(collection, described.dimension, index)
        try:
            base = self.ledger.bases.create(
                id=id,
                name=body.name,
                description=body.description,
                prompt_template=body.prompt_template,
                cross_language=body.cross_language,
                generation=NewGeneration(collection, model, described.dimension, index, chunking),
            )
        except Conflict:
            self.store.drop(collection)
            raise
        self.store.point_alias(base.name, collection)
        return base

    def update_knowledge_base(
        self, base: KnowledgeBase, body: UpdateKnowledgeBase, *, request_id: str | None
    ) -> KnowledgeBase:
        """Change what was sent. Another model, index or chunking starts a rebuild beside what answers now."""
        changes = body.model_dump(exclude_unset=True, include={"description", "prompt_template", "cross_language"})
        if body.prompt_template is not None:
            validated_template(body.prompt_template)
        if "description" in changes:
            changes["description"] = changes["description"] or ""
        if changes:
            base = self.ledger.bases.update(base.name, changes)
        live = base.live
        model = body.embedding_model or live.embedding_model
        described = describe_model(model, self.settings)
        index = self._index(body.index, live.index, described.dimension)
        chunking = self._chunking(body.chunking, described.max_tokens) if body.chunking else live.chunking
        new = NewGeneration(f"kb_{base.id}_{new_id()[:8]}", model, described.dimension, index, chunking)
        if (model, chunking, replace(index, search={})) == (
            live.embedding_model,
            live.chunking,
            replace(live.index, search={}),
        ):
            if index.search != live.index.search:
                return self.ledger.rebuilds.change_search_params(base, dict(index.search))
            return base
        self.store.create(new.collection, new.dimension, new.index)
        try:
            base = self.ledger.rebuilds.begin(base, new, request_id=request_id)
        except ServiceError:  # a rebuild runs, the base was dropped meanwhile, or the ledger is away
            recorded = {generation.collection for generation in self.ledger.bases.generations(base.id)}
            if new.collection not in recorded:  # else only the answer was lost
                self.store.drop(new.collection)
            raise
        self.broker.wake(request_id)
        return base

    def _index(self, asked: Index | None, present: IndexSpec | None, dimension: int) -> IndexSpec:
        """Return the index to build: as asked, as it is now, or the server's default."""
        capabilities = self.store.capabilities()
        if asked is None and present is not None:
            return present
        spec = IndexSpec(
            type=(asked.type if asked else None) or capabilities.default_index,
            metric=(asked.metric if asked else None) or (present.metric if present else DEFAULT_METRIC),
            params=asked.params if asked else {},
            search=asked.search if asked else {},
        )
        return validated_index(spec, dimension=dimension, available=capabilities.index_types)

    def _refuse_taken(self, name: str) -> None:
        try:
            self.ledger.bases.get(name)
        except NotFound:
            return
        raise Conflict("knowledge-base-exists", f"There is already a knowledge base named {name}.")

    def _chunking(self, asked: Chunking | None, max_tokens: int) -> ChunkingSpec:
        if asked is None:
            size = min(self.settings.chunk_size, max_tokens)
            return ChunkingSpec(size, min(self.settings.chunk_overlap, size // 4))
        if asked.size > max_tokens:
            raise InvalidRequest(
                "bad-chunking", f"The embedding model reads {max_tokens} tokens; chunks of {asked.size} are too long."
            )
        if asked.overlap > asked.size // 2:
            raise InvalidRequest("bad-chunking", "The overlap must be at most half of the chunk size.")
        return ChunkingSpec(asked.size, asked.overlap)

    def refuse_when_full(self) -> None:
        """Raise `TooMany` (`queue-full`) while the queue is over its limit."""
        if self.ledger.jobs.waiting() >= self.settings.max_queue:
            raise TooMany(
                "queue-full", "Too many documents are waiting to be indexed; try again later.", retry_after=30
            )

    def is_archive(self, received: ReceivedFile) -> bool:
        """True for a zip of documents."""
        try:
            return _media_type(received.path, received.name) == ZIP
        except ServiceError:
            return False

    def accept(
        self,
        base: KnowledgeBase,
        received: ReceivedFile,
        metadata: Mapping[str, Any] | None,
        *,
        on_duplicate: OnDuplicate,
        request_id: str | None,
        in_archive: bool = False,
    ) -> list[UploadItem]:
        """Take one received file, or each file of a zip; what cannot be taken is a `rejected` item, not an error."""
        try:
            name = checked_name(received.name)
            media_type = _media_type(received.path, name)
            if media_type == ZIP and in_archive:
                raise Unsupported("nested-archive", f"{name} is an archive inside an archive; upload it by itself.")
            if media_type == ZIP:
                return self._accept_archive(base, received, metadata, on_duplicate=on_duplicate, request_id=request_id)
            upload = Upload(name, received.sha256, received.bytes, media_type, metadata)
            return [self._record(base, upload, received.path, on_duplicate=on_duplicate, request_id=request_id)]
        except ServiceError as exc:
            if exc.status >= 500:
                raise
            return [_rejected(received.name, exc)]

    def _record(
        self, base: KnowledgeBase, upload: Upload, path: Path, *, on_duplicate: OnDuplicate, request_id: str | None
    ) -> UploadItem:
        def keep() -> None:
            if not self.originals.exists(upload.sha256):  # removed since, by a delete of the same bytes
                self.originals.put(upload.sha256, path)

        self.ledger.documents.expect_original(upload.sha256)
        self.originals.put(upload.sha256, path)  # the slow part, outside of the transaction
        recorded = self.ledger.documents.record(
            base.id, upload, on_duplicate=on_duplicate, request_id=request_id, keep_original=keep
        )
        document = recorded.document
        duplicate = recorded.outcome == "duplicate"
        return UploadItem(
            id=document.id,
            name=upload.name,
            status=document.status,
            version=document.version,
            outcome=recorded.outcome,
            duplicate_of=document.name if duplicate else None,
        )

    def _accept_archive(
        self,
        base: KnowledgeBase,
        received: ReceivedFile,
        metadata: Mapping[str, Any] | None,
        *,
        on_duplicate: OnDuplicate,
        request_id: str | None,
    ) -> list[UploadItem]:
        folder = received.path.with_suffix(".unpacked")
        folder.mkdir()
        items: list[UploadItem] = []

        def refuse(name: str, error: DocumentError) -> None:
            items.append(_rejected(name, error))

        try:
            for name, member in unpack(
                received.path,
                folder,
                max_files=self.settings.max_archive_files,
                max_bytes=self.settings.max_archive_bytes,
                max_ratio=MAX_RATIO,
                refused=refuse,
            ):
                items += self._accept_member(
                    base, name, member, metadata, on_duplicate=on_duplicate, request_id=request_id
                )
                member.unlink(missing_ok=True)
        except DocumentError as exc:  # the rest of the archive; what came before it is kept
            items.append(_rejected(received.name, exc))
        except OSError as exc:
            raise storage_error(exc) from exc
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return items

    def _accept_member(
        self,
        base: KnowledgeBase,
        name: str,
        path: Path,
        metadata: Mapping[str, Any] | None,
        *,
        on_duplicate: OnDuplicate,
        request_id: str | None,
    ) -> list[UploadItem]:
        member = ReceivedFile(name, path, path.stat().st_size)
        with path.open("rb") as data:
            while piece := data.read(1 << 20):
                member.digest.update(piece)
        return self.accept(base, member, metadata, on_duplicate=on_duplicate, request_id=request_id, in_archive=True)


def _media_type(path: Path, name: str) -> str:
    with path.open("rb") as data:
        return detect_media_type(data.read(HEAD_BYTES), name)


def _rejected(name: str, error: ServiceError) -> UploadItem:
    return UploadItem(
        id=None,
        name=name,
        status="rejected",
        version=None,
        outcome="rejected",
        error=ErrorOut(code=error.code, detail=error.detail),
    )
