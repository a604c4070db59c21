"""The services as real processes: a test may freeze, kill and start each of them again."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import redis
import sqlalchemy as sa

from tests.servers.stores import Server, free_port, milvus_lite_server, redis_server_in, running, wait_until
from zhiwen.cli.supervisor import answers_http
from zhiwen.common.ledger import Ledger, open_ledger
from zhiwen.common.models import DocumentStatus
from zhiwen.common.store import ChunkStore

LEASE_SECONDS = 2
SETTLED = {status.value for status in DocumentStatus if status.settled}

Chunk = tuple[int, str]
"""Ordinal and text."""


@dataclass
class ProcessStack:
    """Redis, Milvus Lite, the ingest API and a worker, on fixed addresses, and the query API `with_query`."""

    folder: Path
    database_url: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    with_query: bool = False

    def __post_init__(self) -> None:
        self.logs = self.folder / "logs"
        self.data = self.folder / "data"
        for path in (self.logs, self.data, self.folder / "milvus", self.folder / "redis"):
            path.mkdir(parents=True, exist_ok=True)
        self.redis = redis_server_in(self.folder / "redis")
        self.milvus = milvus_lite_server(self.folder / "milvus")
        self.redis.log, self.milvus.log = self.logs / "redis.log", self.logs / "milvus.log"
        self.ledger_url = self.database_url or f"sqlite:///{self.data / 'ledger.db'}"
        self.port, self.query_port = free_port(), free_port()
        self.api = self._service("ingest", "ingest.api.app", self.port, "/healthz", {"INGEST_PORT": str(self.port)})
        self.query = self._service(
            "query", "query.api.app", self.query_port, "/healthz", {"QUERY_PORT": f"{self.query_port}"}
        )
        self.worker = self.another_worker("worker")
        self.http = httpx.Client(base_url=self.api.url, timeout=60)
        self.ledger: Ledger = open_ledger(self.ledger_url)
        self.store = ChunkStore(self.milvus.url, timeout=10)

    def another_worker(self, name: str) -> Server:
        """Return another worker, which is not started yet."""
        port = free_port()
        return self._service(name, "ingest.worker.main", port, "/metrics", {"WORKER_METRICS_PORT": str(port)})

    def another_api(self, name: str, settings: Mapping[str, str]) -> Server:
        """Return another ingest API on the same stores, with settings of its own. It is not started yet."""
        port = free_port()
        return self._service(name, "ingest.api.app", port, "/healthz", {"INGEST_PORT": str(port), **settings})

    @staticmethod
    def client_of(server: Server) -> httpx.Client:
        """Return a client of a service."""
        return httpx.Client(base_url=server.url, timeout=60)

    def redis_client(self) -> redis.Redis:
        """Return a client of the broker."""
        return redis.Redis(unix_socket_path=self.redis.url.removeprefix("unix://"))

    def originals(self) -> list[Path]:
        """Return the files of the originals on disk."""
        return [path for path in (self.data / "originals").rglob("*") if path.is_file()]

    def _service(self, name: str, module: str, port: int, ready: str, more: Mapping[str, str]) -> Server:
        url = f"http://127.0.0.1:{port}"
        ours = {
            "DATA_DIR": str(self.data),
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis.url,
            "MILVUS_URL": self.milvus.url,
            "LEASE_SECONDS": str(LEASE_SECONDS),
            "RECONCILE_SECONDS": "0.5",
            **self.settings,
            **more,
        }
        clean = {key: value for key, value in os.environ.items() if not key.startswith("ZHIWEN_")}
        return Server(
            url=url,
            command=[sys.executable, "-c", f"from zhiwen.{module} import main; main()"],
            ready=lambda: answers_http(url + ready),
            environment={**clean, **{f"ZHIWEN_{key}": value for key, value in ours.items()}},
            log=self.logs / f"{name}.log",
        )

    @contextlib.contextmanager
    def running(self) -> Iterator[ProcessStack]:
        """Run all processes for the length of the block. SIGKILL ends them, which all of them must survive."""
        services = [self.api, self.worker, *([self.query] if self.with_query else [])]
        try:
            self.redis.start()
            self.milvus.start()
            self.ledger.database.migrate()
            for server in services:
                server.launch()
            for server in services:
                server.wait_ready()
            yield self
        finally:
            for server in (*services, self.redis, self.milvus):
                server.kill()
            self.http.close()
            self.store.close()
            self.ledger.close()

    # What a client does

    def base(self, **body: Any) -> str:
        """Create a knowledge base with a name of its own, by default with many small chunks; return its name."""
        name = f"库-{uuid.uuid4().hex[:8]}"
        body = {"chunking": {"size": 32, "overlap": 4}, **body}
        response = self.http.post("/v1/knowledge-bases", json={"name": name, **body})
        assert response.status_code == 201, response.text
        return name

    def upload(self, kb: str, files: Mapping[str, bytes]) -> dict[str, str]:
        """Upload files in one request; return the document's id by name. All must be acknowledged."""
        form = [("file", (name, content)) for name, content in files.items()]
        response = self.http.post(f"/v1/knowledge-bases/{kb}/documents", files=form)
        assert response.status_code == 202, response.text
        items = response.json()["items"]
        assert all(item["id"] for item in items), items
        return {item["name"]: item["id"] for item in items}

    def get(self, kb: str, path: str = "") -> Any:
        """GET below a knowledge base; return the JSON."""
        response = self.http.get(f"/v1/knowledge-bases/{kb}{path}")
        assert response.status_code == 200, response.text
        return response.json()

    def document(self, kb: str, id: str) -> Any:
        """Return one document."""
        return self.get(kb, f"/documents/{id}")

    def documents(self, kb: str) -> dict[str, Any]:
        """Return all documents by name."""
        items: list[Any] = []
        cursor = ""
        while True:
            page = self.get(kb, f"/documents?limit=200{cursor}")
            items += page["items"]
            if page["next_cursor"] is None:
                return {item["name"]: item for item in items}
            cursor = f"&cursor={page['next_cursor']}"

    def chunks(self, kb: str, id: str) -> list[Chunk]:
        """Return what the route of chunks shows, in order; ids must be those of the live version."""
        live = self.document(kb, id)["live_version"]
        shown: list[Chunk] = []
        cursor = ""
        while True:
            page = self.get(kb, f"/documents/{id}/chunks?limit=500{cursor}")
            for item in page["items"]:
                assert item["chunk_id"] == f"{id}:{live}:{item['ordinal']}"
                shown.append((item["ordinal"], item["text"]))
            if page["next_cursor"] is None:
                return shown
            cursor = f"&cursor={page['next_cursor']}"

    def chunk_sets(self, kb: str) -> dict[str, list[Chunk]]:
        """Return the chunks of every document by name."""
        return {name: self.chunks(kb, document["id"]) for name, document in self.documents(kb).items()}

    def search(self, kb: str, query: str, **more: Any) -> list[Any]:
        """Ask the query API; return the hits."""
        body = {"query": query, "mode": "full_text", **more}
        response = httpx.post(f"{self.query.url}/v1/knowledge-bases/{kb}/search", json=body, timeout=60)
        assert response.status_code == 200, response.text
        return list(response.json()["hits"])

    # What a test looks at

    def settle(self, kb: str, seconds: float = 45.0) -> dict[str, Any]:
        """Wait until all documents are settled; return them by name."""
        shown: dict[str, Any] = {}

        def settled() -> bool:
            nonlocal shown
            shown = self.documents(kb)
            return all(document["status"] in SETTLED for document in shown.values())

        self._wait(settled, seconds, lambda: f"not settled: { {n: d['progress'] for n, d in shown.items()} }")
        return shown

    def all_ready(self, kb: str, seconds: float = 45.0) -> dict[str, Any]:
        """Wait until all documents are settled, which must be as `ready`."""
        shown = self.settle(kb, seconds)
        wrong = {name: document["error"] for name, document in shown.items() if document["status"] != "ready"}
        assert not wrong, wrong
        return shown

    def idle(self, seconds: float = 30.0) -> None:
        """Wait until no job is left."""
        self._wait(lambda: self.ledger.jobs.waiting() == 0, seconds, lambda: f"{self.ledger.jobs.waiting()} jobs left")

    def clean(self, seconds: float = 20.0) -> dict[str, Any]:
        """Wait until fsck finds ledger, originals and Milvus to agree, with no document busy; return its report."""
        report: dict[str, Any] = {}

        def clean() -> bool:
            nonlocal report
            response = self.http.get("/v1/fsck")
            report = response.json()
            return response.status_code == 200 and report["clean"] and report["skipped_busy"] == 0

        self._wait(clean, seconds, lambda: f"fsck: {report}")
        return report

    def wait_for(self, condition: Callable[[], bool], what: str, seconds: float = 45.0) -> None:
        """Wait until something holds."""
        self._wait(condition, seconds, lambda: f"never: {what}")

    @staticmethod
    def _wait(condition: Callable[[], bool], seconds: float, otherwise: Callable[[], str]) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                pytest.fail(f"after {seconds:g} s: {otherwise()}")
            time.sleep(0.05)

    def status(self, kb: str, id: str) -> str:
        """Return a document's status, straight from the ledger."""
        return self.ledger.documents.get(self.ledger.bases.get(kb).id, id).status.value

    def written(self, kb: str, id: str, version: int = 1) -> int:
        """Return how many chunks of a version stand in Milvus, live or not."""
        base = self.ledger.bases.get(kb)
        return self.store.count(base.live.collection, id, version)

    # What a test does to processes

    def parser_children(self) -> list[psutil.Process]:
        """Return the worker's parser children."""
        children = psutil.Process(self.worker.pid).children()
        return [child for child in children if "zhiwen.ingest.parsing.runtime.child" in child.cmdline()]

    def freeze_worker(self) -> None:
        """Stop the worker at a moment when it does not hold the ledger's write lock, which others need."""
        deadline = time.monotonic() + 20
        while True:
            self.worker.freeze()
            if self.ledger_is_free():
                return
            assert time.monotonic() < deadline, "the worker holds the ledger all the time"
            self.worker.thaw()
            time.sleep(0.005)

    def ledger_is_free(self) -> bool:
        """True when no process holds SQLite's write lock; PostgreSQL has none."""
        if self.database_url:
            return True
        with contextlib.closing(sqlite3.connect(self.data / "ledger.db", timeout=0.2, isolation_level=None)) as c:
            try:
                c.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return False
            c.execute("ROLLBACK")
        return True

    def run_worker_until(self, reached: Callable[[], bool], seconds: float = 40.0) -> None:
        """Let the frozen worker run until `reached()` holds, and freeze it again right then."""
        deadline = time.monotonic() + seconds
        self.worker.thaw()
        while not reached():
            assert time.monotonic() < deadline, "the worker never got there"
            time.sleep(0.001)
        self.freeze_worker()

    def step_worker_until(self, reached: Callable[[], bool], step: float = 0.004, seconds: float = 60.0) -> None:
        """Let the frozen worker run for `step` seconds at a time until `reached()` holds; it stays frozen."""
        deadline = time.monotonic() + seconds
        while not reached():
            assert time.monotonic() < deadline, "the worker never got there"
            self.worker.thaw()
            time.sleep(step)
            self.freeze_worker()

    def run_worker_to_its_commit(self, reached: Callable[[], bool], seconds: float = 60.0) -> None:
        """Let the frozen worker run until `reached()` holds and freeze it before it can write that to the ledger.

        The ledger is kept locked, but for moments, in which other writes may pass; in one of them the worker may slip
        through and commit, so ask for the status.
        """
        deadline = time.monotonic() + seconds
        self.worker.thaw()
        while True:
            with self.ledger_locked():
                held_until = time.monotonic() + 0.15
                while time.monotonic() < held_until:
                    if reached():
                        self.worker.freeze()
                        return
                    time.sleep(0.001)
            assert time.monotonic() < deadline, "the worker never got there"
            time.sleep(0.03)

    @contextlib.contextmanager
    def ledger_locked(self) -> Iterator[None]:
        """Keep all others from writing jobs to the ledger during the block; they can read."""
        with self.ledger.database.write() as connection:
            if self.database_url:
                connection.execute(sa.text("LOCK TABLE jobs IN EXCLUSIVE MODE"))
            yield


@contextlib.contextmanager
def process_stack(folder: Path, **options: Any) -> Iterator[ProcessStack]:
    """Run a stack for the length of the block."""
    with ProcessStack(folder, **options).running() as stack:
        yield stack


def prose(sentences: int, seed: str = "") -> bytes:
    """Return Chinese and English text, the same for the same arguments, of about one chunk a sentence."""
    lines = []
    for number in range(sentences):
        word = hashlib.sha256(f"{seed}{number}".encode()).hexdigest()[:8]
        lines.append(f"第{number}条规定,编号为{word}的设备每三个月由值班人员检查一次,并把结果记在登记簿上。")
        if number % 10 == 9:
            lines.append(f"Section {word} ends here; the next one is about other machines.\n")
    return "\n".join(lines).encode()


__all__ = ["LEASE_SECONDS", "Chunk", "ProcessStack", "Server", "process_stack", "prose", "running", "wait_until"]
