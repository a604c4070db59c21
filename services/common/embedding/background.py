"""What a model's cosines mean in a collection: cosines between unrelated texts, from a sample of its chunks. Pure.

The cosines of one model lie in 0..0.8, those of another in 0.5..0.9. So a cosine is stated in deviations from the mean
cosine between the question and unrelated chunks.

The sample is a min-hash sample: each chunk has a hash, which assigns it to one of `SLOTS` slots, and a slot keeps the
chunk with the lowest hash. So the sample does not depend on the order of indexing, on the number of workers, or on
what is done twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from zhiwen.common.embedding.base import Vectors, unit_rows
from zhiwen.common.lexical.sentences import split_sentences
from zhiwen.common.models import Sampled

SLOTS: Final = 128
"""The most chunks in a sample."""
FEWEST: Final = 32
"""A smaller sample is filled up with `UNRELATED` to this number."""
TAIL: Final = 2.0
"""Where the tail of the cosines between unrelated texts begins, in deviations."""
_TRIMMED: Final = 0.1
"""The share of the lowest and of the highest cosines that are left out: the right passages may be in the sample."""
_TRIMMED_DEVIATION: Final = 0.6616
"""The deviation of a normal distribution whose lowest and highest tenth are cut off, in its own deviations."""
_LEAST_DEVIATION: Final = 0.002
"""Rounding to 16 bits moves a cosine by less than this. So equal vectors do not differ in anything."""
_PRIOR_SPREAD: Final = 0.6
"""The mean excess over `TAIL` that is assumed before any cosine is seen; of a normal distribution: 0.37."""
_PRIOR_EXCESSES: Final = 20
_LEAST_HALVES: Final = 8
UNRELATED: Final = (
    "请将发票按月份整理后交给会计。",
    "这座桥建于明代，全长一百二十米。",
    "打开设置，选择网络，然后重新启动路由器。",
    "成年猫每天需要睡十二个小时以上。",
    "合同自双方签字盖章之日起生效。",
    "高血压患者应当少吃盐，并按时服药。",
    "这部小说讲述了一个渔村三代人的故事。",
    "列车将于下午三点二十分到达南京。",
    "光在真空中的速度约为每秒三十万公里。",
    "球队在加时赛中以一分之差获胜。",
    "把面团揉匀，盖上湿布，静置一小时。",
    "水稻在抽穗期需要充足的水分。",
    "存款利率由中国人民银行公布。",
    "编译时请打开优化选项，以提高运行速度。",
    "候选人须在三十日内提交学历证明。",
    "台风预计明天夜间在沿海登陆。",
    "Please return the library books before the end of the term.",
    "The volcano last erupted in the eighteenth century.",
    "Press and hold the power button for ten seconds.",
    "Bees communicate the position of flowers by dancing.",
    "The tenant pays the deposit when the lease is signed.",
    "A balanced diet contains vegetables, fruit and whole grains.",
    "The orchestra opened the season with a symphony by Haydn.",
    "The ferry leaves the island twice a day in summer.",
    "Water boils at a lower temperature on high mountains.",
    "The striker scored twice in the second half.",
    "Melt the butter and stir in the sugar.",
    "Wheat is sown in autumn and harvested in July.",
    "The central bank left the interest rate unchanged.",
    "The function returns an empty list when no file is found.",
    "Applicants must be at least eighteen years old.",
    "Heavy snow closed the mountain passes on Tuesday.",
)
"""Short texts in two languages that have nothing in common. They stand in for a collection of a few chunks."""


# Choosing the sample


def slot_and_hash(chunk_id: str) -> tuple[int, int]:
    """Return the slot of a chunk, 0..127, and its hash, 0..2^63 - 1."""
    value = int.from_bytes(hashlib.blake2b(chunk_id.encode(), digest_size=8).digest(), "big") >> 1
    return value % SLOTS, value


def lowest(chunk_ids: Sequence[str], known: Mapping[int, int]) -> dict[int, int]:
    """Return {slot: place in `chunk_ids`} of the chunks that belong into the sample.

    `known` holds the hashes of the slots that are taken. A chunk takes a slot only with a lower hash.
    """
    taken = dict(known)
    places: dict[int, int] = {}
    for place, id in enumerate(chunk_ids):
        slot, value = slot_and_hash(id)
        if slot not in taken or value < taken[slot]:
            taken[slot] = value
            places[slot] = place
    return places


def to_bytes(vector: NDArray[np.float32]) -> bytes:
    """Return a vector as 16-bit numbers."""
    return vector.astype("<f2").tobytes()


def vectors_of(blobs: Sequence[bytes]) -> Vectors:
    """Return vectors of equal length that `to_bytes` has written, `(n, dimension) float32`, rows of length 1."""
    return unit_rows(np.array([np.frombuffer(blob, "<f2") for blob in blobs], np.float32))


def halves_of(text: str) -> tuple[str, str]:
    """Return the two halves of a text, cut at the end of the sentence that is nearest to the middle."""
    sentences = split_sentences(text)
    ends = np.cumsum([len(sentence) for sentence in sentences])[:-1]
    middle = len(text) // 2
    cut = int(ends[np.argmin(np.abs(ends - middle))]) if len(ends) else middle
    return text[:cut], text[cut:]


# Reading the sample


@dataclass(frozen=True, slots=True)
class Standard:
    """What cosines with one question are measured by: their mean and deviation with unrelated chunks."""

    mean: float
    deviation: float

    def of(self, cosines: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return cosines in deviations from the mean. When all texts are alike to the model, none stands out: 0."""
        if self.deviation < _LEAST_DEVIATION:
            return np.zeros(cosines.shape)
        return (cosines.astype(np.float64) - self.mean) / self.deviation


@dataclass(frozen=True, slots=True)
class Cosines:
    """The distribution of the cosines between different chunks of a sample of `samples` chunks."""

    samples: int
    mean: float
    deviation: float
    p99: float


@dataclass(frozen=True, eq=False)
class Background:
    """Unrelated texts of a collection: unit vectors `(n, dimension) float32`.

    `openings` and `rests` are the vectors of the two halves of the same chunks, `(m, dimension) float32`; m is 0 when
    the model is known.
    """

    vectors: Vectors
    openings: Vectors
    rests: Vectors

    @classmethod
    def of(cls, sample: Sequence[Sampled], unrelated: Vectors) -> Background:
        """Return the background that a sample gives; a small one is filled up with the vectors of `UNRELATED`."""
        missing = max(0, FEWEST - len(sample))
        spread_out = np.linspace(0, len(unrelated), missing, endpoint=False).astype(int)
        own = vectors_of([row.vector for row in sample]) if sample else unrelated[:0]
        halves = [(row.opening, row.rest) for row in sample if row.opening is not None and row.rest is not None]
        openings, rests = (vectors_of(side) if side else unrelated[:0] for side in (list(x) for x in _sides(halves)))
        return cls(np.concatenate([own, unrelated[spread_out]]), openings, rests)

    def standard(self, question: NDArray[np.float32]) -> Standard:
        """Return what the cosines with a question, a unit vector, are measured by."""
        mean, deviation = trimmed((self.vectors @ question)[None])
        return Standard(float(mean[0, 0]), float(deviation[0, 0]))

    @cached_property
    def spread(self) -> float:
        """The mean excess of the tail of the standardised cosines over `TAIL`, in deviations.

        The tail of a model that knows subjects is long: texts of one subject are not quite unrelated.
        """
        cosines = _others(self.vectors)
        mean, deviation = trimmed(cosines)
        standardised = (cosines - mean) / np.maximum(deviation, _LEAST_DEVIATION)
        excesses = standardised[standardised > TAIL] - TAIL
        total = float(excesses.sum()) + _PRIOR_EXCESSES * _PRIOR_SPREAD
        return total / (len(excesses) + _PRIOR_EXCESSES)

    @cached_property
    def skill(self) -> float | None:
        """How well the model finds the second half of a chunk by the first: the median in deviations from the others.

        None when too few halves are known.
        """
        if len(self.openings) < _LEAST_HALVES:
            return None
        cosines = self.openings @ self.rests.T
        mean, deviation = trimmed(cosines)
        own = (np.diag(cosines) - mean[:, 0]) / np.maximum(deviation[:, 0], _LEAST_DEVIATION)
        return float(np.median(own))


def cosines_of(sample: Sequence[Sampled]) -> Cosines | None:
    """Return how the cosines between the chunks of a sample are distributed; None for fewer than two chunks."""
    if len(sample) < 2:
        return None
    cosines = _others(vectors_of([row.vector for row in sample]))
    return Cosines(len(sample), float(cosines.mean()), float(cosines.std()), float(np.quantile(cosines, 0.99)))


def trimmed(cosines: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and deviation of each row, `(rows, 1)` each, as if its tails were those of a normal distribution."""
    count = cosines.shape[1]
    cut = int(count * _TRIMMED)
    kept = np.sort(cosines.astype(np.float64), axis=1)[:, cut : count - cut]
    deviation = kept.std(axis=1, keepdims=True) / (_TRIMMED_DEVIATION if cut else 1.0)
    return kept.mean(axis=1, keepdims=True), deviation


def _others(vectors: Vectors) -> NDArray[np.float32]:
    """Return the cosines of each vector with all others, `(n, n - 1)`."""
    count = len(vectors)
    cosines = vectors @ vectors.T
    found: NDArray[np.float32] = cosines[~np.eye(count, dtype=bool)].reshape(count, count - 1)
    return found


def _sides(halves: Sequence[tuple[bytes, bytes]]) -> tuple[Sequence[bytes], Sequence[bytes]]:
    return [opening for opening, _ in halves], [rest for _, rest in halves]
