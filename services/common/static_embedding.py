"""The built-in bilingual embedder: a table of word vectors, summed. No torch, no download, no GPU.

A text's vector is the L2-normalised sum of the table rows of the *distinct* tokens it holds (presence, not
frequency: a chunk that repeats its subject is not about it more). Chinese runs give every 1- to 4-gram that the
vocabulary knows, other words their Snowball stem, or their character 4-grams where the stem is unknown. The table
is trained by `training/train_embedder.py`; its card beside it names data, licences and scores.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.common.words import HAN, runs, stem

DEFAULT_ARTIFACT: Final = Path(__file__).parent / "data" / "embedder"

_PIECES: Final = re.compile(f"([{HAN}])|([^\\W_{HAN}]+)|[^\\w\\s]+|_+")
_LONGEST_HAN_GRAM: Final = 4
_PIECE_GRAM: Final = 4
_LONGEST_WORD: Final = 64
_LETTERS_A_TOKEN: Final = 6
_MARKS_A_TOKEN: Final = 4


def han_grams(run: str) -> Iterator[str]:
    """Yield every 1- to 4-gram of a run of Chinese characters."""
    for length in range(1, _LONGEST_HAN_GRAM + 1):
        for start in range(len(run) - length + 1):
            yield run[start : start + length]


def word_pieces(word: str) -> list[str]:
    """Return the character 4-grams of `<word>`, each marked with `#`, the fall-back of an unknown word."""
    padded = f"<{word[:_LONGEST_WORD]}>"
    return [f"#{padded[i : i + _PIECE_GRAM]}" for i in range(max(1, len(padded) - _PIECE_GRAM + 1))]


class Tokenizer:
    """Texts to vocabulary rows. Safe to share between threads."""

    def __init__(self, rows: Mapping[str, int]) -> None:
        self._rows = rows

    def rows(self, text: str) -> set[int]:
        """Return the distinct table rows of `text`; empty when nothing in it is known."""
        found: set[int | None] = set()
        row = self._rows.get
        for han, word in runs(text):
            if han:
                found.update(row(gram) for gram in han_grams(han))
            else:
                found.update(self._word_rows(word))
        found.discard(None)
        return found  # type: ignore[return-value]  # None was discarded

    def _word_rows(self, word: str) -> Iterable[int | None]:
        known = self._rows.get(stem(word))
        return (known,) if known is not None else map(self._rows.get, word_pieces(word))


class StaticEmbedder:
    """The `Embedder` of the built-in table. Loads in some 100 ms, keeps the table memory-mapped, shares safely.

    A text without any known token gets the zero vector, whose cosine with everything is 0.
    """

    def __init__(self, artifact: Path = DEFAULT_ARTIFACT) -> None:
        """Open the artifact: `config.json`, `vocabulary.txt`, `table.npy` (rows, dim) int8, `scales.npy` (rows,)."""
        config = json.loads((artifact / "config.json").read_text(encoding="utf-8"))
        self.model: str = config["model"]
        self.dimension: int = config["dimension"]
        self.max_tokens: int = config["max_tokens"]
        self._table: NDArray[np.int8] = np.load(artifact / "table.npy", mmap_mode="r")
        self._scales: NDArray[np.float32] = np.load(artifact / "scales.npy")
        tokens = (artifact / "vocabulary.txt").read_text(encoding="utf-8").split("\n")
        if not len(tokens) == len(self._table) == len(self._scales):
            raise ValueError(f"{artifact}: vocabulary, table and scales differ in length")
        self._tokenizer = Tokenizer({token: row for row, token in enumerate(tokens)})

    def embed_passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return (n, dimension) float32, rows of length 1, or of zeros for a text without a known token."""
        vectors = np.zeros((len(texts), self.dimension), np.float32)
        for vector, text in zip(vectors, texts, strict=True):
            self._sum_into(vector, self._tokenizer.rows(text))
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        np.divide(vectors, lengths, out=vectors, where=lengths > 0)
        return vectors

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the same as `embed_passages`: the table knows no difference."""
        return self.embed_passages(texts)

    def count_tokens(self, text: str) -> int:
        """Return the text's size: 1 a Chinese character, 1 for each 6 letters of a word or 4 marks begun.

        About what a subword tokenizer counts; never 0 for a text that is not blank.
        """
        return sum(_piece_size(piece) for piece in _PIECES.finditer(text))

    def _sum_into(self, vector: NDArray[np.float32], rows: set[int]) -> None:
        if rows:
            picked = np.fromiter(rows, np.intp, len(rows))
            picked.sort()
            np.matmul(self._scales[picked], self._table[picked].astype(np.float32), out=vector)


def _piece_size(piece: re.Match[str]) -> int:
    if piece[1]:
        return 1
    length = piece.end() - piece.start()
    return -(-length // (_LETTERS_A_TOKEN if piece[2] else _MARKS_A_TOKEN))
