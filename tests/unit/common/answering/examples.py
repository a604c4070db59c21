"""Chunks of the example documents as a search returns them, for tests of quoting."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from zhiwen.common.answering.pieces import Passage
from zhiwen.common.embedding.static import StaticEmbedder
from zhiwen.common.models import ChunkingSpec
from zhiwen.ingest.parsing.reading import read_document
from zhiwen.ingest.worker.chunking import chunk_blocks


@lru_cache(maxsize=1)
def _embedder() -> StaticEmbedder:
    return StaticEmbedder()


@lru_cache(maxsize=32)
def chunks_of(name: str) -> tuple[Passage, ...]:
    """Return the chunks of an example document, numbered from 1."""
    blocks = list(read_document(Path("examples/documents") / name, name))
    embedder = _embedder()
    chunks = chunk_blocks(blocks, ChunkingSpec(), embedder.count_tokens, embedder.max_tokens)
    return tuple(Passage(number, chunk.heading, chunk.text) for number, chunk in enumerate(chunks, 1))


def chunks_with(name: str, *marks: str) -> list[Passage]:
    """Return the chunks of an example document that hold one of these texts, in the order of the marks."""
    found = [chunk for mark in marks for chunk in chunks_of(name) if mark in chunk.text]
    assert len(found) >= len(marks)
    return [Passage(number, chunk.heading, chunk.text) for number, chunk in enumerate(dict.fromkeys(found), 1)]
