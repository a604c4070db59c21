"""What `zhiwen kb recall` measures, on every engine and index: FLAT finds all, the others nearly all."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.contract.conftest import Indexed, Spares
from zhiwen.common.store import ChunkStore
from zhiwen.common.store.index_specs import BUILD
from zhiwen.query.search.recall import measure_recall

LOSSY = {"IVF_PQ": 0.3, "SCANN": 0.6}


@pytest.mark.parametrize("index_type", BUILD)
def test_recall_of_each_index(store: ChunkStore, indexed: Indexed, index_type: str) -> None:
    if index_type not in store.capabilities().index_types:
        assert (index_type, "COSINE") not in indexed
        return
    found = measure_recall(store, indexed[index_type, "COSINE"], queries=20, k=10)
    assert (found.chunks, found.queries, found.k) == (Indexed.ROWS, 20, 10)
    assert LOSSY.get(index_type, 0.75) <= found.recall <= 1.0
    assert found.recall == 1.0 or index_type not in {"FLAT", "AUTOINDEX"}
    assert 0 < found.p50_ms <= found.p99_ms


def test_more_lists_find_no_less(store: ChunkStore, indexed: Indexed) -> None:
    made = indexed["IVF_FLAT", "L2"]
    all_lists = replace(made, index=replace(made.index, search={"nprobe": made.index.params["nlist"]}))
    assert measure_recall(store, all_lists, queries=20, k=10).recall == 1.0


def test_recall_of_nothing(store: ChunkStore, spares: Spares) -> None:
    assert measure_recall(store, spares.take(), queries=20, k=10).queries == 0
