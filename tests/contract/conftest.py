"""The stores that the contracts are held against, each in its own process."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.servers.ledgers import Clock, empty_ledger, ledger_on
from tests.servers.milvus import ROOT_TOKEN, milvus_lite_3_server, milvus_server
from tests.servers.stores import Server, milvus_lite_server, new_database, running
from zhiwen.common.ledger import Ledger
from zhiwen.common.models import Chunk, ChunkingSpec, Generation, IndexSpec
from zhiwen.common.store import ChunkRow, ChunkStore
from zhiwen.common.store.index_specs import METRICS, validated_index

DIMENSION = 8
ENGINES: Mapping[str, Callable[[Path], Server]] = {
    "milvus-lite": milvus_lite_server,
    "milvus-lite-3": milvus_lite_3_server,
    "milvus-2.3.5": milvus_server,
}
# What an engine is known not to do: the test is expected to fail there, and says so when it no longer does.
CANNOT: Mapping[tuple[str, str], str] = {
    ("milvus-lite-3", "test_keys_lists_every_row_once_past_any_page"): "returns a page of a query in no order",
}


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A migrated database on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('ledger') / 'ledger.db'}"
    else:
        url = new_database(request.getfixturevalue("postgres_url"), "contract")
    ledger = ledger_on(url)
    ledger.database.migrate()
    ledger.close()
    return url


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(ledger_url: str, clock: Clock) -> Iterator[Ledger]:
    """An empty ledger whose time stands still."""
    ledger = ledger_on(ledger_url, clock)
    empty_ledger(ledger)
    yield ledger
    ledger.close()


@pytest.fixture
def own_ledger(tmp_path: Path, clock: Clock) -> Iterator[Ledger]:
    """An empty ledger on SQLite, where it is about the engine."""
    ledger = ledger_on(f"sqlite:///{tmp_path / 'ledger.db'}", clock)
    ledger.database.migrate()
    yield ledger
    ledger.close()


@pytest.fixture(scope="session", params=ENGINES)
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A running engine."""
    with running(ENGINES[request.param](tmp_path_factory.mktemp("engine"))) as server:
        yield server
        server.kill()


@pytest.fixture(autouse=True)
def _expect_what_the_engine_cannot_do(request: pytest.FixtureRequest) -> None:
    if "engine" in request.fixturenames:
        engine = request.node.callspec.params["engine"]
        if reason := CANNOT.get((engine, request.node.originalname)):
            request.applymarker(pytest.mark.xfail(reason=f"{engine} {reason}", strict=True))


@pytest.fixture(scope="session")
def store(engine: Server) -> Iterator[ChunkStore]:
    store = ChunkStore(engine.url, token=ROOT_TOKEN, timeout=30)
    yield store
    store.close()


@pytest.fixture
def sparse(store: ChunkStore) -> None:
    """Only for engines with sparse vectors; what the others answer has a test of its own."""
    if not store.capabilities().sparse:
        pytest.xfail(f"Milvus {store.capabilities().version} has no sparse vectors")


def generation(index: IndexSpec = IndexSpec("FLAT"), dimension: int = DIMENSION) -> Generation:
    """Return a generation with a collection of its own."""
    return Generation(1, "base", f"kb_{uuid.uuid4().hex}_1", "hash", dimension, index, ChunkingSpec())


class Spares:
    """Empty collections, made in advance: a real server takes two seconds for one, and as long for eight."""

    def __init__(self, store: ChunkStore, pool: ThreadPoolExecutor, ahead: int = 8) -> None:
        self._store = store
        self._pool = pool
        self._coming: list[Future[Generation]] = [pool.submit(self._make) for _ in range(ahead)]
        self._taken: list[Generation] = []

    def _make(self) -> Generation:
        made = generation()
        self._store.create(made.collection, made.dimension, made.index)
        return made

    def take(self) -> Generation:
        self._coming.append(self._pool.submit(self._make))
        self._taken.append(self._coming.pop(0).result())
        return self._taken[-1]

    def drop(self) -> None:
        for made in [*self._taken, *(future.result() for future in self._coming)]:
            self._store.drop(made.collection)


class Indexed:
    """A collection for each index type and metric that the engine has, filled with the same rows, flushed."""

    ROWS = 400

    def __init__(self, store: ChunkStore, pool: ThreadPoolExecutor) -> None:
        self._store = store
        vectors = np.random.default_rng(7).standard_normal((self.ROWS, DIMENSION)).astype(np.float32)
        self.vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        self._made = {
            (index_type, metric): pool.submit(self._make, index_type, metric)
            for index_type in sorted(store.capabilities().index_types)
            for metric in METRICS
        }

    def spec(self, index_type: str, metric: str) -> IndexSpec:
        """Return the index with its defaults. Raises what `validated_index` raises."""
        params = {"m": 4} if index_type == "IVF_PQ" else {}
        available = self._store.capabilities().index_types
        return validated_index(IndexSpec(index_type, metric, params), dimension=DIMENSION, available=available)

    def _make(self, index_type: str, metric: str) -> Generation:
        made = generation(self.spec(index_type, metric))
        self._store.create(made.collection, DIMENSION, made.index)
        rows = [ChunkRow(f"d{n}", 1, Chunk(0, f"{n}", "", None), "s", {}, v, {}) for n, v in enumerate(self.vectors)]
        self._store.upsert(made.collection, rows)
        self._store.flush(made.collection)
        return made

    def __contains__(self, index: tuple[str, str]) -> bool:
        return index in self._made

    def __getitem__(self, index: tuple[str, str]) -> Generation:
        return self._made[index].result()

    def drop(self) -> None:
        for made in self._made.values():
            self._store.drop(made.result().collection)


@pytest.fixture(scope="session")
def pool(store: ChunkStore) -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


@pytest.fixture(scope="session")
def spares(store: ChunkStore, pool: ThreadPoolExecutor) -> Iterator[Spares]:
    spares = Spares(store, pool)
    yield spares
    spares.drop()


@pytest.fixture(scope="session")
def indexed(store: ChunkStore, pool: ThreadPoolExecutor) -> Iterator[Indexed]:
    indexed = Indexed(store, pool)
    yield indexed
    indexed.drop()
