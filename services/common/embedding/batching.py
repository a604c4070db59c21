"""Joins the passages of several threads into one call of an embedder."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from zhiwen.common.embedding.base import Embedder, Vectors


@dataclass(frozen=True, slots=True)
class _Request:
    texts: Sequence[str]
    vectors: Future[Vectors]


class BatchingEmbedder:
    """An `Embedder` that wraps another one and embeds the small documents of several threads together.

    The threads queue their texts, and the thread that gets the lock embeds all queued texts. Meanwhile, other threads
    queue the texts of the next batch; no thread waits for a batch to fill. The inner embedder sorts a batch by length,
    which saves padding. An error of a batch is raised in every thread that had texts in it.
    """

    def __init__(self, embedder: Embedder, *, max_texts: int = 512) -> None:
        """`max_texts` is the size at which a batch ends. It may be larger, because a request is never split."""
        self._embedder = embedder
        self._max_texts = max_texts
        self.model = embedder.model
        self.dimension = embedder.dimension
        self.max_tokens = embedder.max_tokens
        self._queue: deque[_Request] = deque()
        self._lock = threading.Lock()

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        request = _Request(texts, Future())
        self._queue.append(request)
        while not request.vectors.done():
            with self._lock:
                if not request.vectors.done():  # another thread may have embedded it meanwhile
                    self._embed_batch()
        return request.vectors.result()

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        return self._embedder.embed_queries(texts)

    def count_tokens(self, text: str) -> int:
        return self._embedder.count_tokens(text)

    def _embed_batch(self) -> None:
        batch = self._take_batch()
        try:
            vectors = self._embedder.embed_passages([text for request in batch for text in request.texts])
        except BaseException as exc:
            for request in batch:
                request.vectors.set_exception(exc)
            return
        start = 0
        for request in batch:
            end = start + len(request.texts)
            request.vectors.set_result(vectors[start:end])
            start = end

    def _take_batch(self) -> list[_Request]:
        batch: list[_Request] = []
        texts = 0
        while self._queue and (not batch or texts < self._max_texts):
            batch.append(self._queue.popleft())
            texts += len(batch[-1].texts)
        return batch
