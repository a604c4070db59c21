"""Passages of several threads become one call, and each thread gets its own vectors."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest

from zhiwen.common.embedding.base import Vectors
from zhiwen.common.embedding.batching import BatchingEmbedder
from zhiwen.common.embedding.fake import HashEmbedder
from zhiwen.common.errors import ServiceError


class Slow(HashEmbedder):
    """Records its calls. The first one waits for `release`; a call with the text "bad" fails."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[list[str]] = []
        self.begun = threading.Event()
        self.release = threading.Event()

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        self.calls.append(list(texts))
        if len(self.calls) == 1:
            self.begun.set()
            assert self.release.wait(20)
        if "bad" in texts:
            raise ServiceError("embedding-failed", "It failed.")
        return super().embed_passages(texts)


def embedded_during_a_call(slow: Slow, batching: BatchingEmbedder, *requests: Sequence[str]) -> list[Future[Vectors]]:
    """Ask for `requests`, each in a thread of its own, while a first call is running; return their results."""
    with ThreadPoolExecutor(1 + len(requests)) as pool:
        first = pool.submit(batching.embed_passages, ["first"])
        assert slow.begun.wait(20)
        asked = [pool.submit(batching.embed_passages, request) for request in requests]
        while len(batching._queue) < len(requests):
            threading.Event().wait(0.001)
        slow.release.set()
    assert first.result().shape == (1, slow.dimension)
    return asked


def test_texts_that_queue_during_a_call_are_embedded_together_and_go_back_to_their_threads() -> None:
    slow = Slow()
    requests = [["一"], ["二", "三"], [], ["四"]]
    asked = embedded_during_a_call(slow, BatchingEmbedder(slow), *requests)
    assert len(slow.calls) == 2
    assert sorted(slow.calls[1]) == sorted(["一", "二", "三", "四"])
    for request, vectors in zip(requests, asked, strict=True):
        assert np.array_equal(vectors.result(), HashEmbedder().embed_passages(request))


def test_a_batch_ends_at_its_limit() -> None:
    slow = Slow()
    embedded_during_a_call(slow, BatchingEmbedder(slow, max_texts=4), *[["a", "b"]] * 4)
    assert [len(call) for call in slow.calls] == [1, 4, 4]


def test_error_of_a_batch_is_raised_in_all_of_its_threads_and_not_later() -> None:
    slow = Slow()
    batching = BatchingEmbedder(slow)
    asked = embedded_during_a_call(slow, batching, ["good"], ["bad"])
    for vectors in asked:
        with pytest.raises(ServiceError, match="embedding-failed"):
            vectors.result()
    assert batching.embed_passages(["good"]).shape == (1, slow.dimension)


def test_everything_else_is_passed_to_the_inner_embedder() -> None:
    inner = HashEmbedder(dimension=16, max_tokens=99)
    batching = BatchingEmbedder(inner)
    assert (batching.model, batching.dimension, batching.max_tokens) == ("hash-16", 16, 99)
    assert batching.count_tokens("四个字啊") == 4
    assert np.array_equal(batching.embed_queries(["a"]), inner.embed_queries(["a"]))
