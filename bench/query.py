"""What a search costs (`make bench-query`): 10,000 chunks in the embedded default, over HTTP.

CPU seconds are the operating system's for the query process. `beyond embedding and Milvus` is its CPU per search less
that of embedding alone, measured in the same run in this process; Milvus runs in its own process.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil

from bench.ingest import WORDS_EN, WORDS_ZH, documents, ingest
from services.cli.launcher import Stack
from services.common.embedding import embedders_from
from services.common.settings import EmbeddingSettings

CHUNKS_PER_DOCUMENT = 58


def questions(count: int, seed: int) -> list[str]:
    """Return seeded questions, each asked once."""
    dice = random.Random(seed)
    return [
        ("".join(dice.choices(WORDS_ZH, k=4)) if n % 2 else " ".join(dice.choices(WORDS_EN, k=5))) + f" {n}?"
        for n in range(count)
    ]


def percentile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def ask_all(url: str, asked: list[str], clients: int) -> tuple[float, list[float]]:
    """Search for everything with so many clients; return seconds and sorted latencies in milliseconds."""
    latencies: list[float] = []
    local = threading.local()

    def one(text: str) -> None:
        client = getattr(local, "client", None)
        if client is None:
            client = local.client = httpx.Client(base_url=url, timeout=60)
        started = time.perf_counter()
        client.post("/v1/knowledge-bases/bench/search", json={"query": text}).raise_for_status()
        latencies.append((time.perf_counter() - started) * 1000)

    started = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(one, asked))
    return time.perf_counter() - started, sorted(latencies)


def measure(stack: Stack, arguments: argparse.Namespace) -> dict[str, float | int]:
    """Load, search with 1 and with 16 clients; return the figures."""
    query = next(program.process for program in stack.programs if program.name == "query")
    assert query is not None
    process = psutil.Process(query.pid)
    with httpx.Client(base_url=stack.addresses["ingest"], timeout=600) as client:
        client.post("/v1/knowledge-bases", json={"name": "bench"}).raise_for_status()
        ingest(client, "bench", list(documents(arguments.chunks // CHUNKS_PER_DOCUMENT, 400, 7)))
        chunks = client.get("/v1/knowledge-bases/bench").raise_for_status().json()["chunks"]
    url = stack.addresses["query"]
    ask_all(url, questions(100, 1), 4)
    asked = questions(arguments.searches, 2)
    before = process.cpu_times()
    _, one = ask_all(url, asked, 1)
    after = process.cpu_times()
    cpu_ms = (after.user + after.system - before.user - before.system) / len(asked) * 1000
    embed_ms = embedding_cpu_ms(asked)
    seconds, many = ask_all(url, questions(arguments.searches * 2, 3), 16)
    return {
        "chunks": chunks,
        "p50 ms, 1 client": round(percentile(one, 0.5), 2),
        "p99 ms, 1 client": round(percentile(one, 0.99), 2),
        "CPU ms of query per search": round(cpu_ms, 2),
        "CPU ms of embedding": round(embed_ms, 2),
        "CPU ms beyond embedding and Milvus": round(cpu_ms - embed_ms, 2),
        "searches/s, 16 clients": round(len(many) / seconds, 1),
        "p99 ms, 16 clients": round(percentile(many, 0.99), 2),
    }


def embedding_cpu_ms(asked: list[str]) -> float:
    """CPU milliseconds to embed a question alone."""
    model = EmbeddingSettings().embedding_model
    embedder = embedders_from(EmbeddingSettings()).get(model)
    embedder.embed_queries(asked[:10])
    before = time.process_time()
    for text in asked:
        embedder.embed_queries([text])
    return (time.process_time() - before) / len(asked) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, default=10_000)
    parser.add_argument("--searches", type=int, default=500)
    parser.add_argument("--port-base", type=int, default=26000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="zhiwen-bench-") as folder:
        stack = Stack(Path(folder), arguments.port_base, webui=False)
        stack.start()
        try:
            print(json.dumps(measure(stack, arguments), indent=2))
        finally:
            stack.stop()


if __name__ == "__main__":
    main()
