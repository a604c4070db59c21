"""What an embedder is: a model that turns texts into vectors of length 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
"""One row a text: `(texts, dimension) float32`."""


class Embedder(Protocol):
    """A model that turns texts into unit vectors. Several threads may call it at once."""

    model: str
    dimension: int
    max_tokens: int
    """How many tokens of a text the model reads, special tokens not counted."""
    fusion_weight: float
    """How much its cosine counts in a hybrid search, where the full-text relevance counts 1."""

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """Return `(len(texts), dimension) float32`, rows of length 1."""

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Return the same for questions, with the model's query prompt where it has one."""

    def count_tokens(self, text: str) -> int:
        """Return how many of the model's tokens a text has, special tokens not counted."""


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """What a knowledge base must know of its model: the length of its vectors, and how many tokens it reads."""

    dimension: int
    max_tokens: int


def unit_rows(vectors: Vectors) -> Vectors:
    """Scale each row to length 1. A row of zeros becomes the first unit vector, since a zero has no direction."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    empty = lengths[:, 0] == 0
    scaled: Vectors = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    scaled[empty, 0] = 1.0
    return scaled
