"""All services in the process of the tests: both APIs on real sockets, a worker in threads, real stores behind them.

Vectors come from `HashEmbedder`, so that no model is loaded; everything else is what production runs.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from tests.servers.ledgers import unique
from zhiwen.common.embedding.fake import HashEmbedder
from zhiwen.common.embedding.registry import Embedders
from zhiwen.common.ledger import Ledger, open_ledger
from zhiwen.common.originals import DiskOriginals
from zhiwen.common.store import ChunkStore
from zhiwen.ingest.api.app import create_app as create_ingest
from zhiwen.ingest.parsing import ParserPool
from zhiwen.ingest.settings import IngestSettings
from zhiwen.ingest.worker.broker import Broker, make_celery, redis_url_for_celery
from zhiwen.ingest.worker.leases import LeaseKeeper
from zhiwen.ingest.worker.loop import Worker
from zhiwen.ingest.worker.pipeline import Pipeline
from zhiwen.query.api.app import create_app as create_query
from zhiwen.query.settings import QuerySettings

DIMENSION = 384  # the built-in model's, which new knowledge bases get
SECONDS = 60.0
SETTLED = {"ready", "failed", "cancelled", "deleted"}


def hash_embedders() -> Embedders:
    """Return embedders that load nothing."""
    return Embedders(lambda _model: HashEmbedder(DIMENSION, 254))


@contextlib.contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """Serve an application on a free port of 127.0.0.1; yield its address."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, timeout_graceful_shutdown=2)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="served", daemon=True)
    thread.start()
    deadline = time.monotonic() + SECONDS
    while not server.started:
        assert thread.is_alive(), "the application did not start"
        assert time.monotonic() < deadline, "the application did not start in time"
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)


@dataclass(frozen=True)
class Event:
    """A server-sent event."""

    name: str
    data: Any


def events_of(response: httpx.Response) -> Iterator[Event]:
    """Yield the events of a streamed response as they come."""
    name = ""
    for line in response.iter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield Event(name, json.loads(line.removeprefix("data: ")))


@dataclass
class InProcessStack:
    """The running services, and what clients do with them."""

    data_dir: Path
    ingest: httpx.Client
    query: httpx.Client
    ledger: Ledger
    store: ChunkStore
    originals: DiskOriginals
    worker: Worker

    def base(self, **body: Any) -> str:
        """Create a knowledge base with a name of its own and return the name."""
        name = unique("手册")
        response = self.ingest.post("/v1/knowledge-bases", json={"name": name, **body})
        assert response.status_code == 201, response.text
        return name

    def upload(self, kb: str, files: Mapping[str, bytes | str], **fields: str) -> list[dict[str, Any]]:
        """Upload files and return their items."""
        response = self.ingest.post(
            f"/v1/knowledge-bases/{kb}/documents",
            files=[("file", (name, content)) for name, content in files.items()],
            data=fields,
        )
        assert response.status_code == 202, response.text
        items: list[dict[str, Any]] = response.json()["items"]
        return items

    def document(self, kb: str, id: str) -> dict[str, Any]:
        """Return a document."""
        response = self.ingest.get(f"/v1/knowledge-bases/{kb}/documents/{id}")
        assert response.status_code == 200, response.text
        document: dict[str, Any] = response.json()
        return document

    def settled(self, kb: str, id: str) -> dict[str, Any]:
        """Wait until nothing more happens to a document and return it."""
        deadline = time.monotonic() + SECONDS
        while (document := self.document(kb, id))["status"] not in SETTLED:
            assert time.monotonic() < deadline, f"still {document['status']}"
            time.sleep(0.02)
        return document

    def add(self, kb: str, name: str, content: bytes | str, **fields: str) -> dict[str, Any]:
        """Upload one file and wait until it is ready."""
        item = self.upload(kb, {name: content}, **fields)[0]
        assert item["outcome"] in {"created", "replaced"}, item
        document = self.settled(kb, item["id"])
        assert document["status"] == "ready", document
        return document

    def search(self, kb: str, query: str, **body: Any) -> list[dict[str, Any]]:
        """Search and return the hits."""
        response = self.query.post(f"/v1/knowledge-bases/{kb}/search", json={"query": query, **body})
        assert response.status_code == 200, response.text
        hits: list[dict[str, Any]] = response.json()["hits"]
        return hits

    def ask(self, kb: str, question: str, **body: Any) -> httpx.Response:
        """Ask and return the response, whatever it is."""
        return self.query.post(f"/v1/knowledge-bases/{kb}/ask", json={"question": question, **body})

    def ask_streamed(self, kb: str, question: str, **body: Any) -> list[Event]:
        """Ask with `stream` and return all events."""
        payload = {"question": question, "stream": True, **body}
        with self.query.stream("POST", f"/v1/knowledge-bases/{kb}/ask", json=payload) as response:
            assert response.status_code == 200, response.read()
            return list(events_of(response))

    @contextlib.contextmanager
    def resting(self) -> Iterator[None]:
        """Keep the worker from claiming anything during the block."""
        self.worker.stopping.set()
        try:
            yield
        finally:
            self.worker.stopping.clear()


@contextlib.contextmanager
def in_process_stack(
    data_dir: Path,
    *,
    milvus_url: str,
    redis_url: str,
    database_url: str = "",
    gateway_url: str = "http://127.0.0.1:9",
    settings: Mapping[str, Any] | None = None,
    workers: int = 2,
    embedders: Callable[[], Embedders] = hash_embedders,
) -> Iterator[InProcessStack]:
    """Run all services for the length of the block.

    `data_dir` holds the ledger, unless `database_url` names another one, and the originals. `settings` go to both APIs.
    `gateway_url` is where the query API finds a model; by default nothing listens there. `workers` is the number of
    worker threads, and `embedders` returns what embeds.
    """
    common = {
        "data_dir": data_dir,
        "database_url": database_url,
        "milvus_url": milvus_url,
        "redis_url": redis_url,
        "milvus_timeout": 10,
        **(settings or {}),
    }
    ingest_settings = IngestSettings(**common)
    ledger = open_ledger(ingest_settings.ledger_url)
    ledger.database.migrate()
    store = ChunkStore(milvus_url, timeout=10)
    originals = DiskOriginals(Path(ingest_settings.originals_location))
    parsers = ParserPool(1)
    worker = Worker(
        ledger=ledger,
        pipeline=Pipeline(ledger, store, originals, embedders(), parsers),
        leases=LeaseKeeper(ledger.jobs, 30.0),
        broker=Broker(make_celery(redis_url_for_celery(redis_url))),
        owner=unique("worker"),
        lease_seconds=30.0,
        stopping=threading.Event(),
    )
    ended = threading.Event()
    threads = [threading.Thread(target=_work, args=(worker, ended), name="worker") for _ in range(workers)]
    query = create_query(QuerySettings(**common, gateway_url=gateway_url), embedders=embedders())
    with (
        served(create_ingest(ingest_settings)) as ingest_url,
        served(query) as query_url,
        httpx.Client(base_url=ingest_url, timeout=SECONDS) as ingest_client,
        httpx.Client(base_url=query_url, timeout=SECONDS) as query_client,
    ):
        for thread in threads:
            thread.start()
        try:
            yield InProcessStack(data_dir, ingest_client, query_client, ledger, store, originals, worker)
        finally:
            ended.set()
            for thread in threads:
                thread.join(20)
            worker.close()
    store.close()
    ledger.close()


def _work(worker: Worker, ended: threading.Event) -> None:
    while not ended.is_set():
        if not worker.work():
            ended.wait(0.05)


def problem_of(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Check that a response is problem+json with this status and code, and return it."""
    body: dict[str, Any] = response.json()
    assert (response.status_code, body.get("code")) == (status, code), response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["x-request-id"]
    assert set(body) - {"errors"} == {"type", "title", "status", "detail", "code", "instance"}
    assert body["status"] == status
    return body


def texts(hits: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the texts of hits."""
    return [str(hit["text"]) for hit in hits]
