"""A deterministic embedder without a model, for tests."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from zhiwen.common.embedding.base import Vectors, unit_rows


class HashEmbedder:
    """An `Embedder` that hashes words and pairs of neighbouring characters. Each character counts as a token."""

    def __init__(self, dimension: int = 64, max_tokens: int = 256) -> None:
        self.model = f"hash-{dimension}"
        self.dimension = dimension
        self.max_tokens = max_tokens

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
