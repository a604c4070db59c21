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

from tests.servers.process_stack import LEASE_SECONDS, ProcessStack, process_stack, prose

HUNDRED = {f"{number}.txt": f"第{number}号文件。Document number {number}.".encode() for number in range(100)}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessStack]:
    with process_stack(tmp_path_factory.mktemp("outages"), settings={"MILVUS_TIMEOUT": "4"}) as stack:
        yield stack


@pytest.fixture
def kb(stack: ProcessStack) -> Iterator[str]:
    """A knowledge base, dropped when the test has passed."""
    name = stack.base()
    yield name
    stack.http.delete(f"/v1/knowledge-bases/{name}")


def test_broker_emptied_while_a_hundred_jobs_wait_loses_none(stack: ProcessStack, kb: str) -> None:
    stack.freeze_worker()
    stack.upload(kb, HUNDRED)
    stack.redis_client().flushall()
    stack.worker.thaw()
    stack.all_ready(kb)
    assert all(len(chunks) == 1 for chunks in stack.chunk_sets(kb).values())
    stack.clean()


def test_uploads_are_acknowledged_while_broker_and_milvus_are_away(stack: ProcessStack, kb: str) -> None:
    stack.redis.kill()
    stack.milvus.kill()
    impatient = [threading.Thread(target=lambda: stack.http.get("/readyz")) for _ in range(20)]
    for thread in impatient:
        thread.start()
    started = time.monotonic()
    stack.upload(kb, {"a.txt": b"Away with the broker."})
    took = time.monotonic() - started
    assert took < 10, took
    for thread in impatient:
        thread.join()
    assert stack.http.get("/readyz").status_code == 503
    stack.redis.start()
    stack.milvus.start()
    stack.all_ready(kb)
    stack.wait_for(lambda: stack.http.get("/readyz").status_code == 200, "ready again")
    stack.clean()


def test_frozen_milvus_holds_up_indexing_but_no_client(stack: ProcessStack, kb: str) -> None:
    id = stack.upload(kb, {"long.txt": prose(400, "frozen")})["long.txt"]
    stack.wait_for(lambda: stack.status(kb, id) == "embedding", "embedding")
    stack.milvus.freeze()
    slowest = 0.0
    until = time.monotonic() + 6  # longer than a call to Milvus may take
    while time.monotonic() < until:
        started = time.monotonic()
        stack.upload(kb, {"small.txt": f"{started}".encode()})
        stack.documents(kb)
        slowest = max(slowest, time.monotonic() - started)
    stack.milvus.thaw()
    print(f"slowest upload and listing while Milvus stood still: {slowest:.2f} s")
    assert slowest < 5
    stack.all_ready(kb)
    assert len(stack.chunks(kb, id)) == stack.written(kb, id) > 700
    stack.clean()


@pytest.mark.parametrize("meanwhile", ["nothing", "deleted"])
def test_late_worker_writes_nothing_that_stays(stack: ProcessStack, kb: str, meanwhile: str) -> None:
    other = stack.another_worker("other")
    text = prose(300, meanwhile)
    stack.freeze_worker()
    id = stack.upload(kb, {"late.txt": text})["late.txt"]
    stack.run_worker_until(lambda: stack.written(kb, id) > 0)
    try:
        other.start()  # it takes over once the lease is over
        document = stack.all_ready(kb)["late.txt"]
        assert document["attempts"] == 2
        if meanwhile == "deleted":
            stack.http.delete(f"/v1/knowledge-bases/{kb}/documents/{id}")
        stack.idle()
        before = stack.chunk_sets(kb)
        stack.worker.thaw()
        time.sleep(2 * LEASE_SECONDS)  # nothing may happen, which cannot be waited for
        stack.idle()
        assert stack.chunk_sets(kb) == before
        stack.clean()
    finally:
        other.kill()
        stack.worker.thaw()


def test_worker_that_is_told_to_stop_finishes_all_it_has_in_hand(tmp_path: Path) -> None:
    with process_stack(tmp_path, settings={"WORKER_CONCURRENCY": "1"}) as stack:
        kb = stack.base()
        # One is done by the thread that is woken, the other by the one that looks for work by itself.
        ids = stack.upload(kb, {"a.txt": prose(300, "a"), "b.txt": prose(1500, "b")}).values()
        stack.wait_for(lambda: all(stack.written(kb, id) > 0 for id in ids), "both half indexed")
        stack.worker.stop()
        assert [stack.status(kb, id) for id in ids] == ["ready", "ready"]


def test_upload_cut_by_the_death_of_the_api_leaves_nothing(stack: ProcessStack, kb: str) -> None:
    with socket.create_connection(("127.0.0.1", stack.port)) as client:
        path = f"/v1/knowledge-bases/{httpx.URL(kb)}/documents/by-name/cut.txt"
        client.sendall(f"PUT {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4000000\r\n\r\n".encode())
        client.sendall(b"x" * 2_000_000)
        stack.wait_for(lambda: any((stack.data / "incoming").rglob("0")), "bytes arriving")
        stack.api.kill()
    stack.api.start()
    assert stack.documents(kb) == {}
    stack.wait_for(lambda: not list((stack.data / "incoming").iterdir()), "what the dead API had received removed")
    stack.upload(kb, {"cut.txt": b"whole"})
    stack.all_ready(kb)
    stack.clean()


def test_original_of_an_upload_that_was_never_recorded_is_removed(stack: ProcessStack, kb: str) -> None:
    kept = {path.name for path in stack.originals()}
    with ledger_locked(stack), socket.create_connection(("127.0.0.1", stack.port)) as client:
        path = f"/v1/knowledge-bases/{httpx.URL(kb)}/documents/by-name/orphan.txt"
        client.sendall(f"PUT {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nan orphan".encode())
        time.sleep(1)
        stack.api.kill()
    stack.api.start()
    assert stack.documents(kb) == {}
    stack.clean()
    assert {path.name for path in stack.originals()} <= kept


@contextlib.contextmanager
def ledger_locked(stack: ProcessStack) -> Iterator[None]:
    """Hold SQLite's write lock."""
    with contextlib.closing(sqlite3.connect(stack.data / "ledger.db", timeout=20, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")
