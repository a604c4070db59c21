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
    """A word of the other language, and how likely it is beside the likeliest translation, 0..1."""

    word: str
    weight: float


@dataclass(frozen=True, slots=True, eq=False)
class Translations:
    """The translations of a source: a folded Chinese word, an English stem, or up to three stems joined by spaces.

    `words` is one UTF-8 string of all words, `word_ends` `(words,)` says where each ends. `sources` `(sources,)` are
    sorted hashes, and source i has the translations `starts[i]` to `starts[i + 1]` of `targets` and `weights`
    `(translations,)`, numbers of words and 255ths. So a translation takes some 10 bytes instead of 100.
    `background_ids` and `background_shares` `(terms,)` say which share of general texts of the term's own language
    holds a term.
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
        """Read the table from its file, in some 20 ms."""
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
        """Build the table. `table` maps sources to translations, `background` term ids to shares of general texts."""
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
        """Return the translations of a word or phrase, none for an unknown one."""
        wanted = source_id(source)
        place = int(np.searchsorted(self.sources, np.uint32(wanted)))
        if place == len(self.sources) or self.sources[place] != wanted:
            return []
        span = slice(int(self.starts[place]), int(self.starts[place + 1]))
        found = zip(self.targets[span].tolist(), self.weights[span].tolist(), strict=True)
        return [Translation(self._word(target), weight / _FULL_WEIGHT) for target, weight in found]

    def general_shares(self, ids: NDArray[np.uint32]) -> NDArray[np.float32]:
        """Return for each term id the share of general texts that hold it, `(n,) float32`; 0 for a rare one."""
        if not len(self.background_ids):
            return np.zeros(len(ids), np.float32)
        places = np.minimum(np.searchsorted(self.background_ids, ids), len(self.background_ids) - 1)
        return np.where(self.background_ids[places] == ids, self.background_shares[places], np.float32(0))

    def _word(self, number: int) -> str:
        start = int(self.word_ends[number - 1]) if number else 0
        return self.words[start : int(self.word_ends[number])].decode()


def source_id(source: str) -> int:
    """Return the 32-bit hash under which a word or phrase is found."""
    return crc32(source.encode())
