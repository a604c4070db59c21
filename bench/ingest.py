"""Compares the whole ingest with the encoder alone, on the same chunks, in one run (`make bench-ingest`).

Synthetic Chinese and English documents go through the real upload API, Celery worker, parser children and Milvus Lite.
Then the same chunk texts go through the encoder alone. CPU seconds are those of the worker and its children, or of this
process while it encodes.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil

from zhiwen.cli.stack import Stack
from zhiwen.common.embedding.registry import embedders_from
from zhiwen.common.settings import EmbeddingSettings

WORDS_ZH = ["系统", "文档", "检索", "向量", "索引", "问题", "答案", "员工", "合同", "设备", "温度"]
WORDS_EN = ["system", "document", "search", "vector", "index", "question", "answer", "contract", "machine"]
BATCH = 50


def documents(count: int, sentences: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield (name, bytes) of random documents, every other one English. The same seed gives the same documents."""
    dice = random.Random(seed)
    for number in range(count):
        words, stop, gap = (WORDS_ZH, "。", "") if number % 2 else (WORDS_EN, ". ", " ")
        lines = [gap.join(dice.choices(words, k=dice.randint(8, 24))) + stop for _ in range(sentences)]
        yield f"bench-{number:05}.txt", f"{number}\n{''.join(lines)}".encode()


def ingest(client: httpx.Client, base: str, files: list[tuple[str, bytes]]) -> float:
    """Upload all files and wait until the knowledge base has settled; return seconds."""
    started = time.perf_counter()
    for start in range(0, len(files), BATCH):
        batch = [("file", (name, data)) for name, data in files[start : start + BATCH]]
        client.post(f"/v1/knowledge-bases/{base}/documents", files=batch).raise_for_status()
    while True:
        shown = client.get(f"/v1/knowledge-bases/{base}").raise_for_status().json()
        if shown["documents"].get("ready", 0) + shown["documents"].get("failed", 0) >= len(files):
            return time.perf_counter() - started
        time.sleep(0.2)


def cpu_seconds(process: psutil.Process) -> float:
    """Return the CPU seconds of a process and its children, also of those that have ended."""
    total = 0.0
    for one in [process, *process.children(recursive=True)]:
        times = one.cpu_times()
        total += times.user + times.system
    own = process.cpu_times()
    return total + own.children_user + own.children_system


def chunk_texts(client: httpx.Client, base: str) -> list[str]:
    """Return the texts of all chunks."""
    texts: list[str] = []
    cursor: str | None = None
    while True:
        query: dict[str, str | int] = {"limit": 200, **({"cursor": cursor} if cursor else {})}
        page = client.get(f"/v1/knowledge-bases/{base}/documents", params=query).raise_for_status().json()
        for item in page["items"]:
            chunks = client.get(f"/v1/knowledge-bases/{base}/documents/{item['id']}/chunks", params={"limit": 500})
            texts += [chunk["text"] for chunk in chunks.raise_for_status().json()["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            return texts


def encode(texts: list[str], model: str) -> tuple[float, float]:
    """Encode the texts in batches of 128. Return seconds and CPU seconds."""
    embedder = embedders_from(EmbeddingSettings(embedding_model=model)).get(model)
    embedder.embed_passages(texts[:8])
    started, cpu = time.perf_counter(), time.process_time()
    for start in range(0, len(texts), 128):
        embedder.embed_passages(texts[start : start + 128])
    return time.perf_counter() - started, time.process_time() - cpu


def main() -> None:
    """Run the benchmark in a new stack, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=400)
    parser.add_argument("--sentences", type=int, default=120)
    parser.add_argument("--model", default=EmbeddingSettings().embedding_model)
    parser.add_argument("--port-base", type=int, default=28000)
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="zhiwen-bench-") as folder:
        stack = Stack(Path(folder), arguments.port_base, webui=False)
        stack.start()
        try:
            print(json.dumps(measure(stack, arguments), ensure_ascii=False, indent=2))
        finally:
            stack.stop()


def measure(stack: Stack, arguments: argparse.Namespace) -> dict[str, float | int | str]:
    """Measure the ingest and the encoder, and return the figures."""
    worker = next(program.process for program in stack.programs if program.name == "worker")
    assert worker is not None
    process = psutil.Process(worker.pid)
    with httpx.Client(base_url=stack.addresses["ingest"], timeout=600) as client:
        body = {"name": "bench", "embedding_model": arguments.model}
        client.post("/v1/knowledge-bases", json=body).raise_for_status()
        ingest(client, "bench", list(documents(8, 20, arguments.seed + 1)))  # loads model and children
        client.post("/v1/knowledge-bases", json={**body, "name": "measured"}).raise_for_status()
        before = cpu_seconds(process)
        files = list(documents(arguments.documents, arguments.sentences, arguments.seed))
        seconds = ingest(client, "measured", files)
        cpu = cpu_seconds(process) - before
        texts = chunk_texts(client, "measured")
    raw_seconds, raw_cpu = encode(texts, arguments.model)
    return {
        "model": arguments.model,
        "documents": len(files),
        "chunks": len(texts),
        "pipeline chunks/s": round(len(texts) / seconds, 1),
        "pipeline chunks/CPU s": round(len(texts) / cpu, 1),
        "encoder chunks/s": round(len(texts) / raw_seconds, 1),
        "encoder chunks/CPU s": round(len(texts) / raw_cpu, 1),
        "pipeline / encoder, per s": round(raw_seconds / seconds, 3),
        "worker memory MB": round(process.memory_info().rss / 1e6),
    }


if __name__ == "__main__":
    main()
