"""The pipeline: what is embedded and written, and that a worker writes only while it holds its lease.

The ledger is on SQLite, Milvus and the parsers are in memory, and the embedder is the built-in one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.servers.ledgers import LEASE, Clock, add, an_upload, claim, index, new_base, record
from zhiwen.common.embedding.base import Embedder
from zhiwen.common.embedding.registry import Embedders
from zhiwen.common.embedding.static import StaticEmbedder
from zhiwen.common.errors import DocumentError, NotFound, ServiceError, Unavailable
from zhiwen.common.ledger import LeaseLost, Ledger, NewGeneration, Retry
from zhiwen.common.lexical.analysis import analyze
from zhiwen.common.lexical.bm25 import document_vector
from zhiwen.common.lexical.statistics import TermStatistics
from zhiwen.common.models import (
    Block,
    ChunkingSpec,
    DocumentStatus,
    Generation,
    IndexSpec,
    Job,
    JobKind,
    KnowledgeBase,
    chunk_id,
)
from zhiwen.common.originals import DiskOriginals
from zhiwen.common.store import ChunkRow, ChunkStore
from zhiwen.ingest.parsing import ParseCancelled, ParserPool
from zhiwen.ingest.worker.leases import Lease
from zhiwen.ingest.worker.pipeline import Pipeline

MODEL = "zhiwen-static-v1"
BATCH = 3
RETRY_NOW = Retry(seconds=0.0, attempts=0, waits=1)
BLOCKS = [
    Block("年假", kind="heading"),
    Block("员工年假为十天。", heading=("请假制度", "年假"), page=1),
    Block("病假", kind="heading"),
    Block("病假需要医生证明。", heading=("请假制度", "病假"), page=2),
]


def nothing() -> None:
    pass


class MemoryStore(ChunkStore):
    """Collections in memory. `written` is called after each upsert; `events` gets the name of each write."""

    def __init__(self, events: list[str]) -> None:
        self.rows: dict[str, dict[str, ChunkRow]] = defaultdict(dict)
        self.events = events
        self.batches: list[int] = []
        self.aliases_made: dict[str, str] = {}
        self.written: Callable[[], object] = nothing

    def collections(self) -> list[str]:
        return sorted(self.rows)

    def upsert(self, collection: str, rows: Sequence[ChunkRow]) -> None:
        self.events.append("upsert")
        self.batches.append(len(rows))
        for row in rows:
            self.rows[collection][chunk_id(row.document_id, row.version, row.chunk.ordinal)] = row
        self.written()

    def count(self, collection: str, document_id: str | None = None, version: int | None = None) -> int:
        return len(self._of(collection, document_id, version))

    def delete(self, collection: str, document_id: str, version: int | None = None) -> None:
        self.events.append("delete")
        for id in self._of(collection, document_id, version):
            del self.rows[collection][id]

    def _of(self, collection: str, document_id: str | None, version: int | None) -> list[str]:
        return [
            id
            for id, row in self.rows[collection].items()
            if document_id in {None, row.document_id} and version in {None, row.version}
        ]

    def drop(self, collection: str) -> None:
        self.events.append("drop")
        self.rows.pop(collection, None)

    def point_alias(self, name: str, collection: str) -> None:
        self.aliases_made[name] = collection


class FixedBlocks(ParserPool):
    """Parsers that find the same blocks in every file, unless the document is cancelled before."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        self.blocks = list(blocks)
        self.names: list[str] = []

    def parse(self, path: Path, name: str, cancelled: Callable[[], bool] = lambda: False) -> list[Block]:
        assert path.exists()
        self.names.append(name)
        if cancelled():
            raise ParseCancelled
        return self.blocks


class Remembering:
    """The built-in embedder, which remembers what it was to embed."""

    def __init__(self, embedder: StaticEmbedder) -> None:
        self.embedder = embedder
        self.model, self.dimension = MODEL, embedder.dimension
        self.max_tokens, self.fusion_weight = embedder.max_tokens, embedder.fusion_weight
        self.texts: list[str] = []

    def embed_passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.texts += texts
        return self.embedder.embed_passages(texts)

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self.embedder.embed_queries(texts)

    def count_tokens(self, text: str) -> int:
        return self.embedder.count_tokens(text)


@dataclass(slots=True)
class WatchedLease(Lease):
    """A lease that notes when it was asked for."""

    events: list[str] = field(default_factory=list)

    def require(self) -> None:
        self.events.append("require")
        Lease.require(self)


@dataclass
class Workshop:
    """A pipeline, what it writes to, and a clock that only tests move."""

    ledger: Ledger
    base: KnowledgeBase
    store: MemoryStore
    originals: DiskOriginals
    embedder: Remembering
    parsers: FixedBlocks
    events: list[str]
    folder: Path
    clock: Clock = field(default_factory=Clock)

    @property
    def pipeline(self) -> Pipeline:
        return Pipeline(self.ledger, self.store, self.originals, Embedders(self._embedder), self.parsers, batch=BATCH)

    def _embedder(self, model: str) -> Embedder:
        assert model == MODEL
        return self.embedder

    def upload(self, content: bytes = b"text") -> str:
        """Keep and record an upload; return its document's id."""
        upload = replace(an_upload("制度.md", content), metadata={"部门": "人事"})
        path = self.folder / "staged"
        path.write_bytes(content)
        self.originals.put(upload.sha256, path)
        return record(self.ledger, self.base, upload).document.id

    def claimed(self, kind: JobKind) -> tuple[Job, WatchedLease]:
        """Claim the next job, which must be of a kind, with a lease on it."""
        job = claim(self.ledger)
        assert job.kind is kind
        return job, WatchedLease(job, self.clock() + LEASE, self.clock, events=self.events)

    def run(self, kind: JobKind) -> Job:
        """Claim the next job, which must be of a kind, and do it."""
        job, lease = self.claimed(kind)
        self.pipeline.run(job, lease)
        return job

    def rows(self, collection: str | None = None) -> list[ChunkRow]:
        """Return the rows of a collection, the live one by default, in order."""
        rows = self.store.rows[collection or self.base.live.collection].values()
        return sorted(rows, key=lambda row: (row.version, row.chunk.ordinal))

    def status(self, id: str) -> tuple[DocumentStatus, int | None]:
        document = self.ledger.documents.get(self.base.id, id)
        return document.status, document.live_version

    def writes_without_lease(self) -> list[str]:
        """Return the writes before which the lease was not asked for."""
        return [event for before, event in zip(["", *self.events], self.events, strict=False) if is_bare(before, event)]


def is_bare(before: str, event: str) -> bool:
    return event in {"upsert", "delete"} and before != "require"


@pytest.fixture(scope="module")
def static() -> StaticEmbedder:
    return StaticEmbedder()


@pytest.fixture
def shop(ledger: Ledger, static: StaticEmbedder, tmp_path: Path) -> Workshop:
    events: list[str] = []
    base = new_base(ledger, generation=generation("kb_live", static.dimension))
    store = MemoryStore(events)
    store.rows[base.live.collection] = {}
    originals = DiskOriginals(tmp_path / "originals")
    return Workshop(ledger, base, store, originals, Remembering(static), FixedBlocks(BLOCKS), events, tmp_path)


def generation(collection: str, dimension: int) -> NewGeneration:
    return NewGeneration(collection, MODEL, dimension, IndexSpec(), ChunkingSpec(40, 0))


def pages(count: int) -> list[Block]:
    """Return blocks that make as many chunks: none reaches over the end of a page."""
    return [Block(f"第{number}条规定。", page=number + 1) for number in range(count)]


# Indexing


def test_document_is_parsed_chunked_embedded_and_made_live(shop: Workshop) -> None:
    id = shop.upload()
    shop.run(JobKind.INGEST)
    assert shop.parsers.names == ["制度.md"]
    assert [(row.chunk.ordinal, row.chunk.text, row.chunk.heading, row.chunk.page) for row in shop.rows()] == [
        (0, "年假\n员工年假为十天。", "请假制度 > 年假", 1),
        (1, "病假\n病假需要医生证明。", "请假制度 > 病假", 2),
    ]
    assert {(row.document_id, row.version, row.source) for row in shop.rows()} == {(id, 1, "制度.md")}
    assert [row.metadata for row in shop.rows()] == [{"部门": "人事"}] * 2
    document = shop.ledger.documents.get(shop.base.id, id)
    assert (document.status, document.live_version, document.chunks) == (DocumentStatus.READY, 1, 2)
    assert shop.ledger.jobs.waiting() == 0


def test_text_is_embedded_and_its_words_are_counted_with_its_heading(shop: Workshop) -> None:
    id = shop.upload()
    shop.run(JobKind.INGEST)
    texts = ["请假制度 > 年假\n年假\n员工年假为十天。", "请假制度 > 病假\n病假\n病假需要医生证明。"]
    assert shop.embedder.texts == texts
    for row, text, vector in zip(shop.rows(), texts, shop.embedder.embed_queries(texts), strict=True):
        assert np.allclose(row.dense, vector)
        assert np.isclose(np.linalg.norm(row.dense), 1.0)
        assert row.sparse == document_vector(analyze(text))
    terms = shop.ledger.documents.terms(shop.base.live.id, [id])[id, 1]
    counted = TermStatistics.of([document_vector(analyze(text)) for text in texts])
    assert terms == counted.to_bytes()


@pytest.mark.parametrize("chunks", [1, BATCH, BATCH + 1, 3 * BATCH - 1])
def test_chunks_are_embedded_and_written_in_batches(shop: Workshop, chunks: int) -> None:
    shop.parsers.blocks = pages(chunks)
    shop.upload()
    shop.run(JobKind.INGEST)
    full, rest = divmod(chunks, BATCH)
    assert shop.store.batches == [BATCH] * full + [rest] * (rest > 0)
    assert [row.chunk.ordinal for row in shop.rows()] == list(range(chunks))
    assert len(shop.embedder.texts) == chunks


def test_lease_is_asked_for_right_before_each_write(shop: Workshop) -> None:
    shop.parsers.blocks = pages(2 * BATCH + 1)
    shop.upload()
    shop.run(JobKind.INGEST)
    assert shop.events == ["require", "upsert"] * 3


def test_work_that_is_done_again_ends_in_the_same_rows(shop: Workshop) -> None:
    id = shop.upload()
    job, lease = shop.claimed(JobKind.INGEST)
    shop.store.written = lambda: shop.ledger.endings.put_off(job, RETRY_NOW, "test", "Test.")
    with pytest.raises(LeaseLost):
        shop.pipeline.run(job, lease)
    assert shop.status(id) == (DocumentStatus.QUEUED, None)
    first, shop.store.written = shop.rows(), nothing
    shop.run(JobKind.INGEST)
    assert [row.chunk for row in shop.rows()] == [row.chunk for row in first]
    assert shop.status(id) == (DocumentStatus.READY, 1)


# A lease that is lost


@pytest.mark.parametrize("batches", [0, 1, 2])
def test_worker_that_has_lost_its_lease_writes_nothing_more(shop: Workshop, batches: int) -> None:
    shop.parsers.blocks = pages(3 * BATCH)
    id = shop.upload()
    job, lease = shop.claimed(JobKind.INGEST)

    def lose() -> None:
        if len(shop.store.batches) == batches:
            shop.clock.pass_by(LEASE)

    shop.store.written = lose
    lose()
    with pytest.raises(LeaseLost):
        shop.pipeline.run(job, lease)
    assert len(shop.rows()) == batches * BATCH
    assert shop.status(id)[1] is None


def test_cancel_ends_the_work_before_the_next_batch(shop: Workshop) -> None:
    shop.parsers.blocks = pages(3 * BATCH)
    id = shop.upload()
    job, lease = shop.claimed(JobKind.INGEST)
    shop.store.written = lease.mark_lost  # as the lease keeper does once the ledger says so
    with pytest.raises(LeaseLost):
        shop.pipeline.run(job, lease)
    assert shop.store.batches == [BATCH]
    assert shop.status(id)[1] is None


def test_cancel_ends_the_parsing(shop: Workshop) -> None:
    shop.upload()
    job, lease = shop.claimed(JobKind.INGEST)
    lease.mark_lost()
    with pytest.raises(LeaseLost):
        shop.pipeline.run(job, lease)
    assert (shop.parsers.names, shop.embedder.texts, shop.events) == (["制度.md"], [], [])


def test_cancel_that_no_worker_has_heard_of_still_wins(shop: Workshop) -> None:
    id = shop.upload()
    job, lease = shop.claimed(JobKind.INGEST)
    shop.store.written = lambda: shop.ledger.documents.cancel(shop.base.id, id)
    with pytest.raises(LeaseLost):
        shop.pipeline.run(job, lease)
    assert shop.status(id) == (DocumentStatus.CANCELLED, None)


# What goes wrong


@contextmanager
def fails(error: type[ServiceError], code: str) -> Iterator[None]:
    with pytest.raises(ServiceError) as caught:
        yield
    assert type(caught.value) is error
    assert caught.value.code == code


@pytest.mark.parametrize("blocks", [[], [Block(" \n\t")]], ids=["none", "blank"])
def test_document_without_text_is_an_error_of_the_document(shop: Workshop, blocks: list[Block]) -> None:
    shop.parsers.blocks = blocks
    shop.upload()
    with fails(DocumentError, "no-text"):
        shop.run(JobKind.INGEST)
    assert shop.events == []


def test_lost_original_is_an_error_of_the_document(shop: Workshop) -> None:
    add(shop.ledger, shop.base)
    with fails(DocumentError, "original-missing"):
        shop.run(JobKind.INGEST)


def test_model_of_another_dimension_is_an_error_of_the_document(shop: Workshop) -> None:
    shop.embedder.dimension = 7
    shop.upload()
    with fails(DocumentError, "dimension-mismatch"):
        shop.run(JobKind.INGEST)
    assert (shop.parsers.names, shop.events) == ([], [])


def test_chunks_that_milvus_lost_are_missed_before_the_document_is_ready(shop: Workshop) -> None:
    id = shop.upload()
    shop.store.written = shop.store.rows["kb_live"].popitem
    with fails(Unavailable, "chunks-incomplete"):
        shop.run(JobKind.INGEST)
    assert shop.status(id)[1] is None


def test_chunks_that_an_earlier_attempt_left_are_removed(shop: Workshop) -> None:
    shop.parsers.blocks = pages(3)
    id = shop.upload()
    job, lease = shop.claimed(JobKind.INGEST)
    shop.store.written = lambda: shop.ledger.endings.put_off(job, RETRY_NOW, "test", "Test.")
    with pytest.raises(LeaseLost):
        shop.pipeline.run(job, lease)
    shop.parsers.blocks, shop.store.written = pages(1), nothing
    with fails(Unavailable, "chunks-incomplete"):
        shop.run(JobKind.INGEST)
    assert shop.rows() == []
    assert shop.writes_without_lease() == []
    assert shop.status(id)[1] is None


# Rebuilds


def rebuilding(shop: Workshop) -> Generation:
    """Index one document and begin a rebuild; return the generation that is built."""
    shop.upload()
    shop.run(JobKind.INGEST)
    base = shop.ledger.rebuilds.begin(shop.base, generation("kb_new", shop.embedder.dimension))
    assert base.building is not None
    shop.store.rows["kb_new"] = {}
    shop.events.clear()
    return base.building


def test_rebuild_fills_the_new_collection_and_leaves_the_old_one(shop: Workshop) -> None:
    rebuilding(shop)
    shop.run(JobKind.REBUILD)
    assert [row.chunk for row in shop.rows("kb_new")] == [row.chunk for row in shop.rows("kb_live")]
    assert shop.writes_without_lease() == []
    assert shop.ledger.bases.get(shop.base.name).live.collection == "kb_new"


def test_rebuild_of_a_version_that_is_gone_writes_nothing(shop: Workshop) -> None:
    rebuilding(shop)
    shop.upload(b"another")
    index(shop.ledger, shop.base)
    shop.run(JobKind.PURGE)
    shop.events.clear()
    assert shop.run(JobKind.REBUILD).version == 1
    assert (shop.events, shop.rows("kb_new")) == ([], [])
    assert shop.run(JobKind.REBUILD).version == 2
    assert {row.version for row in shop.rows("kb_new")} == {2}


def test_rebuild_without_its_lease_writes_nothing(shop: Workshop) -> None:
    rebuilding(shop)
    job, lease = shop.claimed(JobKind.REBUILD)
    shop.clock.pass_by(LEASE)
    with pytest.raises(LeaseLost):
        shop.pipeline.run(job, lease)
    assert (shop.rows("kb_new"), shop.events) == ([], ["require"])


# Removals


def test_delete_removes_chunks_and_original(shop: Workshop) -> None:
    id = shop.upload()
    shop.run(JobKind.INGEST)
    shop.ledger.documents.begin_delete(shop.base.id, id)
    shop.run(JobKind.DELETE)
    assert (shop.rows(), list(shop.originals.list())) == ([], [])
    assert shop.status(id) == (DocumentStatus.DELETED, None)
    assert shop.writes_without_lease() == []


def test_purge_removes_the_version_that_was_replaced(shop: Workshop) -> None:
    id = shop.upload(b"one")
    shop.run(JobKind.INGEST)
    shop.upload(b"two")
    shop.run(JobKind.INGEST)
    assert {row.version for row in shop.rows()} == {1, 2}
    shop.run(JobKind.PURGE)
    assert {row.version for row in shop.rows()} == {2}
    assert list(shop.originals.list()) == [shop.ledger.documents.get(shop.base.id, id).sha256]
    assert shop.writes_without_lease() == []


def test_original_that_another_document_names_is_kept(shop: Workshop) -> None:
    id = shop.upload(b"one")
    shop.run(JobKind.INGEST)
    record(shop.ledger, shop.base, an_upload("另一个.md", b"one"))
    shop.ledger.documents.begin_delete(shop.base.id, id)
    shop.run(JobKind.DELETE)
    assert len(list(shop.originals.list())) == 1


def test_drop_removes_collections_originals_and_rows(shop: Workshop) -> None:
    rebuilding(shop)
    shop.ledger.bases.begin_drop(shop.base.name)
    shop.run(JobKind.DROP)
    assert (shop.store.collections(), list(shop.originals.list())) == ([], [])
    with pytest.raises(NotFound):
        shop.ledger.bases.get_by_id(shop.base.id)


def test_retired_generation_loses_its_collection_and_the_alias_moves(shop: Workshop) -> None:
    rebuilding(shop)
    shop.ledger.rebuilds.cancel(shop.base)
    shop.run(JobKind.RETIRE)
    assert shop.store.collections() == ["kb_live"]
    assert shop.store.aliases_made == {shop.base.name: "kb_live"}
