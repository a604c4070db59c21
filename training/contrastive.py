"""Contrastive training of a table of word vectors, in numpy and scipy.

The loss is symmetric InfoNCE (van den Oord et al. 2018), the optimiser Adagrad (Duchi et al. 2011) with one accumulator
a row. Rows start with the weights a / (a + p) of Arora et al. 2017.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
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
class Group:
    """Pairs of one kind. `weight` is how often they are drawn, relative to other groups.

    `members`, `(n,)`, are numbers of pairs in the order of their file. `together` neighbours are drawn at once.
    """

    members: Ints
    weight: float
    together: int = 1

    def shuffled(self, random: np.random.Generator) -> Ints:
        """Return the members in a random order that keeps `together` neighbours beside each other."""
        turned = np.roll(self.members, int(random.integers(len(self.members))))
        parts = np.split(turned, range(self.together, len(turned), self.together))
        return np.concatenate([parts[place] for place in random.permutation(len(parts))])


@dataclass(frozen=True, slots=True)
class Plan:
    """The parameters of the training.

    A batch has `batch` pairs in `quarters` equal parts. `scale` multiplies the cosines in the loss, `frequency_weight`
    is the a of the starting weights.
    """

    dimension: int = 384
    steps: int = 1800
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


def batches(groups: Sequence[Group], plan: Plan, random: np.random.Generator) -> Iterator[Ints]:
    """Yield the pairs of `plan.steps` batches, as numbers.

    Each quarter of a batch comes from one group, chosen with a probability by its weight. So most negatives are of the
    same kind and language as the positive. The pairs of a group are shuffled, and repeated when all were used. A group
    that is smaller than a quarter gives all its pairs.
    """
    weights = np.array([group.weight for group in groups])
    queues = [group.shuffled(random) for group in groups]
    quarter = plan.batch // plan.quarters
    for _ in range(plan.steps):
        chosen = random.choice(len(groups), plan.quarters, p=weights / weights.sum())
        parts = []
        for group in chosen:
            if len(queues[group]) < quarter:
                queues[group] = groups[group].shuffled(random)
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
    odds: Float = anchors @ positives.T
    odds -= np.float32(1)  # no cosine is larger, so no power overflows
    odds *= np.float32(scale)
    np.exp(odds, out=odds)
    odds[same] = 0
    forward, backward = odds.sum(axis=1, keepdims=True), odds.sum(axis=0, keepdims=True)
    diagonal = np.arange(size)
    own = odds[diagonal, diagonal]
    loss = -0.5 * float(np.mean(np.log(own / forward[:, 0] * (own / backward[0]) + 1e-30)))
    odds *= np.float32(0.5) / forward + np.float32(0.5) / backward
    odds[diagonal, diagonal] -= 1.0
    odds *= np.float32(scale / size)
    return loss, odds @ positives, odds.T @ anchors


def train(encoded: Encoded, pairs: Ints, groups: Sequence[Group], frequencies: Float, plan: Plan) -> Float:
    """Return the learned table, `(rows, dimension) float32`.

    `encoded` are the texts and `plan` the parameters. `pairs`, `(n, 2)`, are the numbers of the texts that belong
    together, `groups` what batches are drawn from, and `frequencies`, `(rows,)`, the share of texts that have
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
    gradient *= (rate / np.sqrt(memory[rows] + 1e-20)).astype(np.float32)[:, None]
    part -= gradient
    table[rows] = part
    return loss
