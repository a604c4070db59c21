"""Outages that are no plain kill: an emptied broker, frozen processes, an upload cut in the middle, lost removals."""

from __future__ import annotations

import contextlib
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.servers.process_stack import LEASE_SECONDS, Rig, prose, running_rig

HUNDRED = {f"{number}.txt": f"第{number}号文件。Document number {number}.".encode() for number in range(100)}


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with running_rig(tmp_path_factory.mktemp("outages"), settings={"MILVUS_TIMEOUT": "4"}) as rig:
        yield rig


@pytest.fixture
def kb(rig: Rig) -> Iterator[str]:
    """A knowledge base, dropped when the test has passed."""
    name = rig.base()
    yield name
    rig.http.delete(f"/v1/knowledge-bases/{name}")


def test_broker_emptied_while_a_hundred_jobs_wait_loses_none(rig: Rig, kb: str) -> None:
    rig.freeze_worker()
    rig.upload(kb, HUNDRED)
    rig.redis_client().flushall()
    rig.worker.thaw()
    rig.all_ready(kb)
    assert all(len(chunks) == 1 for chunks in rig.chunk_sets(kb).values())
    rig.clean()


def test_uploads_are_acknowledged_while_broker_and_milvus_are_away(rig: Rig, kb: str) -> None:
    rig.redis.kill()
    rig.milvus.kill()
    impatient = [threading.Thread(target=lambda: rig.http.get("/readyz")) for _ in range(20)]
    for thread in impatient:
        thread.start()
    started = time.monotonic()
    rig.upload(kb, {"a.txt": b"Away with the broker."})
    took = time.monotonic() - started
    assert took < 10, took
    for thread in impatient:
        thread.join()
    assert rig.http.get("/readyz").status_code == 503
    rig.redis.start()
    rig.milvus.start()
    rig.all_ready(kb)
    rig.wait_for(lambda: rig.http.get("/readyz").status_code == 200, "ready again")
    rig.clean()


def test_frozen_milvus_holds_up_indexing_but_no_client(rig: Rig, kb: str) -> None:
    id = rig.upload(kb, {"long.txt": prose(400, "frozen")})["long.txt"]
    rig.wait_for(lambda: rig.status(kb, id) == "embedding", "embedding")
    rig.milvus.freeze()
    slowest = 0.0
    until = time.monotonic() + 6  # longer than a call to Milvus may take
    while time.monotonic() < until:
        started = time.monotonic()
        rig.upload(kb, {"small.txt": f"{started}".encode()})
        rig.documents(kb)
        slowest = max(slowest, time.monotonic() - started)
    rig.milvus.thaw()
    print(f"slowest upload and listing while Milvus stood still: {slowest:.2f} s")
    assert slowest < 5
    rig.all_ready(kb)
    assert len(rig.chunks(kb, id)) == rig.written(kb, id) > 700
    rig.clean()


@pytest.mark.parametrize("meanwhile", ["nothing", "deleted"])
def test_late_worker_writes_nothing_that_stays(rig: Rig, kb: str, meanwhile: str) -> None:
    other = rig.another_worker("other")
    text = prose(300, meanwhile)
    rig.freeze_worker()
    id = rig.upload(kb, {"late.txt": text})["late.txt"]
    rig.run_worker_until(lambda: rig.written(kb, id) > 0)
    try:
        other.start()  # it takes over once the lease is over
        document = rig.all_ready(kb)["late.txt"]
        assert document["attempts"] == 2
        if meanwhile == "deleted":
            rig.http.delete(f"/v1/knowledge-bases/{kb}/documents/{id}")
        rig.idle()
        before = rig.chunk_sets(kb)
        rig.worker.thaw()
        time.sleep(2 * LEASE_SECONDS)  # nothing may happen, which cannot be waited for
        rig.idle()
        assert rig.chunk_sets(kb) == before
        rig.clean()
    finally:
        other.kill()
        rig.worker.thaw()


def test_worker_that_is_told_to_stop_finishes_all_it_has_in_hand(tmp_path: Path) -> None:
    with running_rig(tmp_path, settings={"WORKER_CONCURRENCY": "1"}) as rig:
        kb = rig.base()
        # One is done by the thread that is woken, the other by the one that looks for work by itself.
        ids = rig.upload(kb, {"a.txt": prose(300, "a"), "b.txt": prose(1500, "b")}).values()
        rig.wait_for(lambda: all(rig.written(kb, id) > 0 for id in ids), "both half indexed")
        rig.worker.stop()
        assert [rig.status(kb, id) for id in ids] == ["ready", "ready"]


def test_upload_cut_by_the_death_of_the_api_leaves_nothing(rig: Rig, kb: str) -> None:
    with socket.create_connection(("127.0.0.1", rig.port)) as client:
        path = f"/v1/knowledge-bases/{httpx.URL(kb)}/documents/by-name/cut.txt"
        client.sendall(f"PUT {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4000000\r\n\r\n".encode())
        client.sendall(b"x" * 2_000_000)
        rig.wait_for(lambda: any((rig.data / "incoming").rglob("0")), "bytes arriving")
        rig.api.kill()
    rig.api.start()
    assert rig.documents(kb) == {}
    rig.wait_for(lambda: not list((rig.data / "incoming").iterdir()), "what the dead API had received removed")
    rig.upload(kb, {"cut.txt": b"whole"})
    rig.all_ready(kb)
    rig.clean()


def test_original_of_an_upload_that_was_never_recorded_is_removed(rig: Rig, kb: str) -> None:
    kept = {path.name for path in rig.originals()}
    with ledger_locked(rig), socket.create_connection(("127.0.0.1", rig.port)) as client:
        path = f"/v1/knowledge-bases/{httpx.URL(kb)}/documents/by-name/orphan.txt"
        client.sendall(f"PUT {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nan orphan".encode())
        time.sleep(1)
        rig.api.kill()
    rig.api.start()
    assert rig.documents(kb) == {}
    rig.clean()
    assert {path.name for path in rig.originals()} <= kept


@contextlib.contextmanager
def ledger_locked(rig: Rig) -> Iterator[None]:
    """Hold SQLite's write lock."""
    with contextlib.closing(sqlite3.connect(rig.data / "ledger.db", timeout=20, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")
