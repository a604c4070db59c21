"""An embedding model on an OpenAI-compatible server: `openai:NAME` at ZHIWEN_EMBEDDING_BASE_URL.

The protocol: https://platform.openai.com/docs/api-reference/embeddings
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import httpx
import numpy as np

from zhiwen.common.embedding.base import Vectors, unit_rows
from zhiwen.common.errors import InvalidRequest, ServiceError, Unavailable
from zhiwen.common.http_retry import ATTEMPTS, is_busy, post_json, refusal_of
from zhiwen.common.lexical.analysis import HAN

if TYPE_CHECKING:
    from zhiwen.common.settings import EmbeddingSettings

OPENAI_PREFIX: Final = "openai:"
"""The prefix of such a model's name. Names without it belong to sentence-transformers models."""
BATCH: Final = 64
LETTERS_A_TOKEN: Final = 3
QUESTION_SECONDS: Final = 10.0
QUESTION_ATTEMPTS: Final = 2
"""A person waits for a question, so it gets less time. Passages have the client's timeout and more attempts."""
_HAN: Final = re.compile(f"[{HAN}]")


@dataclass(frozen=True, slots=True)
class _Patience:
    """The largest number of attempts, and the seconds that each may take; None: the client's timeout."""

    attempts: int = ATTEMPTS
    timeout: float | None = None


class OpenAIEmbedder:
    """An `Embedder` over HTTP. Thread-safe.

    Raises `Unavailable` (`embedding-server-unavailable`) when the server does not answer or is too busy. Raises
    `ServiceError` (`embedding-failed`) when it refuses the request or does not send vectors, and `ServiceError`
    (`dimension-mismatch`) when the length of its vectors has changed.
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
        """Ask the server for one vector, to learn the dimension.

        `model` is the name with its prefix. `base_url` ends in `/v1`. `api_key` is the server's key; empty: none.
        `max_tokens` is the number of tokens that the model reads of a text; the protocol does not tell it. `timeout`
        and `question_timeout` are the seconds that one request for passages and one for questions may take. `sleep`
        waits between attempts. Raises `InvalidRequest` (`unknown-embedding-model`) without a `base_url`.
        """
        if not base_url:
            raise InvalidRequest(
                "unknown-embedding-model",
                f"The model {model} needs an embedding server, and ZHIWEN_EMBEDDING_BASE_URL is not set.",
            )
        self.model = model
        self.max_tokens = max_tokens
        self._sleep = sleep
        self._question_timeout = question_timeout
        self._silent = False
        self._probing = threading.Lock()
        self._url = f"{base_url.rstrip('/')}/embeddings"
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._client = httpx.Client(headers=headers, timeout=httpx.Timeout(timeout, connect=5.0))
        self.dimension = 0
        try:
            self.dimension = self._request(["dimension"]).shape[1]
        except BaseException:
            self.close()
            raise

    @classmethod
    def of(cls, model: str, settings: EmbeddingSettings) -> Self:
        """Return the embedder of a model on the server of the settings."""
        return cls(
            model,
            base_url=settings.embedding_base_url,
            api_key=settings.embedding_api_key.get_secret_value(),
            max_tokens=settings.embedding_max_tokens,
        )

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        return self._embed(texts, _Patience())

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        with self._patience_for_questions() as patience:
            return self._embed(texts, patience)

    def count_tokens(self, text: str) -> int:
        """Return an estimate: a token per Chinese character and per 3 other characters. English text has fewer."""
        han = len(_HAN.findall(text))
        return han + -(-(len(text) - han) // LETTERS_A_TOKEN)

    def close(self) -> None:
        """Close the connections to the server."""
        self._client.close()

    @contextmanager
    def _patience_for_questions(self) -> Iterator[_Patience]:
        """Yield how long a question may wait.

        If the server did not answer the last question in time, only one question at a time asks the server, and all
        others fail at once. Otherwise each of them would hold a thread for the whole timeout, and questions to other
        knowledge bases would get no thread. The one question that asks has the long timeout of passages, because the
        server may be loading its model.
        """
        probes = self._silent
        if probes and not self._probing.acquire(blocking=False):
            raise _no_answer()
        try:
            yield _Patience(attempts=1) if probes else _Patience(QUESTION_ATTEMPTS, self._question_timeout)
            self._silent = False
        except ServiceError as exc:
            self._silent = isinstance(exc.__cause__, httpx.TimeoutException)
            raise
        finally:
            if probes:
                self._probing.release()

    def _embed(self, texts: Sequence[str], patience: _Patience) -> Vectors:
        if not texts:
            return np.zeros((0, self.dimension), np.float32)
        batches = (texts[start : start + BATCH] for start in range(0, len(texts), BATCH))
        return np.concatenate([self._request(batch, patience) for batch in batches])

    def _request(self, texts: Sequence[str], patience: _Patience = _Patience()) -> Vectors:
        """Return the vectors of one request."""
        body = {"model": self.model.removeprefix(OPENAI_PREFIX), "input": list(texts), "encoding_format": "float"}
        try:
            response = post_json(
                self._client,
                self._url,
                body,
                attempts=patience.attempts,
                timeout=patience.timeout,
                sleep=self._sleep,
            )
        except httpx.TransportError as exc:
            raise _no_answer() from exc
        if is_busy(response):
            raise Unavailable(
                "embedding-server-unavailable", f"The embedding server answers {response.status_code}; try again later."
            )
        if response.status_code != 200:
            said = refusal_of(response)
            raise ServiceError("embedding-failed", f"The embedding server refused {self.model}: {said}", status=502)
        return self._vectors_of(response, len(texts))

    def _vectors_of(self, response: httpx.Response, count: int) -> Vectors:
        """Return the `count` vectors of a response. Raises `ServiceError` unless they are what was asked for."""
        try:
            rows: list[dict[str, Any]] = sorted(response.json()["data"], key=lambda row: int(row["index"]))
            places = [int(row["index"]) for row in rows]
            vectors = np.array([row["embedding"] for row in rows], np.float32)
        except (ValueError, KeyError, TypeError) as exc:
            raise self._wrong_answer("no list of vectors") from exc
        if places != list(range(count)) or vectors.ndim != 2 or not vectors.shape[1]:
            raise self._wrong_answer(f"{len(rows)} vectors for {count} texts")
        if not np.isfinite(vectors).all():
            raise self._wrong_answer("vectors that are not numbers")
        if self.dimension and vectors.shape[1] != self.dimension:
            raise ServiceError(
                "dimension-mismatch",
                f"The model {self.model} gave {self.dimension} numbers before and {vectors.shape[1]} now.",
            )
        return unit_rows(vectors)

    def _wrong_answer(self, what: str) -> ServiceError:
        detail = f"The embedding server answered for {self.model} with {what}."
        return ServiceError("embedding-failed", detail, status=502)


def _no_answer() -> Unavailable:
    return Unavailable("embedding-server-unavailable", "The embedding server does not answer.")
