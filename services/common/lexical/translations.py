"""A Chinese-English word table for questions, from CC-CEDICT's glosses and from aligned sentences.

`training/build_translations.py` builds the table. `services/common/data/cedict/ATTRIBUTION.md` names its sources and
its licence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Final, Self
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

DEFAULT_TABLE: Final = Path(__file__).parents[1] / "data" / "cedict" / "translations.npz"
_FULL_WEIGHT: Final = 255


@dataclass(frozen=True, slots=True)
class Translation:
    """A word of the other language, and its likelihood relative to the likeliest translation, 0..1."""

    word: str
    weight: float


@dataclass(frozen=True, slots=True, eq=False)
class Translations:
    """A table of translations. A source is a folded Chinese word, an English stem, or two or three stems with spaces.

    The table is kept in arrays, so a translation takes about 10 bytes instead of 100. `words` is one UTF-8 string of
    all words, and `word_ends` `(words,)` holds the end of each. `sources` `(sources,)` holds the sorted hashes of
    sources. The translations of source i are the entries `starts[i]` to `starts[i + 1]` of `targets` and `weights`
    `(translations,)`: numbers of words, and weights in 255ths. `background_ids` and `background_shares` `(terms,)`
    hold, for each term, the share of general texts in its own language that contain it.
    """

    words: bytes
    word_ends: NDArray[np.uint32]
    sources: NDArray[np.uint32]
    starts: NDArray[np.uint32]
    targets: NDArray[np.uint32]
    weights: NDArray[np.uint8]
    background_ids: NDArray[np.uint32]
    background_shares: NDArray[np.float32]

    @classmethod
    def load(cls, path: Path = DEFAULT_TABLE) -> Self:
        """Read the table from its file, in about 20 ms."""
        with np.load(path) as arrays:
            return cls(
                arrays["words"].tobytes(),
                arrays["word_ends"],
                arrays["sources"],
                arrays["starts"],
                arrays["targets"],
                arrays["weights"],
                arrays["background_ids"],
                arrays["background_shares"].astype(np.float32),
            )

    @classmethod
    def of(cls, table: Mapping[str, Sequence[Translation]], background: Mapping[int, float] | None = None) -> Self:
        """Build a table. `table` maps sources to translations, and `background` term ids to shares of general texts."""
        distinct = dict.fromkeys(t.word for found in table.values() for t in found)
        words = {word: number for number, word in enumerate(distinct)}
        rows = sorted({source_id(source): list(found) for source, found in table.items()}.items(), key=itemgetter(0))
        shares = sorted((background or {}).items())
        encoded = [word.encode() for word in words]
        return cls(
            b"".join(encoded),
            np.cumsum([len(word) for word in encoded], dtype=np.uint32),
            np.array([source for source, _ in rows], np.uint32),
            np.cumsum([0] + [len(found) for _, found in rows], dtype=np.uint32),
            np.array([words[t.word] for _, found in rows for t in found], np.uint32),
            np.array([max(1, round(t.weight * _FULL_WEIGHT)) for _, found in rows for t in found], np.uint8),
            np.array([key for key, _ in shares], np.uint32),
            np.array([share for _, share in shares], np.float32),
        )

    def save(self, path: Path) -> None:
        """Write the table to a file, compressed."""
        np.savez_compressed(
            path,
            words=np.frombuffer(self.words, np.uint8),
            word_ends=self.word_ends,
            sources=self.sources,
            starts=self.starts,
            targets=self.targets,
            weights=self.weights,
            background_ids=self.background_ids,
            background_shares=self.background_shares.astype(np.float16),
        )

    def of_source(self, source: str) -> list[Translation]:
        """Return the translations of a word or phrase; an empty list if it is unknown."""
        wanted = source_id(source)
        place = int(np.searchsorted(self.sources, np.uint32(wanted)))
        if place == len(self.sources) or self.sources[place] != wanted:
            return []
        span = slice(int(self.starts[place]), int(self.starts[place + 1]))
        found = zip(self.targets[span].tolist(), self.weights[span].tolist(), strict=True)
        return [Translation(self._word(target), weight / _FULL_WEIGHT) for target, weight in found]

    def general_shares(self, ids: NDArray[np.uint32]) -> NDArray[np.float32]:
        """Return the share of general texts that hold each term, `(n,) float32`; 0 for a rare term."""
        if not len(self.background_ids):
            return np.zeros(len(ids), np.float32)
        places = np.minimum(np.searchsorted(self.background_ids, ids), len(self.background_ids) - 1)
        return np.where(self.background_ids[places] == ids, self.background_shares[places], np.float32(0))

    def _word(self, number: int) -> str:
        start = int(self.word_ends[number - 1]) if number else 0
        return self.words[start : int(self.word_ends[number])].decode()


def source_id(source: str) -> int:
    """Return the 32-bit hash of a word or phrase: its key in the table."""
    return crc32(source.encode())
