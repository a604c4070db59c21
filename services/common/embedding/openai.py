"""An embedding model behind any OpenAI-compatible server: `openai:NAME`, at ZHIWEN_EMBEDDING_BASE_URL.

The protocol: https://platform.openai.com/docs/api-reference/embeddings
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import httpx
import numpy as np

from zhiwen.common.embedding.base import REMOTE, Vectors, unit_rows
from zhiwen.common.errors import InvalidRequest, ServiceError, Unavailable
from zhiwen.common.http_retry import is_busy, post_json, refusal_of
from zhiwen.common.lexical.words import HAN

BATCH: Final = 64
FUSION_WEIGHT: Final = 0.5
"""Unmeasured for the model at hand: measure with your own questions, then set ZHIWEN_DENSE_WEIGHT."""
LETTERS_A_TOKEN: Final = 3
QUESTION_SECONDS: Final = 10.0
QUESTION_ATTEMPTS: Final = 2
"""Somebody waits for a question; passages have the client's timeout and more attempts."""
_HAN: Final = re.compile(f"[{HAN}]")


class RemoteEmbedder:
    """An `Embedder` over HTTP. Asks for one vector when it is made, to learn the dimension. Thread-safe.

    Raises `Unavailable` (`embedding-server-unavailable`) when the server does not answer or is too busy,
    `ServiceError` (`embedding-failed`) when it refuses or answers nonsense, `dimension-mismatch` when the length of its
    vectors changes.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str,
        api_key: str = "",
        max_tokens: int = 510,
        timeout: float = 60.0,
        question_timeout: float = QUESTION_SECONDS,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not base_url:
            raise InvalidRequest(
                "unknown-embedding-model",
                f"The model {model} is asked of a server, and ZHIWEN_EMBEDDING_BASE_URL does not say which.",
            )
        self.model = model
        self.max_tokens = max_tokens
        self.fusion_weight = FUSION_WEIGHT
        self._sleep = sleep
        self._question_timeout = question_timeout
        self._silent = False
        self._asking_again = threading.Lock()
        self._url = f"{base_url.rstrip('/')}/embeddings"
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._client = httpx.Client(headers=headers, timeout=httpx.Timeout(timeout, connect=5.0))
        self.dimension = 0
        try:
            self.dimension = self._embed(["dimension"]).shape[1]
        except BaseException:
            self.close()
            raise

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        if not texts:
            return np.zeros((0, self.dimension), np.float32)
        return np.concatenate([self._embed(texts[i : i + BATCH]) for i in range(0, len(texts), BATCH)])

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        with self._unless_silent() as limits:
            found = [self._embed(texts[i : i + BATCH], **limits) for i in range(0, len(texts), BATCH)]
        return np.concatenate(found) if found else np.zeros((0, self.dimension), np.float32)

    @contextmanager
    def _unless_silent(self) -> Iterator[dict[str, Any]]:
        """Let one call at a time ask a server that did not answer the last in its time; the others fail at once.

        Else every question to its knowledge bases would wait, each in a thread, and those to all others behind them.
        The one waits as long as passages do: the server may be loading its model. Yields the limits of the call.
        """
        asks_again = self._silent
        if asks_again and not self._asking_again.acquire(blocking=False):
            raise _no_answer()
        try:
            yield {"attempts": 1} if asks_again else {"attempts": QUESTION_ATTEMPTS, "timeout": self._question_timeout}
            self._silent = False
        except ServiceError as exc:
            self._silent = isinstance(exc.__cause__, httpx.TimeoutException)
            raise
        finally:
            if asks_again:
                self._asking_again.release()

    def count_tokens(self, text: str) -> int:
        """Estimate: one token a Chinese character, one per three others, which is on the safe side for English."""
        han = len(_HAN.findall(text))
        return han + -(-(len(text) - han) // LETTERS_A_TOKEN)

    def close(self) -> None:
        self._client.close()

    def _embed(self, texts: Sequence[str], **limits: Any) -> Vectors:
        body = {"model": self.model.removeprefix(REMOTE), "input": list(texts), "encoding_format": "float"}
        try:
            response = post_json(self._client, self._url, body, sleep=self._sleep, **limits)
        except httpx.TransportError as exc:
            raise _no_answer() from exc
        if is_busy(response):
            raise Unavailable(
                "embedding-server-unavailable", f"The embedding server answers {response.status_code}; try again later."
            )
        if response.status_code != 200:
            said = refusal_of(response)
            raise ServiceError("embedding-failed", f"The embedding server refused {self.model}: {said}", status=502)
        return self._checked(response, len(texts))

    def _checked(self, response: httpx.Response, count: int) -> Vectors:
        try:
            rows: list[dict[str, Any]] = sorted(response.json()["data"], key=lambda row: int(row["index"]))
            places = [int(row["index"]) for row in rows]
            vectors = np.array([row["embedding"] for row in rows], np.float32)
        except (ValueError, KeyError, TypeError) as exc:
            raise self._nonsense("no list of vectors") from exc
        if places != list(range(count)) or vectors.ndim != 2 or not vectors.shape[1]:
            raise self._nonsense(f"{len(rows)} vectors for {count} texts")
        if not np.isfinite(vectors).all():
            raise self._nonsense("vectors that are not numbers")
        if self.dimension and vectors.shape[1] != self.dimension:
            raise ServiceError(
                "dimension-mismatch",
                f"The model {self.model} gave {self.dimension} numbers before and {vectors.shape[1]} now.",
            )
        return unit_rows(vectors)

    def _nonsense(self, what: str) -> ServiceError:
        detail = f"The embedding server answered for {self.model} with {what}."
        return ServiceError("embedding-failed", detail, status=502)


def _no_answer() -> Unavailable:
    return Unavailable("embedding-server-unavailable", "The embedding server does not answer.")
