"""The built-in embedding model behind OpenAI's `/v1/embeddings`."""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING, Any

from zhiwen.llm_gateway.errors import invalid_field
from zhiwen.llm_gateway.request import ModelRequest

if TYPE_CHECKING:
    from zhiwen.common.embedding.base import Embedder

MAX_TEXTS = 2048


class BuiltInEmbeddings:
    """One embedding model, which serves one request at a time in a thread: a second would only slow the first down."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._turn = asyncio.Lock()

    @property
    def model(self) -> str:
        """The model's name."""
        return self._embedder.model

    async def answer(self, request: ModelRequest) -> dict[str, Any]:
        """Return OpenAI's list of embeddings. Raises `InvalidRequest` for an unsupported input or option."""
        texts = _texts_of(request)
        as_base64 = _wants_base64(request)
        if request.fields.get("dimensions") not in (None, self._embedder.dimension):
            dimension = self._embedder.dimension
            raise invalid_field("dimensions", f"{self.model} only has {dimension} dimensions.")
        async with self._turn:
            return await asyncio.to_thread(self._embed, texts, as_base64, request.fields.get("input_type") == "query")

    def _embed(self, texts: list[str], as_base64: bool, queries: bool) -> dict[str, Any]:
        embed = self._embedder.embed_queries if queries else self._embedder.embed_passages
        rows = embed(texts)
        tokens = sum(self._embedder.count_tokens(text) for text in texts)
        data = [
            {
                "object": "embedding",
                "index": index,
                "embedding": base64.b64encode(row.astype("<f4").tobytes()).decode() if as_base64 else row.tolist(),
            }
            for index, row in enumerate(rows)
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return {"object": "list", "data": data, "model": self.model, "usage": usage}


def _texts_of(request: ModelRequest) -> list[str]:
    given = request.fields.get("input")
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text for text in texts):
        raise invalid_field("input", "input must be a text or a list of texts, none of them empty.")
    if len(texts) > MAX_TEXTS:
        raise invalid_field("input", f"input holds more than {MAX_TEXTS} texts.")
    return texts


def _wants_base64(request: ModelRequest) -> bool:
    wanted = request.fields.get("encoding_format", "float")
    if wanted not in ("float", "base64"):
        raise invalid_field("encoding_format", "encoding_format must be float or base64.")
    return bool(wanted == "base64")
