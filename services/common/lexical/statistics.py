"""Term statistics: the number of chunks that hold each term, per document version and summed per knowledge base."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

_HEADER: Final = struct.Struct("<BII")  # format, chunks, terms
_FORMAT: Final = 1
_TERM_BYTES: Final = 4

Ids = NDArray[np.uint32]
Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class TermStatistics:
    """Document frequencies by term id: `ids` `(n,)` ascending, `counts` `(n,)` positive, over `chunks` chunks.

    `add` and `remove` return new statistics, so readers need no lock.
    """

    chunks: int
    ids: Ids
    counts: Counts

    @classmethod
    def empty(cls) -> Self:
        """Return the statistics of no chunks."""
        return cls(0, np.empty(0, np.uint32), np.empty(0, np.int64))

    @classmethod
    def of(cls, chunks: Iterable[Collection[int]]) -> Self:
        """Return the statistics of chunks. A chunk is given by its term ids: the keys of its sparse vector."""
        parts = [np.fromiter(set(terms), np.uint32) for terms in chunks]
        if not parts:
            return cls.empty()
        ids, counts = np.unique(np.concatenate(parts), return_counts=True)
        return cls(len(parts), ids, counts.astype(np.int64))

    @classmethod
    def total(cls, parts: Sequence[TermStatistics]) -> Self:
        """Return the sum of many statistics, with a single sort."""
        return cls._summed(sum(part.chunks for part in parts), [(part.ids, part.counts) for part in parts])

    def add(self, other: TermStatistics) -> TermStatistics:
        """Return the statistics of the chunks of both together."""
        return TermStatistics.total([self, other])

    def remove(self, other: TermStatistics) -> TermStatistics:
        """Return the statistics without the chunks of `other`. No count becomes negative."""
        parts = [(self.ids, self.counts), (other.ids, -other.counts)]
        return TermStatistics._summed(max(0, self.chunks - other.chunks), parts)

    def document_frequencies(self, ids: Sequence[int] | NDArray[np.integer]) -> Counts:
        """Return the number of chunks that hold each of `ids`, `(n,) int64`; 0 for an unknown one."""
        wanted = np.asarray(ids, np.uint32)
        if not len(self.ids):
            return np.zeros(len(wanted), np.int64)
        places = np.minimum(np.searchsorted(self.ids, wanted), len(self.ids) - 1)
        return np.where(self.ids[places] == wanted, self.counts[places], 0)

    def to_bytes(self) -> bytes:
        """Return the statistics in about 3 bytes per term: differences of ids, and counts, as deflated byte planes."""
        deltas = np.diff(self.ids, prepend=np.uint32(0)).astype("<u4")
        planes = [_planes(deltas), _planes(self.counts.astype("<u4"))]
        return _HEADER.pack(_FORMAT, self.chunks, len(self.ids)) + zlib.compress(b"".join(planes), 6)

    @classmethod
    def from_bytes(cls, blob: bytes) -> Self:
        """Read what `to_bytes` wrote. Raises ValueError for anything else."""
        try:
            version, chunks, terms = _HEADER.unpack_from(blob)
            raw = zlib.decompress(blob[_HEADER.size :])
        except (struct.error, zlib.error) as exc:
            raise ValueError("not term statistics") from exc
        if version != _FORMAT or len(raw) != 2 * _TERM_BYTES * terms:
            raise ValueError("not term statistics of this format")
        half = _TERM_BYTES * terms
        ids = np.cumsum(_numbers(raw[:half]), dtype=np.uint64).astype(np.uint32)
        return cls(chunks, ids, _numbers(raw[half:]).astype(np.int64))

    @classmethod
    def _summed(cls, chunks: int, parts: Sequence[tuple[Ids, Counts]]) -> Self:
        if not parts:
            return cls.empty()
        ids, places = np.unique(np.concatenate([ids for ids, _ in parts]), return_inverse=True)
        weights = np.concatenate([counts for _, counts in parts])
        counts = np.bincount(places, weights, minlength=len(ids)).astype(np.int64)
        kept = counts > 0
        return cls(chunks, ids[kept], counts[kept])


def _planes(numbers: NDArray[np.uint32]) -> bytes:
    """Return all lowest bytes, then all second bytes, and so on: similar bytes next to each other deflate better."""
    return numbers.view(np.uint8).reshape(-1, _TERM_BYTES).T.tobytes()


def _numbers(planes: bytes) -> NDArray[np.uint32]:
    return np.frombuffer(planes, np.uint8).reshape(_TERM_BYTES, -1).T.copy().view("<u4").ravel()
