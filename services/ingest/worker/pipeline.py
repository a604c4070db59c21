"""The work of each kind of job: parse, chunk, embed and index a document, or remove data.

A worker may die at any line, and another worker then does the job again. So every write to Milvus is a delete, or an
upsert with ids that are the same each time. One ledger transaction at the end decides what becomes visible.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from zhiwen.common.embedding.base import Embedder
from zhiwen.common.embedding.registry import Embedders, present_model
from zhiwen.common.errors import DocumentError, NotFound, Unavailable
from zhiwen.common.ledger import Jobs, LeaseLost, Ledger
from zhiwen.common.lexical.analysis import analyze
from zhiwen.common.lexical.bm25 import document_vector
from zhiwen.common.lexical.statistics import TermStatistics
from zhiwen.common.models import (
    Block,
    Chunk,
    Document,
    DocumentStatus,
    Generation,
    Job,
    JobKind,
    Sampled,
    chunk_id,
    with_heading,
)
from zhiwen.common.originals import Originals
from zhiwen.common.store import ChunkRow, ChunkStore
from zhiwen.common.telemetry import CHUNKS
from zhiwen.ingest.parsing import ParseCancelled, ParserPool
from zhiwen.ingest.worker.chunking import chunk_blocks
from zhiwen.ingest.worker.leases import Lease
from zhiwen.ingest.worker.sampling import SampledHashes, Sampler

Report = Callable[[DocumentStatus, int, int], None]
"""Takes a stage, the number of units done, and the total number. Raises `LeaseLost` when the job is lost."""

PROGRESS_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Runs jobs. Thread-safe: several jobs run at once and share the parser children and the embedders.

    `batch` chunks are embedded and written at a time. A cancel waits for at most one batch, and a crash loses one.
    """

    ledger: Ledger
    store: ChunkStore
    originals: Originals
    embedders: Embedders
    parsers: ParserPool
    batch: int = 128
    sampled: SampledHashes = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sampled", SampledHashes(self.ledger.samples.hashes))

    def run(self, job: Job, lease: Lease) -> None:
        """Do a job, and record its end in the ledger.

        `lease` says whether this worker still holds the job. Raises `LeaseLost` when it does not, `DocumentError` when
        the document is at fault, and another `ServiceError` when something else is.
        """
        match job.kind:
            case JobKind.INGEST:
                self._ingest(job, lease)
            case JobKind.PURGE:
                self._remove_chunks(job, lease)
                self.remove_originals(self.ledger.endings.finish_purge(job))
            case JobKind.DELETE:
                self._remove_chunks(job, lease)
                self.remove_originals(self.ledger.endings.finish_delete(job))
            case JobKind.DROP:
                for collection in self.ledger.bases.collections(job.knowledge_base_id):
                    self.store.drop(collection)
                self.remove_originals(self.ledger.endings.finish_drop(job))
            case JobKind.REBUILD:
                self._rebuild(job, lease)
            case JobKind.RETIRE:
                self._retire(job)

    # Indexing

    def _ingest(self, job: Job, lease: Lease) -> None:
        generation = self.ledger.bases.get_by_id(job.knowledge_base_id).live
        document = self.ledger.documents.version(str(job.document_id), int(job.version or 0))

        indexed = self._index(generation, document, lease, _Progress(self.ledger.jobs, job))
        self.ledger.endings.commit(job, generation.id, indexed.chunks, indexed.terms, indexed.sample)
        self.sampled.learn(generation.id, indexed.sample)

    def _rebuild(self, job: Job, lease: Lease) -> None:
        try:
            generation = self.ledger.rebuilds.target(job)
            document = self.ledger.documents.version(str(job.document_id), int(job.version or 0))
        except NotFound:
            self.ledger.rebuilds.skip(job)
            return
        if document.live_version != job.version:
            self.ledger.rebuilds.skip(job)
            return

        # No progress is reported: the document stays searchable, and its status does not change.
        indexed = self._index(generation, document, lease, lambda status, done, total: lease.require())
        self.ledger.rebuilds.finish(job, indexed.chunks, indexed.terms, indexed.sample)
        self.sampled.learn(generation.id, indexed.sample)

    def _index(self, generation: Generation, document: Document, lease: Lease, report: Report) -> _Indexed:
        """Write all chunks of a document's version to a generation; return what the ledger needs to know of them."""
        embedder = self._embedder_of(generation)
        report(DocumentStatus.PARSING, 0, document.bytes)
        blocks = self._parse(document, lease)
        chunks = chunk_blocks(blocks, generation.chunking, embedder.count_tokens, embedder.max_tokens)
        if not chunks:
            raise DocumentError("no-text", "No text was found in this document.")
        writer = _Writer(embedder, document, self.sampled.known(generation.id))
        for start in range(0, len(chunks), self.batch):
            report(DocumentStatus.EMBEDDING, start, len(chunks))
            rows = writer.rows(chunks[start : start + self.batch])
            lease.require()
            self.store.upsert(generation.collection, rows)
        report(DocumentStatus.INDEXING, len(chunks), len(chunks))
        self._verify(generation, document, len(chunks), lease)
        CHUNKS.inc(len(chunks))
        return _Indexed(len(chunks), writer.terms(), writer.sample())

    def _embedder_of(self, generation: Generation) -> Embedder:
        """Return the embedder of a generation; for a retired model, the one in its place.

        Until its rebuild ends, searches in such a generation read the words alone, so these vectors mix with nothing.
        """
        embedder = self.embedders.get(present_model(generation.embedding_model))
        if embedder.dimension != generation.dimension:
            raise DocumentError(
                "dimension-mismatch",
                f"The model {generation.embedding_model} gives vectors of {embedder.dimension} numbers; "
                f"the knowledge base was built with {generation.dimension}.",
            )
        return embedder

    def _parse(self, document: Document, lease: Lease) -> list[Block]:
        try:
            with self.originals.open_file(document.sha256) as path:
                return self.parsers.parse(path, document.name, cancelled=lease.lost)
        except NotFound as exc:
            raise DocumentError(exc.code, exc.detail) from exc
        except ParseCancelled as exc:
            raise LeaseLost("cancelled while parsing") from exc

    def _verify(self, generation: Generation, document: Document, expected: int, lease: Lease) -> None:
        """Raise `Unavailable` unless exactly `expected` chunks are stored. An earlier attempt may have left more."""
        count = self.store.count(generation.collection, document.id, document.version)
        if count == expected:
            return
        if count > expected:
            lease.require()
            self.store.delete(generation.collection, document.id, document.version)
        raise Unavailable("chunks-incomplete", f"{expected} chunks were written, but {count} were found.")

    # Removals

    def _remove_chunks(self, job: Job, lease: Lease) -> None:
        present = set(self.store.collections())
        version = job.version if job.kind is JobKind.PURGE else None
        for collection in self.ledger.endings.collections_to_clear(job):
            if collection in present:
                lease.require()  # the version may have been retried, and may be live by now
                self.store.delete(collection, str(job.document_id), version)

    def _retire(self, job: Job) -> None:
        with contextlib.suppress(NotFound):
            base = self.ledger.bases.get_by_id(job.knowledge_base_id)
            if not base.deleting:
                self.store.point_alias(base.name, base.live.collection)
            self.store.drop(self.ledger.rebuilds.target(job).collection)
        self.ledger.rebuilds.finish_retire(job)

    def remove_originals(self, released: Sequence[str]) -> None:
        """Remove the originals in `released` (their sha256) that no version names."""
        for sha256 in released:
            self.ledger.originals.remove_if_unreferenced(sha256, partial(self.originals.remove, sha256))


@dataclass(frozen=True, slots=True)
class _Indexed:
    """What was written: the number of chunks, their term statistics, and those that belong into the sample."""

    chunks: int
    terms: bytes
    sample: Sequence[Sampled]


class _Progress:
    """Writes progress to the ledger, at most every 0.2 s: each write is a transaction, and people see no difference."""

    def __init__(self, jobs: Jobs, job: Job) -> None:
        self._jobs = jobs
        self._job = job
        self._written_at = 0.0

    def __call__(self, status: DocumentStatus, done: int, total: int) -> None:
        if (now := time.monotonic()) - self._written_at >= PROGRESS_SECONDS:
            self._jobs.advance(self._job, status, done, total)
            self._written_at = now


class _Writer:
    """Turns the chunks of one document into rows, counts their terms, and chooses some for the sample."""

    def __init__(self, embedder: Embedder, document: Document, sampled: Mapping[int, int]) -> None:
        """`sampled` holds the hashes of the generation's sample by slot."""
        self._embedder = embedder
        self._document = document
        self._terms = TermStatistics.empty()
        self._sampler = Sampler(embedder, sampled)

    def rows(self, chunks: Sequence[Chunk]) -> list[ChunkRow]:
        """Embed chunks and return their rows. A heading is embedded with the text, because it tells the subject."""
        texts = [with_heading(chunk.heading, chunk.text) for chunk in chunks]
        vectors = self._embedder.embed_passages(texts)
        sparse = [document_vector(analyze(text)) for text in texts]
        self._terms = self._terms.add(TermStatistics.of(sparse))
        ids = [chunk_id(self._document.id, self._document.version, chunk.ordinal) for chunk in chunks]
        self._sampler.offer(ids, texts, vectors)
        return [
            ChunkRow(
                document_id=self._document.id,
                version=self._document.version,
                chunk=chunk,
                source=self._document.name,
                metadata=self._document.metadata,
                dense=vector,
                sparse=terms,
            )
            for chunk, vector, terms in zip(chunks, vectors, sparse, strict=True)
        ]

    def terms(self) -> bytes:
        """Return the term statistics of the document's chunks, as the bytes of `TermStatistics`."""
        return self._terms.to_bytes()

    def sample(self) -> Sequence[Sampled]:
        """Return the chunks that belong into the generation's sample."""
        return self._sampler.chosen()
