"""The interface of an embedder: a model that turns texts into vectors of length 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
"""One row for each text: `(texts, dimension) float32`."""


class Embedder(Protocol):
    """A model that turns texts into unit vectors. Several threads may call it at once."""

    model: str
    dimension: int
    max_tokens: int
    """The number of tokens that the model reads of a text, without special tokens."""

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """Return `(len(texts), dimension) float32`, rows of length 1."""

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Return the vectors of questions, with the model's query prompt if it has one; shape as `embed_passages`."""

    def count_tokens(self, text: str) -> int:
        """Return the number of the model's tokens in a text, without special tokens."""


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """What a knowledge base must know about its model: the length of its vectors, and the number of tokens it reads."""

    dimension: int
    max_tokens: int


def unit_rows(vectors: Vectors) -> Vectors:
    """Return each row scaled to length 1. A row of zeros has no direction and becomes the first unit vector."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    empty = lengths[:, 0] == 0
    scaled: Vectors = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    scaled[empty, 0] = 1.0
    return scaled
