"""A search finds the same by Milvus's own messages and by pymilvus's public methods, on every engine."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pymilvus import MilvusClient

from tests.contract.conftest import DIMENSION, Spares
from tests.servers.milvus import ROOT_TOKEN
from tests.servers.stores import Server
from zhiwen.common.models import Chunk, Generation, Hit
from zhiwen.common.store import ChunkRow, ChunkStore
from zhiwen.common.store.milvus_messages import Messages
from zhiwen.common.store.search_calls import PublicCalls, calls_of

EXPRESSION = 'source == "手册" and metadata["年"] >= 2010'


class Renamed:
    """A `MilvusClient` of a pymilvus whose private names are others."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.client = MilvusClient(*args, **options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"MilvusClient has no {name}")
        return getattr(self.client, name)


@pytest.fixture
def filled(store: ChunkStore, spares: Spares) -> Generation:
    """A collection of 300 rows with every kind of field."""
    live = spares.take()
    vectors = np.random.default_rng(3).standard_normal((300, DIMENSION)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = [
        ChunkRow(
            f"d{n}",
            1,
            Chunk(n % 5, f'正文 {n} "引号"', f"题 {n}", n % 3 or None),
            "手册" if n % 2 else "guide.txt",
            {"年": 2000 + n % 30, "部门": {"名": ["人事", None, 0.5, True]}},
            vector,
            {7: 1 / (n + 1), 2**32 - 2: 0.25, 100 + n: 0.5},
        )
        for n, vector in enumerate(vectors)
    ]
    store.upsert(live.collection, rows)
    assert store.count(live.collection) == len(rows)
    return live


def found(store: ChunkStore, live: Generation) -> list[list[Hit]]:
    """Return the hits of every kind of search."""
    vector = np.eye(DIMENSION, dtype=np.float32)[0]
    rankings = [
        store.search_dense(live, vector, limit=50),
        store.search_dense(live, vector, limit=20, expression=EXPRESSION, strong=True),
        store.search_dense(live, vector, limit=5, expression='source == "nothing"'),
    ]
    if store.capabilities().sparse:
        rankings += [
            store.search_sparse(live, {7: 2.0, 2**32 - 2: 1.0}, limit=50),
            store.search_sparse(live, {7: 2.0}, limit=20, expression=EXPRESSION, strong=True),
        ]
    return [store.hits(live.collection, ranking) for ranking in rankings]


def test_both_ways_find_the_same_hits(
    engine: Server, store: ChunkStore, filled: Generation, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(store._connection.call(calls_of), Messages)
    expected = found(store, filled)
    monkeypatch.setattr("zhiwen.common.store.connection.MilvusClient", Renamed)
    public = ChunkStore(engine.url, token=ROOT_TOKEN, timeout=30)
    assert isinstance(public._connection.call(calls_of), PublicCalls)
    hits = found(public, filled)
    public.close()
    assert [len(part) for part in expected][:3] == [50, 20, 0]
    for one, other in zip(expected, hits, strict=True):
        assert [hit.chunk_id for hit in one] == [hit.chunk_id for hit in other]
        assert [hit.score for hit in one] == pytest.approx([hit.score for hit in other], abs=1e-6)
        assert [(hit.text, hit.heading, hit.page, hit.source, hit.metadata) for hit in one] == [
            (hit.text, hit.heading, hit.page, hit.source, hit.metadata) for hit in other
        ]
