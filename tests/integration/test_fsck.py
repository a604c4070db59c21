"""The consistency check through its routes: differences between ledger, originals and Milvus are found and mended."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest

from tests.servers.in_process_stack import DIMENSION, InProcessStack
from tests.servers.stores import wait_until
from zhiwen.common.models import Chunk
from zhiwen.common.store import ChunkRow

NOBODY = "f" * 32


@pytest.fixture
def zw(stack_on_each_ledger: InProcessStack) -> InProcessStack:
    return stack_on_each_ledger


@pytest.fixture
def kb(zw: InProcessStack) -> str:
    return zw.base()


def collection_of(zw: InProcessStack, kb: str) -> str:
    return zw.ledger.bases.get(kb).live.collection


def report(zw: InProcessStack, *, repair: bool) -> Any:
    response = zw.ingest.request("POST" if repair else "GET", "/v1/fsck")
    assert response.status_code == 200, response.text
    return response.json()


def about(entries: list[Any], collection: str) -> list[tuple[str, int, int]]:
    """(document, version, chunks) of the entries about one collection."""
    return [(e["document_id"], e["version"], e["chunks"]) for e in entries if e["collection"] == collection]


def stray(document_id: str, version: int, ordinal: int) -> ChunkRow:
    """A chunk that no job has written."""
    dense = np.eye(1, DIMENSION, dtype=np.float32)[0]
    return ChunkRow(document_id, version, Chunk(ordinal, "流浪的片段", "", None), "无主.txt", {}, dense, {7: 1.0})


def test_missing_chunks_are_found_and_indexed_again(zw: InProcessStack, kb: str) -> None:
    document = zw.add(kb, "年假.txt", "员工年假为十天。")
    collection = collection_of(zw, kb)
    zw.store.delete(collection, document["id"], 1)
    assert zw.search(kb, "员工年假为十天。") == []

    found = report(zw, repair=False)
    assert not found["clean"]
    assert about(found["missing"], collection) == [(document["id"], 1, 1)]
    assert zw.store.count(collection, document["id"], 1) == 0  # looking changes nothing

    report(zw, repair=True)
    wait_until(lambda: about(report(zw, repair=False)["missing"], collection) == [], 30, "the chunk is still missing")
    wait_until(lambda: zw.store.count(collection, document["id"], 1) == 1, 30, "the chunk is not written")
    assert [hit["document_id"] for hit in zw.search(kb, "员工年假为十天。")] == [document["id"]]


def test_chunks_that_nobody_owns_are_found_and_removed(zw: InProcessStack, kb: str) -> None:
    document = zw.add(kb, "年假.txt", "员工年假为十天。")
    collection = collection_of(zw, kb)
    zw.store.upsert(collection, [stray(NOBODY, 1, 0), stray(document["id"], 9, 0)])

    found = report(zw, repair=False)
    assert sorted(about(found["orphaned"], collection)) == sorted([(NOBODY, 1, 1), (document["id"], 9, 1)])
    assert "流浪的片段" not in {hit["text"] for hit in zw.search(kb, "流浪的片段")}  # though it stands in Milvus

    report(zw, repair=True)
    assert [zw.store.count(collection, NOBODY, 1), zw.store.count(collection, document["id"], 9)] == [0, 0]
    assert zw.store.count(collection, document["id"], 1) == 1


def test_originals_that_nobody_names_are_found_and_removed(zw: InProcessStack, kb: str) -> None:
    kept = zw.add(kb, "年假.txt", "员工年假为十一天。")["sha256"]
    stray_bytes = b"nobody names these bytes"
    sha256 = hashlib.sha256(stray_bytes).hexdigest()
    path = zw.data_dir / "stray"
    path.write_bytes(stray_bytes)
    zw.originals.put(sha256, path)

    assert sha256 in report(zw, repair=False)["orphaned_originals"]
    report(zw, repair=True)
    assert not zw.originals.exists(sha256)
    assert zw.originals.exists(kept)


def test_original_that_is_lost_is_named(zw: InProcessStack, kb: str) -> None:
    sha256 = zw.add(kb, "丢失.txt", "原件会丢失。")["sha256"]
    zw.originals.remove(sha256)
    found = report(zw, repair=False)
    assert not found["clean"]
    assert found["missing_originals"] == [sha256]
