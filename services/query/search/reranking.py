"""Reorders hits with a model that reads question and passage together: a cross-encoder here, or a server.

A server is first asked in the format of Jina and Cohere (`documents`, `relevance_score`:
https://docs.cohere.com/reference/rerank), which vLLM and others understand, too. If it refuses, it is asked in the
format of text-embeddings-inference (`texts`, `score`: https://huggingface.github.io/text-embeddings-inference/).
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import httpx
import structlog
from prometheus_client import Counter

from zhiwen.common.errors import ServiceError, Unavailable
from zhiwen.common.http_retry import is_busy, post_json, refusal_of
from zhiwen.common.models import Hit, with_heading
from zhiwen.query.settings import QuerySettings

log = structlog.get_logger(__name__)

FAILURES = Counter("zhiwen_rerank_failures", "Searches whose hits could not be reranked")
RERANKED_HITS = 50
"""Most hits that a reranker reads."""
TIMEOUT_SECONDS = 20.0
ATTEMPTS = 2
BATCH = 8
"""Pairs of question and passage that the cross-encoder computes at a time."""


class Reranker(Protocol):
    """A model that scores passages for a question. Thread-safe."""

    def scores(self, query: str, passages: Sequence[str]) -> list[float]:
        """Return one score per passage, 0..1, higher is better. Raises `ServiceError`."""

    def close(self) -> None:
        """Release the model or the connections."""


def reranker_from(settings: QuerySettings) -> Reranker | None:
    """Return the reranker that the settings name, or None. A model is loaded at its first use."""
    if settings.rerank_url:
        key = settings.rerank_api_key.get_secret_value()
        return RemoteReranker(settings.rerank_url, model=settings.rerank_model, api_key=key)
    if settings.rerank_model:
        return CrossEncoderReranker(
            settings.rerank_model, device=settings.embedding_device, dtype=settings.embedding_dtype
        )
    return None


def rerank(reranker: Reranker, query: str, hits: Sequence[Hit]) -> tuple[list[Hit], bool]:
    """Return the hits with the first 50 in the reranker's order, and True.

    When the reranker fails, return the hits unchanged, and False. `score` stays the relevance, which `min_score` and
    refusal use. The reranker's own score is in `rerank_score`.
    """
    if not hits:
        return [], True
    first = hits[:RERANKED_HITS]
    try:
        scores = reranker.scores(query, [with_heading(hit.heading, hit.text) for hit in first])
    except ServiceError as exc:
        FAILURES.inc()
        log.warning("not_reranked", code=exc.code, detail=exc.detail)
        return list(hits), False
    scored = [replace(hit, rerank_score=score) for hit, score in zip(first, scores, strict=True)]
    scored.sort(key=lambda hit: -(hit.rerank_score or 0.0))  # a stable sort: equal hits keep the order of the search
    return [*scored, *hits[RERANKED_HITS:]], True


def unit_scores(scores: Sequence[float]) -> list[float]:
    """Return scores in 0..1: unchanged if all are in that range, otherwise through the logistic function. Pure."""
    if all(0.0 <= score <= 1.0 for score in scores):
        return list(scores)
    return [1.0 / (1.0 + math.exp(-max(-60.0, min(60.0, score)))) for score in scores]


class CrossEncoderReranker:
    """A cross-encoder of sentence-transformers, by name or folder, loaded when it is first used."""

    def __init__(self, model: str, *, device: str = "auto", dtype: str = "auto") -> None:
        self.model = model
        self._device = device
        self._dtype = dtype
        self._encoder: Any = None
        self._lock = threading.Lock()

    def scores(self, query: str, passages: Sequence[str]) -> list[float]:
        """Implement `Reranker.scores`."""
        with self._lock:
            if self._encoder is None:
                self._encoder = _load(self.model, self._device, self._dtype)
            pairs = [(query, passage) for passage in passages]
            found = self._encoder.predict(pairs, batch_size=BATCH, show_progress_bar=False, convert_to_tensor=True)
        scores = found.float().cpu().reshape(len(passages), -1)[:, -1].tolist()
        if not all(map(math.isfinite, scores)):
            raise ServiceError("rerank-failed", f"The model {self.model} gave scores that are not numbers.")
        return unit_scores(scores)

    def close(self) -> None:
        """Release the model."""
        self._encoder = None


def _load(model: str, device: str, dtype: str) -> Any:
    try:
        import torch
        from sentence_transformers import CrossEncoder

        from zhiwen.common.embedding.transformer import Runtime, chosen_device, model_arguments
    except ImportError as exc:
        raise _unknown(model) from exc
    runtime = Runtime(device=device, dtype=dtype)
    try:
        return CrossEncoder(
            model,
            device=chosen_device(device),
            model_kwargs=model_arguments(runtime),
            activation_fn=torch.nn.Sigmoid(),
        )
    except Exception as exc:  # the library raises OSError, ValueError, RuntimeError and its hub's own errors here
        raise _unknown(model) from exc


def _unknown(model: str) -> ServiceError:
    return ServiceError(
        "rerank-failed",
        f"The reranking model {model} could not be loaded: it is neither a folder nor a model that can be fetched, "
        "or the package extra zhiwen[transformers] is missing.",
    )


class RemoteReranker:
    """A reranker of a server. `url` is its whole address, such as http://localhost:8080/v1/rerank."""

    def __init__(self, url: str, *, model: str = "", api_key: str = "", timeout: float = TIMEOUT_SECONDS) -> None:
        self._url = url
        self._model = model
        self._texts = False  # True once the server wanted the format of text-embeddings-inference
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._client = httpx.Client(headers=headers, timeout=httpx.Timeout(timeout, connect=5.0))

    def scores(self, query: str, passages: Sequence[str]) -> list[float]:
        """Implement `Reranker.scores`."""
        response = self._ask(query, passages)
        if response.status_code in {400, 422} and not self._texts:
            other = self._ask(query, passages, texts=True)
            self._texts = other.status_code == 200
            response = other if self._texts else response
        if is_busy(response):
            raise Unavailable("rerank-failed", f"The reranking server answers {response.status_code}.")
        if response.status_code != 200:
            raise ServiceError("rerank-failed", f"The reranking server refused: {refusal_of(response)}", status=502)
        return unit_scores(_scores_of(response, len(passages)))

    def _ask(self, query: str, passages: Sequence[str], *, texts: bool | None = None) -> httpx.Response:
        body: dict[str, Any] = {"query": query}
        if self._texts if texts is None else texts:
            body |= {"texts": list(passages), "truncate": True}
        else:
            body |= {"documents": list(passages), "top_n": len(passages), "return_documents": False}
            if self._model:
                body["model"] = self._model
        try:
            return post_json(self._client, self._url, body, attempts=ATTEMPTS)
        except httpx.TransportError as exc:
            raise Unavailable("rerank-failed", "The reranking server does not answer.") from exc

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _scores_of(response: httpx.Response, count: int) -> list[float]:
    try:
        body = response.json()
        rows = body if isinstance(body, list) else body.get("results", body.get("data"))
        found = {int(row["index"]): float(row.get("relevance_score", row.get("score"))) for row in rows}
        scores = [found[place] for place in range(count)]
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise ServiceError(
            "rerank-failed", "The reranking server did not answer with a list of scores.", status=502
        ) from exc
    if not all(map(math.isfinite, scores)):
        raise ServiceError("rerank-failed", "The reranking server gave scores that are not numbers.", status=502)
    return scores
