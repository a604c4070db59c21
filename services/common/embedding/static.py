"""The built-in bilingual embedder: a table of word vectors, summed. It needs no torch, no download and no GPU.

A text's vector is the sum of the table rows of its distinct tokens, scaled to length 1. Each token counts once: a chunk
that repeats its subject does not say more about it. The tokens of a run of Chinese characters are all of its 1- to
4-grams that are in the vocabulary. The token of any other word is its Snowball stem. If the vocabulary lacks the stem,
the tokens are the word's character 4-grams. `training/train_embedder.py` trains the table; `CARD.md` beside the table
names data, licences and scores.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from zhiwen.common.embedding.base import ModelDescription, Vectors
from zhiwen.common.lexical.analysis import HAN, fold_text, stem

DEFAULT_ARTIFACT: Final = Path(__file__).parents[1] / "data" / "embedder"

_WORDS: Final = re.compile(f"[^\\W_{HAN}]+")
_PIECES: Final = re.compile(f"([{HAN}]+)|([^\\W_{HAN}]+)|[^\\w\\s]+|_+")
LONGEST_HAN_GRAM: Final = 4
_PIECE_GRAM: Final = 4
_LONGEST_WORD: Final = 64
_LETTERS_A_TOKEN: Final = 6
_MARKS_A_TOKEN: Final = 4

_PADDING: Final = "\0" * (LONGEST_HAN_GRAM - 1)
_GRAM_MASKS: Final = tuple(
    np.uint64(2**64 - 2 ** (16 * (LONGEST_HAN_GRAM - n))) for n in range(1, LONGEST_HAN_GRAM + 1)
)
_HAN_BLOCKS: Final = ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF))


def _han_codes() -> NDArray[np.bool_]:
    codes = np.zeros(2**16, np.bool_)
    for first, last in _HAN_BLOCKS:
        codes[first : last + 1] = True
    return codes


_HAN_CODES: Final = _han_codes()


def han_grams(run: str) -> Iterator[str]:
    """Yield every 1- to 4-gram of a run of Chinese characters."""
    for length in range(1, LONGEST_HAN_GRAM + 1):
        for start in range(len(run) - length + 1):
            yield run[start : start + length]


def word_pieces(word: str) -> list[str]:
    """Return the tokens of a word whose stem is unknown: the character 4-grams of `<word>`, each marked with `#`."""
    padded = f"<{word[:_LONGEST_WORD]}>"
    return [f"#{padded[i : i + _PIECE_GRAM]}" for i in range(max(1, len(padded) - _PIECE_GRAM + 1))]


class Tokenizer:
    """Finds the table rows of a text's tokens. It is read-only, so threads can share it.

    A Chinese 1- to 4-gram is one 64-bit number with 16 bits for each character, so numpy looks up all grams of a text
    at once.
    """

    def __init__(self, rows: Mapping[str, int]) -> None:
        """`rows` maps each token of the vocabulary to its row of the table."""
        han = {token: row for token, row in rows.items() if _is_gram(token)}
        keys = np.array([_key(token) for token in han], np.uint64)
        order = np.argsort(keys)
        self._keys = keys[order]
        self._key_rows = np.fromiter(han.values(), np.intp, len(han))[order]
        self._words = {token: row for token, row in rows.items() if token not in han}

    def rows(self, text: str) -> NDArray[np.intp]:
        """Return the distinct table rows of a text's tokens, `(n,)`, ascending; empty when no token is known."""
        folded = fold_text(text)
        words = {row for word in set(_WORDS.findall(folded)) for row in self._word_rows(word)}
        found = np.fromiter(words, np.intp, len(words))
        return np.unique(np.concatenate([found, self._gram_rows(folded)]))

    def _gram_rows(self, folded: str) -> NDArray[np.intp]:
        codes = np.frombuffer((folded + _PADDING).encode("utf-16-le", "replace"), np.uint16)
        codes = np.where(_HAN_CODES[codes], codes, 0).astype(np.uint64)
        longest = codes[:-3] << 48 | codes[1:-2] << 32 | codes[2:-1] << 16 | codes[3:]
        wanted = np.unique(np.concatenate([longest & mask for mask in _GRAM_MASKS]))
        if not len(self._keys):
            return np.empty(0, np.intp)
        places = np.minimum(np.searchsorted(self._keys, wanted), len(self._keys) - 1)
        found: NDArray[np.intp] = self._key_rows[places[self._keys[places] == wanted]]
        return found

    def _word_rows(self, word: str) -> list[int]:
        known = self._words.get(stem(word))
        if known is not None:
            return [known]
        return [self._words[piece] for piece in word_pieces(word) if piece in self._words]


def _is_gram(token: str) -> bool:
    return len(token) <= LONGEST_HAN_GRAM and all(ord(c) < len(_HAN_CODES) and _HAN_CODES[ord(c)] for c in token)


def _key(gram: str) -> int:
    return sum(ord(character) << (48 - 16 * place) for place, character in enumerate(gram))


class StaticEmbedder:
    """The `Embedder` of the built-in table. It loads in about 100 ms; the table is memory-mapped.

    A passage without a known token has the first unit vector. A question without a known token has the opposite vector,
    so it is not similar to such a passage.
    """

    def __init__(self, artifact: Path = DEFAULT_ARTIFACT) -> None:
        """Open a trained table.

        `artifact` is a folder with `config.json`, `vocabulary.txt`, `table.npy` `(rows, dimension) int8` and
        `scales.npy` `(rows,) float32`. Raises `ValueError` when their lengths differ.
        """
        config = _config_of(artifact)
        self.model: str = config["model"]
        self.dimension: int = config["dimension"]
        self.max_tokens: int = config["max_tokens"]
        self._table: NDArray[np.int8] = np.load(artifact / "table.npy", mmap_mode="r")
        self._scales: NDArray[np.float32] = np.load(artifact / "scales.npy")
        tokens = (artifact / "vocabulary.txt").read_text(encoding="utf-8").split("\n")
        if not len(tokens) == len(self._table) == len(self._scales):
            raise ValueError(f"{artifact}: vocabulary, table and scales differ in length")
        self._tokenizer = Tokenizer({token: row for row, token in enumerate(tokens)})

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        return self._embed(texts, np.float32(1))

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Return the same vectors as `embed_passages`, except for a text without known tokens."""
        return self._embed(texts, np.float32(-1))

    def count_tokens(self, text: str) -> int:
        """Return an estimate of the tokens that a subword tokenizer would find; 0 only for a blank text.

        One token stands for one Chinese character, up to 6 letters of a word, or up to 4 punctuation marks.
        """
        return sum(_piece_size(piece) for piece in _PIECES.finditer(text))

    def _embed(self, texts: Sequence[str], unknown: np.float32) -> Vectors:
        vectors = np.zeros((len(texts), self.dimension), np.float32)
        for vector, text in zip(vectors, texts, strict=True):
            self._sum_into(vector, self._tokenizer.rows(text))
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        np.divide(vectors, lengths, out=vectors, where=lengths > 0)
        vectors[lengths[:, 0] == 0, 0] = unknown
        return vectors

    def _sum_into(self, vector: NDArray[np.float32], rows: NDArray[np.intp]) -> None:
        if len(rows):
            np.matmul(self._scales[rows], self._table[rows].astype(np.float32), out=vector)


def describe_artifact(artifact: Path = DEFAULT_ARTIFACT) -> ModelDescription:
    """Return the description of the built-in model from its configuration, without loading its table."""
    config = _config_of(artifact)
    return ModelDescription(config["dimension"], config["max_tokens"])


def _config_of(artifact: Path) -> dict[str, Any]:
    return dict(json.loads((artifact / "config.json").read_text(encoding="utf-8")))


def _piece_size(piece: re.Match[str]) -> int:
    length = piece.end() - piece.start()
    if piece[1]:
        return length
    return -(-length // (_LETTERS_A_TOKEN if piece[2] else _MARKS_A_TOKEN))
