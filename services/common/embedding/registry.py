"""Finds and loads the embedder of a model's name.

- `zhiwen-static-v2` is the built-in table of word vectors. Its predecessor is retired: `present_model` replaces it.
- `openai:NAME` is the model NAME of an OpenAI-compatible server.
- Any other name, or a folder, is a sentence-transformers model.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing

import structlog

from zhiwen.common.embedding.base import Embedder, ModelDescription
from zhiwen.common.embedding.batching import BatchingEmbedder
from zhiwen.common.embedding.openai import OPENAI_PREFIX, OpenAIEmbedder
from zhiwen.common.embedding.static import StaticEmbedder, describe_artifact
from zhiwen.common.embedding.transformer import Runtime, SentenceTransformerEmbedder, describe_transformer
from zhiwen.common.errors import InvalidRequest, ServiceError
from zhiwen.common.settings import BUILT_IN_MODEL, RETIRED_MODELS, EmbeddingSettings

log = structlog.get_logger(__name__)

FAILURE_SECONDS = 5.0


def present_model(model: str) -> str:
    """Return the model that takes the place of a retired built-in model; any other name stays as it is."""
    return BUILT_IN_MODEL if model in RETIRED_MODELS else model


def describe_model(model: str, settings: EmbeddingSettings) -> ModelDescription:
    """Return the vector length and the token limit of a model without loading it into this process.

    This process may be an API without torch. For a server's model, it asks the server. For a folder, it reads the
    files. If that is not enough, another process loads the model. Raises `InvalidRequest` (`unknown-embedding-model`,
    `retired-embedding-model`), and what `OpenAIEmbedder` raises.
    """
    _refuse_retired(model)
    if model == BUILT_IN_MODEL:
        return describe_artifact()
    if model.startswith(OPENAI_PREFIX):
        with closing(OpenAIEmbedder.of(model, settings)) as remote:
            return ModelDescription(remote.dimension, remote.max_tokens)
    return describe_transformer(model)


def load_embedder(model: str, settings: EmbeddingSettings) -> Embedder:
    """Load a model as the settings say.

    Raises `InvalidRequest` (`retired-embedding-model`), and what the constructors of the embedders raise.
    """
    _refuse_retired(model)
    if model == BUILT_IN_MODEL:
        return StaticEmbedder()
    if model.startswith(OPENAI_PREFIX):
        return OpenAIEmbedder.of(model, settings)
    return SentenceTransformerEmbedder(model, Runtime.of(settings))


def _refuse_retired(model: str) -> None:
    if model in RETIRED_MODELS:
        detail = f"The model {model} is retired. {BUILT_IN_MODEL} has taken its place."
        raise InvalidRequest("retired-embedding-model", detail)


class Embedders:
    """Loads each model once, at its first use, and keeps it.

    A model that loads slowly does not delay others. A failure is remembered for `FAILURE_SECONDS`, so the threads that
    waited for the model do not repeat the attempt one after the other.
    """

    def __init__(self, load: Callable[[str], Embedder], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._load = load
        self._clock = clock
        self._loaded: dict[str, Embedder] = {}
        self._failed: dict[str, tuple[float, Exception]] = {}
        self._locks: dict[str, threading.Lock] = {}

    def get(self, model: str) -> Embedder:
        """Return the embedder of a model. Raises what loading it raises."""
        if (embedder := self._loaded.get(model)) is not None:
            return embedder
        with self._locks.setdefault(model, threading.Lock()):
            if model not in self._loaded:
                self._loaded[model] = self._load_unless_failed(model)
            return self._loaded[model]

    def preload(self, model: str) -> None:
        """Load a model before its first use. A failure is only logged here; `get` raises it."""
        try:
            self.get(model)
        except ServiceError as exc:
            log.warning("model_not_loaded", model=model, detail=exc.detail)

    def _load_unless_failed(self, model: str) -> Embedder:
        until, failure = self._failed.get(model, (0.0, None))
        if failure is not None and self._clock() < until:
            raise failure.with_traceback(None)
        try:
            return self._load(model)
        except Exception as exc:  # whatever a model's library raises
            self._failed[model] = (self._clock() + FAILURE_SECONDS, exc)
            raise


def embedders_from(settings: EmbeddingSettings, *, batched: bool = False) -> Embedders:
    """Return the loader of models with these settings. `batched` embeds the passages of several threads together."""

    def load(model: str) -> Embedder:
        embedder = load_embedder(model, settings)
        return BatchingEmbedder(embedder) if batched else embedder

    return Embedders(load)
