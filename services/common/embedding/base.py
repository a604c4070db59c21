"""Texts to vectors: what an embedder is, and how one is found by its model's name.

`zhiwen-static-v1` is built in; `openai:NAME` is asked of a server (`common.remote_embedding`); any other name or folder
is a sentence-transformers model (`common.transformer_embedding`, loaded only then).
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import structlog
from numpy.typing import NDArray

from zhiwen.common.embedding.static import StaticEmbedder
from zhiwen.common.errors import InvalidRequest, ServiceError
from zhiwen.common.settings import BUILT_IN_MODEL

if TYPE_CHECKING:
    from zhiwen.common.embedding.openai import RemoteEmbedder
    from zhiwen.common.settings import EmbeddingSettings

log = structlog.get_logger(__name__)

Vectors = NDArray[np.float32]

DESCRIBE_SECONDS = 300
FAILURE_SECONDS = 5.0
REMOTE = "openai:"


class Embedder(Protocol):
    """A model that turns texts into unit vectors. Safe to call from several threads."""

    model: str
    dimension: int
    max_tokens: int
    fusion_weight: float
    """How much its cosine counts beside the full-text relevance of 1 in a hybrid search."""

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """Return `(len(texts), dimension) float32`, rows of length 1."""

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """The same for questions, with the model's query prompt where it has one."""

    def count_tokens(self, text: str) -> int:
        """Return how many of the model's tokens a text takes, special tokens not counted."""


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """What a knowledge base must know of its model: vector length, and how many tokens the model reads."""

    dimension: int
    max_tokens: int


def describe_model(model: str, settings: EmbeddingSettings) -> ModelDescription:
    """Return dimension and limit of a model without loading it in this process, which may have no torch.

    A server is asked; a folder's files are read; what remains is loaded by a process of its own.
    Raises `InvalidRequest` (`unknown-embedding-model`), and what `RemoteEmbedder` raises.
    """
    if model == BUILT_IN_MODEL:
        built_in = StaticEmbedder()
        return ModelDescription(built_in.dimension, built_in.max_tokens)
    if model.startswith(REMOTE):
        with closing(_remote(model, settings)) as remote:
            return ModelDescription(remote.dimension, remote.max_tokens)
    from zhiwen.common.embedding.transformer import describe_folder

    return describe_folder(Path(model)) or _described_by_loading(model)


def _described_by_loading(model: str) -> ModelDescription:
    command = [sys.executable, "-m", "zhiwen.common.embedding.transformer", model]
    try:
        done = subprocess.run(command, capture_output=True, timeout=DESCRIBE_SECONDS, check=False)
    except subprocess.TimeoutExpired as exc:
        raise InvalidRequest(
            "unknown-embedding-model",
            f"The embedding model {model} was not fetched and loaded within {DESCRIBE_SECONDS} s; "
            "put its folder on this machine, or try again.",
        ) from exc
    if done.returncode != 0:
        raise unknown_model(model)
    return ModelDescription(**json.loads(done.stdout.splitlines()[-1]))


def unknown_model(model: str) -> InvalidRequest:
    """Say that a model cannot be loaded."""
    return InvalidRequest(
        "unknown-embedding-model",
        f"The embedding model {model} could not be loaded: it is no folder here and no model that can be fetched, "
        "or the package extra zhiwen[transformers] is missing.",
    )


class Embedders:
    """Loads each model once, when it is first asked for, and keeps it. One that loads slowly holds up no other.

    A failure is remembered for `FAILURE_SECONDS`, so that those who waited do not each wait for the same again.
    """

    def __init__(self, load: Callable[[str], Embedder], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._load = load
        self._clock = clock
        self._loaded: dict[str, Embedder] = {}
        self._failed: dict[str, tuple[float, Exception]] = {}
        self._turns: dict[str, threading.Lock] = {}

    def get(self, model: str) -> Embedder:
        """Return the embedder of a model. Raises `InvalidRequest` (`unknown-embedding-model`)."""
        if (embedder := self._loaded.get(model)) is not None:
            return embedder
        with self._turns.setdefault(model, threading.Lock()):
            if model not in self._loaded:
                self._loaded[model] = self._load_or_recall_failure(model)
            return self._loaded[model]

    def _load_or_recall_failure(self, model: str) -> Embedder:
        until, failure = self._failed.get(model, (0.0, None))
        if failure is not None and self._clock() < until:
            raise failure.with_traceback(None)
        try:
            return self._load(model)
        except Exception as exc:  # remembered and raised on, whatever it is
            self._failed[model] = (self._clock() + FAILURE_SECONDS, exc)
            raise

    def preload(self, model: str) -> None:
        """Load a model before somebody waits for it; one that cannot be loaded is logged and fails when asked for."""
        try:
            self.get(model)
        except ServiceError as exc:
            log.warning("model_not_loaded", model=model, detail=exc.detail)


def embedders_from(settings: EmbeddingSettings, *, batched: bool = False) -> Embedders:
    """Return the loader for the models that the settings allow; `batched` joins the passages of several threads."""

    def load(model: str) -> Embedder:
        embedder = _load(model, settings)
        return BatchingEmbedder(embedder) if batched else embedder

    return Embedders(load)


def _load(model: str, settings: EmbeddingSettings) -> Embedder:
    if model == BUILT_IN_MODEL:
        return StaticEmbedder()
    if model.startswith(REMOTE):
        return _remote(model, settings)
    from zhiwen.common.embedding.transformer import Runtime, SentenceTransformerEmbedder

    return SentenceTransformerEmbedder(model, Runtime.of(settings))


def _remote(model: str, settings: EmbeddingSettings) -> RemoteEmbedder:
    from zhiwen.common.embedding.openai import RemoteEmbedder

    return RemoteEmbedder(
        model,
        base_url=settings.embedding_base_url,
        api_key=settings.embedding_api_key.get_secret_value(),
        max_tokens=settings.embedding_max_tokens,
    )


@dataclass(slots=True)
class _Waiting:
    texts: Sequence[str]
    result: Future[Vectors]


class BatchingEmbedder:
    """Joins what several threads want embedded into one call, so that small documents are embedded together.

    The embedder sorts by length within a call, which saves padding. While one call runs, the next one gathers: nobody
    waits for a batch to fill. A failing call fails all that were part of it.
    """

    def __init__(self, embedder: Embedder, *, max_texts: int = 512) -> None:
        self._embedder = embedder
        self._max_texts = max_texts
        self.model = embedder.model
        self.dimension = embedder.dimension
        self.max_tokens = embedder.max_tokens
        self.fusion_weight = embedder.fusion_weight
        self._waiting: deque[_Waiting] = deque()
        self._turn = threading.Lock()

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        mine = _Waiting(texts, Future())
        self._waiting.append(mine)
        while not mine.result.done():
            with self._turn:  # whoever gets the turn embeds for all who wait
                if not mine.result.done():
                    self._embed_waiting()
        return mine.result.result()

    def _embed_waiting(self) -> None:
        batch: list[_Waiting] = []
        while self._waiting and (not batch or sum(len(w.texts) for w in batch) < self._max_texts):
            batch.append(self._waiting.popleft())
        try:
            vectors = self._embedder.embed_passages([text for waiting in batch for text in waiting.texts])
        except BaseException as exc:
            for waiting in batch:
                waiting.result.set_exception(exc)
            return
        start = 0
        for waiting in batch:
            waiting.result.set_result(vectors[start : start + len(waiting.texts)])
            start += len(waiting.texts)

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        return self._embedder.embed_queries(texts)

    def count_tokens(self, text: str) -> int:
        return self._embedder.count_tokens(text)


class HashEmbedder:
    """A deterministic embedder without a model: hashed character pairs and words. For tests and benchmarks only."""

    def __init__(self, dimension: int = 64, max_tokens: int = 256) -> None:
        self.model = f"hash-{dimension}"
        self.dimension = dimension
        self.max_tokens = max_tokens
        self.fusion_weight = 0.2

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for row, text in enumerate(texts):
            for feature in {*text.lower().split(), *(text[i : i + 2] for i in range(len(text) - 1))}:
                digest = hashlib.blake2b(feature.encode(), digest_size=8).digest()
                vectors[row, int.from_bytes(digest[:4], "big") % self.dimension] += 1 if digest[4] & 1 else -1
        return unit_rows(vectors)

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        return self.embed_passages(texts)

    def count_tokens(self, text: str) -> int:
        return len(text)


def unit_rows(vectors: Vectors) -> Vectors:
    """Scale each row to length 1; a zero row becomes the first unit vector, so that no metric meets a zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    empty = lengths[:, 0] == 0
    scaled: Vectors = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    scaled[empty, 0] = 1.0
    return scaled
