"""Contrastive training of a table of word vectors, in numpy and scipy.

The loss is symmetric InfoNCE (van den Oord et al. 2018), the optimiser Adagrad (Duchi et al. 2011) with one accumulator
a row. Rows start with the weights a / (a + p) of Arora et al. 2017.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Float = NDArray[np.float32]
Ints = NDArray[np.int64]
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Encoded:
    """Texts as distinct rows of the table: text i has `rows[starts[i]:starts[i + 1]]`."""

    rows: NDArray[np.int32]
    starts: Ints

    def matrix(self, texts: Ints) -> tuple[Ints, sparse.csr_matrix]:
        """Return the rows of these texts, `(r,)`, and which text has which row, a 0-1 matrix `(len(texts), r)`."""
        lengths = self.starts[texts + 1] - self.starts[texts]
        ends = np.cumsum(lengths)
        flat = np.arange(ends[-1]) - np.repeat(ends - lengths, lengths) + np.repeat(self.starts[texts], lengths)
        used, columns = np.unique(self.rows[flat], return_inverse=True)
        pointers = np.concatenate([[0], ends])
        ones = np.ones(len(columns), np.float32)
        return used.astype(np.int64), sparse.csr_matrix((ones, columns, pointers), shape=(len(texts), len(used)))


@dataclass(frozen=True, slots=True)
class Plan:
    """The parameters of the training.

    A batch has `batch` pairs in `quarters` equal parts. `scale` multiplies the cosines in the loss, `frequency_weight`
    is the a of the starting weights.
    """

    dimension: int = 384
    steps: int = 1200
    batch: int = 2048
    quarters: int = 4
    warm_up: int = 20
    learning_rate: float = 0.4
    scale: float = 15.0
    frequency_weight: float = 1e-4
    seed: int = 1


def initial_table(frequencies: Float, plan: Plan, random: np.random.Generator) -> Float:
    """Return rows of N(0, 1) * sqrt(a / (a + p)). `frequencies`, `(rows,)`, is p: the share of texts with the token."""
    weights = np.sqrt(plan.frequency_weight / (plan.frequency_weight + frequencies))
    table = random.standard_normal((len(frequencies), plan.dimension), dtype=np.float32)
    return np.asarray(table * weights[:, None], np.float32)


def batches(groups: list[Ints], plan: Plan, random: np.random.Generator) -> Iterator[Ints]:
    """Yield the pairs of `plan.steps` batches, as numbers.

    Each quarter of a batch comes from one group, chosen with a probability by its size. So most negatives are of the
    same kind and language as the positive. The pairs of a group are shuffled, and repeated when all were used.
    """
    sizes = np.array([len(group) for group in groups], float)
    queues = [random.permutation(group) for group in groups]
    quarter = plan.batch // plan.quarters
    for _ in range(plan.steps):
        chosen = random.choice(len(groups), plan.quarters, p=sizes / sizes.sum())
        parts = []
        for group in chosen:
            if len(queues[group]) < quarter:
                queues[group] = random.permutation(groups[group])
            parts.append(queues[group][:quarter])
            queues[group] = queues[group][quarter:]
        yield np.concatenate(parts)


def unit(vectors: Float) -> tuple[Float, Float]:
    """Return rows of length 1, and the lengths they had, `(n, 1)`. Rows of zeros stay zeros."""
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))[:, None]
    lengths = np.maximum(lengths, 1e-9).astype(np.float32)
    return vectors / lengths, lengths


def info_nce(anchors: Float, positives: Float, same: NDArray[np.bool_], scale: float) -> tuple[float, Float, Float]:
    """Return the symmetric InfoNCE loss of unit rows, `(n, dimension)` each, and its gradient for either.

    `same`, `(n, n)`, marks the places off the diagonal whose pairs share a text, and which are therefore no negatives.
    `scale` multiplies the cosines.
    """
    size = len(anchors)
    logits = scale * (anchors @ positives.T)
    logits[same] = -1e9
    forward, backward = _softmax(logits, 1), _softmax(logits, 0)
    diagonal = np.arange(size)
    loss = -0.5 * float(np.mean(np.log(forward[diagonal, diagonal] * backward[diagonal, diagonal] + 1e-30)))
    gradient: Float = np.float32(0.5) * (forward + backward)
    gradient[diagonal, diagonal] -= 1.0
    gradient *= np.float32(scale / size)
    return loss, gradient @ positives, gradient.T @ anchors


def _softmax(logits: Float, axis: int) -> Float:
    shifted = np.exp(logits - logits.max(axis=axis, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=axis, keepdims=True), np.float32)


def train(encoded: Encoded, pairs: Ints, groups: list[Ints], frequencies: Float, plan: Plan) -> Float:
    """Return the learned table, `(rows, dimension) float32`.

    `encoded` are the texts and `plan` the parameters. `pairs`, `(n, 2)`, are the numbers of the texts that belong
    together, `groups` the numbers of the pairs of a group, and `frequencies`, `(rows,)`, the share of texts that have
    each token.
    """
    random = np.random.default_rng(plan.seed)
    table = initial_table(frequencies, plan, random)
    memory = np.zeros(len(table), np.float32)
    for step, chosen in enumerate(batches(groups, plan, random)):
        rate = plan.learning_rate * min((step + 1) / plan.warm_up, 1 - step / plan.steps)
        taken = pairs[chosen]
        inputs = encoded.matrix(np.concatenate([taken[:, 0], taken[:, 1]]))
        loss = _learn(table, memory, inputs, taken, rate, plan.scale)
        if step % 50 == 0:
            log.info("step %d of %d: loss %.3f", step, plan.steps, loss)
    return table


def _learn(
    table: Float, memory: Float, inputs: tuple[Ints, sparse.csr_matrix], pairs: Ints, rate: float, scale: float
) -> float:
    """Take one step and return its loss. `table` and `memory`, Adagrad's accumulators `(rows,)`, change in place.

    `inputs` is `Encoded.matrix` of the texts of `pairs`, all first texts before all second ones. `rate` is the learning
    rate, and `scale` multiplies the cosines.
    """
    size = len(pairs)
    rows, presence = inputs
    part = table[rows]
    vectors, lengths = unit(np.asarray(presence @ part, np.float32))
    same = (pairs[:, None, 0] == pairs[None, :, 0]) | (pairs[:, None, 1] == pairs[None, :, 1])
    np.fill_diagonal(same, False)
    loss, anchors, positives = info_nce(vectors[:size], vectors[size:], same, scale)
    outer = np.concatenate([anchors, positives])
    inner = (outer - vectors * np.einsum("ij,ij->i", outer, vectors)[:, None]) / lengths
    gradient = np.asarray(presence.T @ inner, np.float32)
    memory[rows] += np.einsum("ij,ij->i", gradient, gradient) / table.shape[1]
    table[rows] = part - rate * gradient / np.sqrt(memory[rows] + 1e-20)[:, None]
    return loss
