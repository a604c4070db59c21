"""Measures a search among 10,000 chunks in the embedded default, over HTTP (`make bench-query`).

CPU times are those of the query process and of the Milvus process. The costs that are not ours are measured in this
process, in the same run and the same order: embedding the question, and the calls of the Milvus client that a search
makes. `beyond embedding and Milvus` is the rest of the query process's CPU time.

Then 64 answers are streamed from a fake model server, at the speed of a real one, while searches go on.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPConnection
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil

from bench.gateway import MODEL, STREAMS, free_port, running
from bench.ingest import WORDS_EN, WORDS_ZH, documents, ingest
from zhiwen.cli.stack import Stack
from zhiwen.common.embedding.registry import embedders_from
from zhiwen.common.ledger import open_ledger
from zhiwen.common.lexical.bm25 import query_vector
from zhiwen.common.lexical.translations import Translations
from zhiwen.common.settings import EmbeddingSettings
from zhiwen.common.store import ChunkStore
from zhiwen.query.search.retriever import SPARE
from zhiwen.query.search.statistics import CollectionStatistics
from zhiwen.query.settings import QuerySettings

CHUNKS_PER_DOCUMENT = 58
TOKEN_SECONDS = 1 / 30
"""Seconds between two tokens of a stream: the best that a model server does with 64 streams at a time."""
TOKENS = 1000
"""Tokens of an answer: so many that no stream ends while searches are measured."""


def questions(count: int, seed: int) -> list[str]:
    """Return different random questions. The same seed gives the same questions."""
    dice = random.Random(seed)
    return [
        ("".join(dice.choices(WORDS_ZH, k=4)) if n % 2 else " ".join(dice.choices(WORDS_EN, k=5))) + f" {n}?"
        for n in range(count)
    ]


def percentile(ordered: list[float], share: float) -> float:
    """Return the value at `share`, 0..1, of sorted values."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def ask_all(url: str, asked: list[str], clients: int) -> tuple[float, list[float]]:
    """Search for all questions with this many clients. Return seconds and sorted latencies in milliseconds.

    It uses the standard library's client, which needs a third of httpx's CPU time, because client and service share the
    processors.
    """
    latencies: list[float] = []
    local = threading.local()

    def one(text: str) -> None:
        connection = getattr(local, "connection", None)
        if connection is None:
            connection = local.connection = HTTPConnection(urlsplit(url).netloc, timeout=60)
        body = json.dumps({"query": text})
        started = time.perf_counter()
        connection.request("POST", "/v1/knowledge-bases/bench/search", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = response.read()
        latencies.append((time.perf_counter() - started) * 1000)
        if response.status != 200:
            raise RuntimeError(answer.decode())

    started = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(one, asked))
    return time.perf_counter() - started, sorted(latencies)


def cpu_ms(process: psutil.Process) -> float:
    """Return the CPU time of a process so far, in milliseconds."""
    times = process.cpu_times()
    return (times.user + times.system) * 1000


def process_of(stack: Stack, name: str) -> psutil.Process:
    """Return the process of one program of the stack."""
    process = next(program.process for program in stack.programs if program.name == name)
    assert process is not None
    return psutil.Process(process.pid)


def measure(stack: Stack, arguments: argparse.Namespace) -> dict[str, float | int]:
    """Load documents, search with 1 and 16 clients and beside 64 streams, and return the figures."""
    query, milvus = process_of(stack, "query"), process_of(stack, "milvus")
    with httpx.Client(base_url=stack.addresses["ingest"], timeout=600) as client:
        client.post("/v1/knowledge-bases", json={"name": "bench"}).raise_for_status()
        ingest(client, "bench", list(documents(arguments.chunks // CHUNKS_PER_DOCUMENT, 400, 7)))
        chunks = client.get("/v1/knowledge-bases/bench").raise_for_status().json()["chunks"]
    url = stack.addresses["query"]
    ask_all(url, questions(100, 1), 4)
    asked = questions(arguments.searches, 2)
    before, milvus_before = cpu_ms(query), cpu_ms(milvus)
    _, one = ask_all(url, asked, 1)
    spent, milvus_spent = ((cpu_ms(query) - before) / len(asked), (cpu_ms(milvus) - milvus_before) / len(asked))
    bare = bare_milvus(stack, asked)
    embed_ms = embedding_cpu_ms(asked)
    seconds, many = ask_all(url, questions(arguments.searches * 2, 3), 16)
    again, more = questions(arguments.searches, 4), questions(arguments.searches, 5)
    _, alone = ask_all(url, again, 1)
    with streaming(url) as reads:
        read_before = reads()
        seconds_beside, beside = ask_all(url, more, 1)
        tokens = (reads() - read_before) / seconds_beside
    return {
        "chunks": chunks,
        "p50 ms, 1 client": round(percentile(one, 0.5), 2),
        "p99 ms, 1 client": round(percentile(one, 0.99), 2),
        "p50 ms of bare Milvus": round(percentile(bare.latencies, 0.5), 2),
        "CPU ms of query per search": round(spent, 2),
        "CPU ms of embedding": round(embed_ms, 2),
        "CPU ms of the Milvus client": round(bare.cpu_ms, 2),
        "CPU ms beyond embedding and Milvus": round(spent - embed_ms - bare.cpu_ms, 2),
        "CPU ms of Milvus itself": round(milvus_spent, 2),
        "searches/s, 16 clients": round(len(many) / seconds, 1),
        "p99 ms, 16 clients": round(percentile(many, 0.99), 2),
        "p99 ms beside 64 streams": round(percentile(beside, 0.99), 2),
        "p99 beside 64 streams / alone": round(percentile(beside, 0.99) / percentile(alone, 0.99), 2),
        "p50 beside 64 streams / alone": round(percentile(beside, 0.5) / percentile(alone, 0.5), 2),
        "tokens/s of the streams": round(tokens),
    }


@dataclass(slots=True)
class Bare:
    """The costs of a search's calls to Milvus alone: sorted latencies and mean CPU time, in milliseconds."""

    latencies: list[float]
    cpu_ms: float


def bare_milvus(stack: Stack, asked: Sequence[str]) -> Bare:
    """Only search both halves at once and fetch the rows of the best five, as the service does."""
    settings = QuerySettings(data_dir=stack.data_dir, milvus_url=stack.milvus_url)
    ledger, store = open_ledger(settings.ledger_url), ChunkStore(settings.milvus_url)
    base = ledger.bases.get("bench")
    statistics, translations = CollectionStatistics(ledger).of(base), Translations.load()
    embedder = embedders_from(settings).get(base.live.embedding_model)
    work = [(embedder.embed_queries([text])[0], query_vector(text, statistics, translations).weights) for text in asked]
    limit, fetched = settings.candidates, 5 + SPARE
    latencies = []
    with ThreadPoolExecutor(1) as pool:
        before = time.process_time()
        for dense, sparse in work:
            started = time.perf_counter()
            pending = pool.submit(store.search_dense, base.live, dense, limit=limit)
            found = {**store.search_sparse(base.live, sparse, limit=limit), **pending.result()}
            store.hits(base.live.collection, dict(islice(found.items(), fetched)))
            latencies.append((time.perf_counter() - started) * 1000)
        cpu = (time.process_time() - before) * 1000
    store.close()
    ledger.close()
    return Bare(sorted(latencies), cpu / len(work))


@contextlib.contextmanager
def streaming(url: str) -> Iterator[Callable[[], int]]:
    """Keep `STREAMS` streamed answers open in another process. Yield a function that returns the count of reads."""
    spawned = multiprocessing.get_context("spawn")
    begun, ended, reads = spawned.Event(), spawned.Event(), spawned.Array("q", STREAMS, lock=False)
    readers = spawned.Process(target=read_streams, args=(url, begun, ended, reads), daemon=True)
    readers.start()
    if not begun.wait(timeout=60):
        raise RuntimeError("the streams did not begin")
    try:
        yield lambda: sum(reads[:])
    finally:
        ended.set()
        readers.join()


def read_streams(url: str, begun: Any, ended: Any, reads: Any) -> None:
    """Ask for streamed answers and read them until `ended`. Set `begun` when each has sent something.

    It uses plain sockets in one thread. Real clients run on other machines, so the readers here must cost little.
    """
    address = urlsplit(url)

    async def listen(number: int, first: asyncio.Event) -> None:
        asked = {"question": f"{WORDS_EN[number % len(WORDS_EN)]} {number}?", "stream": True, "min_score": 0}
        body = json.dumps(asked)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        head = (
            f"POST /v1/knowledge-bases/bench/ask HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: application/json"
        )
        writer.write(f"{head}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        while (await reader.read(65536)) and not ended.is_set():
            reads[number] += 1
            first.set()
        writer.close()

    async def listen_to_all() -> None:
        firsts = [asyncio.Event() for _ in range(STREAMS)]
        streams = [asyncio.create_task(listen(number, first)) for number, first in enumerate(firsts)]
        await asyncio.gather(*(first.wait() for first in firsts))
        begun.set()
        await asyncio.gather(*streams)

    asyncio.run(listen_to_all())


def embedding_cpu_ms(asked: list[str]) -> float:
    """Return the CPU milliseconds to embed one question."""
    model = EmbeddingSettings().embedding_model
    embedder = embedders_from(EmbeddingSettings()).get(model)
    embedder.embed_queries(asked[:10])
    before = time.process_time()
    for text in asked:
        embedder.embed_queries([text])
    return (time.process_time() - before) / len(asked) * 1000


@contextlib.contextmanager
def model_server(folder: Path) -> Iterator[dict[str, str]]:
    """Run the fake model server of `bench.gateway`. Yield the environment for a stack that uses it."""
    port = free_port()
    command = [sys.executable, "-m", "bench.gateway", "--serve-fake", str(port)]
    config = folder / "gateway.yaml"
    upstream = {"name": "fake", "base_url": f"http://127.0.0.1:{port}/v1", "models": [MODEL]}
    config.write_text(json.dumps({"upstreams": [upstream], "default_model": MODEL}))
    with running("fake", command, port, {"BENCH_PACE": str(TOKEN_SECONDS), "BENCH_CHUNKS": str(TOKENS)}):
        yield {**os.environ, "ZHIWEN_GATEWAY_CONFIG": str(config), "ZHIWEN_ANSWER_MODEL": MODEL}


def main() -> None:
    """Run the benchmark in a new stack, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, default=10_000)
    parser.add_argument("--searches", type=int, default=500)
    parser.add_argument("--port-base", type=int, default=26000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="zhiwen-bench-") as name, model_server(Path(name)) as environment:
        stack = Stack(Path(name) / "data", arguments.port_base, webui=False, environment=environment)
        stack.start()
        try:
            print(json.dumps(measure(stack, arguments), indent=2))
        finally:
            stack.stop()


if __name__ == "__main__":
    main()
