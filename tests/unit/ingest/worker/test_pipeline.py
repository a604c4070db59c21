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
from zhiwen.common.settings import BUILT_IN_MODEL
from zhiwen.common.store import ChunkRow, ChunkStore
from zhiwen.ingest.parsing import ParseCancelled, ParserPool
from zhiwen.ingest.worker.leases import Lease
from zhiwen.ingest.worker.pipeline import Pipeline

MODEL = BUILT_IN_MODEL
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
    """The built-in embedder, which remembers the texts that it embeds."""

    def __init__(self, embedder: StaticEmbedder) -> None:
        self.embedder = embedder
        self.model, self.dimension = MODEL, embedder.dimension
        self.max_tokens = embedder.max_tokens
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
    """A lease that records when it is checked."""

    events: list[str] = field(default_factory=list)

    def require(self) -> None:
        self.events.append("require")
        Lease.require(self)


@dataclass
class Setup:
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
def setup(ledger: Ledger, static: StaticEmbedder, tmp_path: Path) -> Setup:
    events: list[str] = []
    base = new_base(ledger, generation=generation("kb_live", static.dimension))
    store = MemoryStore(events)
    store.rows[base.live.collection] = {}
    originals = DiskOriginals(tmp_path / "originals")
    return Setup(ledger, base, store, originals, Remembering(static), FixedBlocks(BLOCKS), events, tmp_path)


def generation(collection: str, dimension: int) -> NewGeneration:
    return NewGeneration(collection, MODEL, dimension, IndexSpec(), ChunkingSpec(40, 0))


def test_generation_of_a_retired_model_is_filled_by_the_present_one(setup: Setup) -> None:
    old = replace(generation("kb_old", setup.embedder.dimension), embedding_model="zhiwen-static-v1")
    setup.base = new_base(setup.ledger, "旧", generation=old)
    setup.upload()
    setup.run(JobKind.INGEST)
    assert len(setup.store.rows["kb_old"]) == 2
    assert setup.embedder.texts


def pages(count: int) -> list[Block]:
    """Return blocks that make as many chunks: none reaches over the end of a page."""
    return [Block(f"第{number}条规定。", page=number + 1) for number in range(count)]


# Indexing


def test_document_is_parsed_chunked_embedded_and_made_live(setup: Setup) -> None:
    id = setup.upload()
    setup.run(JobKind.INGEST)
    assert setup.parsers.names == ["制度.md"]
    assert [(row.chunk.ordinal, row.chunk.text, row.chunk.heading, row.chunk.page) for row in setup.rows()] == [
        (0, "年假\n员工年假为十天。", "请假制度 > 年假", 1),
        (1, "病假\n病假需要医生证明。", "请假制度 > 病假", 2),
    ]
    assert {(row.document_id, row.version, row.source) for row in setup.rows()} == {(id, 1, "制度.md")}
    assert [row.metadata for row in setup.rows()] == [{"部门": "人事"}] * 2
    document = setup.ledger.documents.get(setup.base.id, id)
    assert (document.status, document.live_version, document.chunks) == (DocumentStatus.READY, 1, 2)
    assert setup.ledger.jobs.waiting() == 0


def test_text_is_embedded_and_its_words_are_counted_with_its_heading(setup: Setup) -> None:
    id = setup.upload()
    setup.run(JobKind.INGEST)
    texts = ["请假制度 > 年假\n年假\n员工年假为十天。", "请假制度 > 病假\n病假\n病假需要医生证明。"]
    assert setup.embedder.texts == texts
    for row, text, vector in zip(setup.rows(), texts, setup.embedder.embed_queries(texts), strict=True):
        assert np.allclose(row.dense, vector)
        assert np.isclose(np.linalg.norm(row.dense), 1.0)
        assert row.sparse == document_vector(analyze(text))
    terms = setup.ledger.documents.terms(setup.base.live.id, [id])[id, 1]
    counted = TermStatistics.of([document_vector(analyze(text)) for text in texts])
    assert terms == counted.to_bytes()


@pytest.mark.parametrize("chunks", [1, BATCH, BATCH + 1, 3 * BATCH - 1])
def test_chunks_are_embedded_and_written_in_batches(setup: Setup, chunks: int) -> None:
    setup.parsers.blocks = pages(chunks)
    setup.upload()
    setup.run(JobKind.INGEST)
    full, rest = divmod(chunks, BATCH)
    assert setup.store.batches == [BATCH] * full + [rest] * (rest > 0)
    assert [row.chunk.ordinal for row in setup.rows()] == list(range(chunks))
    assert len(setup.embedder.texts) == chunks


def test_lease_is_asked_for_right_before_each_write(setup: Setup) -> None:
    setup.parsers.blocks = pages(2 * BATCH + 1)
    setup.upload()
    setup.run(JobKind.INGEST)
    assert setup.events == ["require", "upsert"] * 3


def test_work_that_is_done_again_ends_in_the_same_rows(setup: Setup) -> None:
    id = setup.upload()
    job, lease = setup.claimed(JobKind.INGEST)
    setup.store.written = lambda: setup.ledger.endings.put_off(job, RETRY_NOW, "test", "Test.")
    with pytest.raises(LeaseLost):
        setup.pipeline.run(job, lease)
    assert setup.status(id) == (DocumentStatus.QUEUED, None)
    first, setup.store.written = setup.rows(), nothing
    setup.run(JobKind.INGEST)
    assert [row.chunk for row in setup.rows()] == [row.chunk for row in first]
    assert setup.status(id) == (DocumentStatus.READY, 1)


# A lease that is lost


@pytest.mark.parametrize("batches", [0, 1, 2])
def test_worker_that_has_lost_its_lease_writes_nothing_more(setup: Setup, batches: int) -> None:
    setup.parsers.blocks = pages(3 * BATCH)
    id = setup.upload()
    job, lease = setup.claimed(JobKind.INGEST)

    def lose() -> None:
        if len(setup.store.batches) == batches:
            setup.clock.pass_by(LEASE)

    setup.store.written = lose
    lose()
    with pytest.raises(LeaseLost):
        setup.pipeline.run(job, lease)
    assert len(setup.rows()) == batches * BATCH
    assert setup.status(id)[1] is None


def test_cancel_ends_the_work_before_the_next_batch(setup: Setup) -> None:
    setup.parsers.blocks = pages(3 * BATCH)
    id = setup.upload()
    job, lease = setup.claimed(JobKind.INGEST)
    setup.store.written = lease.mark_lost  # as the lease keeper does once the ledger says so
    with pytest.raises(LeaseLost):
        setup.pipeline.run(job, lease)
    assert setup.store.batches == [BATCH]
    assert setup.status(id)[1] is None


def test_cancel_ends_the_parsing(setup: Setup) -> None:
    setup.upload()
    job, lease = setup.claimed(JobKind.INGEST)
    lease.mark_lost()
    with pytest.raises(LeaseLost):
        setup.pipeline.run(job, lease)
    assert (setup.parsers.names, setup.embedder.texts, setup.events) == (["制度.md"], [], [])


def test_cancel_that_no_worker_has_heard_of_still_wins(setup: Setup) -> None:
    id = setup.upload()
    job, lease = setup.claimed(JobKind.INGEST)
    setup.store.written = lambda: setup.ledger.documents.cancel(setup.base.id, id)
    with pytest.raises(LeaseLost):
        setup.pipeline.run(job, lease)
    assert setup.status(id) == (DocumentStatus.CANCELLED, None)


# What goes wrong


@contextmanager
def fails(error: type[ServiceError], code: str) -> Iterator[None]:
    with pytest.raises(ServiceError) as caught:
        yield
    assert type(caught.value) is error
    assert caught.value.code == code


@pytest.mark.parametrize("blocks", [[], [Block(" \n\t")]], ids=["none", "blank"])
def test_document_without_text_is_an_error_of_the_document(setup: Setup, blocks: list[Block]) -> None:
    setup.parsers.blocks = blocks
    setup.upload()
    with fails(DocumentError, "no-text"):
        setup.run(JobKind.INGEST)
    assert setup.events == []


def test_lost_original_is_an_error_of_the_document(setup: Setup) -> None:
    add(setup.ledger, setup.base)
    with fails(DocumentError, "original-missing"):
        setup.run(JobKind.INGEST)


def test_model_of_another_dimension_is_an_error_of_the_document(setup: Setup) -> None:
    setup.embedder.dimension = 7
    setup.upload()
    with fails(DocumentError, "dimension-mismatch"):
        setup.run(JobKind.INGEST)
    assert (setup.parsers.names, setup.events) == ([], [])


def test_chunks_that_milvus_lost_are_missed_before_the_document_is_ready(setup: Setup) -> None:
    id = setup.upload()
    setup.store.written = setup.store.rows["kb_live"].popitem
    with fails(Unavailable, "chunks-incomplete"):
        setup.run(JobKind.INGEST)
    assert setup.status(id)[1] is None


def test_chunks_that_an_earlier_attempt_left_are_removed(setup: Setup) -> None:
    setup.parsers.blocks = pages(3)
    id = setup.upload()
    job, lease = setup.claimed(JobKind.INGEST)
    setup.store.written = lambda: setup.ledger.endings.put_off(job, RETRY_NOW, "test", "Test.")
    with pytest.raises(LeaseLost):
        setup.pipeline.run(job, lease)
    setup.parsers.blocks, setup.store.written = pages(1), nothing
    with fails(Unavailable, "chunks-incomplete"):
        setup.run(JobKind.INGEST)
    assert setup.rows() == []
    assert setup.writes_without_lease() == []
    assert setup.status(id)[1] is None


# Rebuilds


def rebuilding(setup: Setup) -> Generation:
    """Index one document and begin a rebuild; return the generation that is built."""
    setup.upload()
    setup.run(JobKind.INGEST)
    base = setup.ledger.rebuilds.begin(setup.base, generation("kb_new", setup.embedder.dimension))
    assert base.building is not None
    setup.store.rows["kb_new"] = {}
    setup.events.clear()
    return base.building


def test_rebuild_fills_the_new_collection_and_leaves_the_old_one(setup: Setup) -> None:
    rebuilding(setup)
    setup.run(JobKind.REBUILD)
    assert [row.chunk for row in setup.rows("kb_new")] == [row.chunk for row in setup.rows("kb_live")]
    assert setup.writes_without_lease() == []
    assert setup.ledger.bases.get(setup.base.name).live.collection == "kb_new"


def test_rebuild_of_a_version_that_is_gone_writes_nothing(setup: Setup) -> None:
    rebuilding(setup)
    setup.upload(b"another")
    index(setup.ledger, setup.base)
    setup.run(JobKind.PURGE)
    setup.events.clear()
    assert setup.run(JobKind.REBUILD).version == 1
    assert (setup.events, setup.rows("kb_new")) == ([], [])
    assert setup.run(JobKind.REBUILD).version == 2
    assert {row.version for row in setup.rows("kb_new")} == {2}


def test_rebuild_without_its_lease_writes_nothing(setup: Setup) -> None:
    rebuilding(setup)
    job, lease = setup.claimed(JobKind.REBUILD)
    setup.clock.pass_by(LEASE)
    with pytest.raises(LeaseLost):
        setup.pipeline.run(job, lease)
    assert (setup.rows("kb_new"), setup.events) == ([], ["require"])


# Removals


def test_delete_removes_chunks_and_original(setup: Setup) -> None:
    id = setup.upload()
    setup.run(JobKind.INGEST)
    setup.ledger.documents.begin_delete(setup.base.id, id)
    setup.run(JobKind.DELETE)
    assert (setup.rows(), list(setup.originals.list())) == ([], [])
    assert setup.status(id) == (DocumentStatus.DELETED, None)
    assert setup.writes_without_lease() == []


def test_purge_removes_the_version_that_was_replaced(setup: Setup) -> None:
    id = setup.upload(b"one")
    setup.run(JobKind.INGEST)
    setup.upload(b"two")
    setup.run(JobKind.INGEST)
    assert {row.version for row in setup.rows()} == {1, 2}
    setup.run(JobKind.PURGE)
    assert {row.version for row in setup.rows()} == {2}
    assert list(setup.originals.list()) == [setup.ledger.documents.get(setup.base.id, id).sha256]
    assert setup.writes_without_lease() == []


def test_original_that_another_document_names_is_kept(setup: Setup) -> None:
    id = setup.upload(b"one")
    setup.run(JobKind.INGEST)
    record(setup.ledger, setup.base, an_upload("另一个.md", b"one"))
    setup.ledger.documents.begin_delete(setup.base.id, id)
    setup.run(JobKind.DELETE)
    assert len(list(setup.originals.list())) == 1


def test_drop_removes_collections_originals_and_rows(setup: Setup) -> None:
    rebuilding(setup)
    setup.ledger.bases.begin_drop(setup.base.name)
    setup.run(JobKind.DROP)
    assert (setup.store.collections(), list(setup.originals.list())) == ([], [])
    with pytest.raises(NotFound):
        setup.ledger.bases.get_by_id(setup.base.id)


def test_retired_generation_loses_its_collection_and_the_alias_moves(setup: Setup) -> None:
    rebuilding(setup)
    setup.ledger.rebuilds.cancel(setup.base)
    setup.run(JobKind.RETIRE)
    assert setup.store.collections() == ["kb_live"]
    assert setup.store.aliases_made == {setup.base.name: "kb_live"}
