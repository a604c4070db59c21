"""Chooses the tokens of the table: characters, dictionary words, common bigrams, English stems and word pieces."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable

from zhiwen.common.embedding.static import han_grams, word_pieces
from zhiwen.common.lexical.analysis import runs, starts_chinese, stem

RARE = 3
COMMON_BIGRAM = 150
PIECES = 6_000


def choose_vocabulary(texts: Iterable[str], dictionary: Collection[str], limit: int) -> list[str]:
    """Return at most `limit` tokens: the 6,000 commonest word pieces, then the others from the most frequent on.

    These are the characters, the words of `dictionary` and the stems that at least 3 texts have, and the other Chinese
    bigrams that at least 150 texts have.
    """
    counts: Counter[str] = Counter()
    pieces: Counter[str] = Counter()
    for text in texts:
        han: set[str] = set()
        words: set[str] = set()
        for run, word in runs(text):
            if run:
                han.update(g for g in han_grams(run) if len(g) <= 2 or g in dictionary)
            else:
                words.add(word)
        counts.update(han)
        counts.update({stem(word) for word in words})
        for word in words:
            pieces.update(set(word_pieces(word)))
    kept = [token for token in _commonest(counts) if counts[token] >= _least(token, dictionary)]
    return _commonest(pieces)[:PIECES] + kept[: limit - PIECES]


def _commonest(counts: Counter[str]) -> list[str]:
    """Return the tokens from the most frequent on. Equally frequent ones have the same order in every process."""
    return sorted(counts, key=lambda token: (-counts[token], token))


def _least(token: str, dictionary: Collection[str]) -> int:
    other_bigram = len(token) == 2 and starts_chinese(token) and token not in dictionary
    return COMMON_BIGRAM if other_bigram else RARE
