"""BM25 as sparse vectors, for questions and documents in two languages, with an absolute relevance in 0..1.

The vector of a document holds saturated term frequencies, and the vector of a question inverse document frequencies
(idf). Their inner product is BM25 (Robertson and Zaragoza 2009) without the constant factor k1 + 1. The largest value
that a question can reach is the sum of the idf of all its terms, known or not. The inner product divided by this sum is
the relevance: a share in 0..1 that means the same in every collection.

The words of a question are also looked up in a Chinese-English table. All translations of a word together count as one
term (structured queries: Pirkola 1998). The functions are pure: the statistics of the collection and the table are
arguments.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from zhiwen.common.lexical.analysis import (
    Analysis,
    Question,
    analyze_question,
    character_pairs,
    starts_chinese,
    term_id,
)
from zhiwen.common.lexical.statistics import TermStatistics
from zhiwen.common.lexical.translations import Translations

_BILINGUAL_SHARE: Final = 0.1
_ENGLISH_MARKS: Final = ("the", "of", "to", "and", "in", "a")
_CHINESE_MARKS: Final = ("的", "在", "是", "和", "了", "一")


@dataclass(frozen=True, slots=True)
class Bm25:
    """BM25's constants. `average_length` is in words. It is fixed, so a chunk's vector never changes."""

    k1: float = 1.2
    b: float = 0.75
    average_length: float = 150.0


@dataclass(frozen=True, slots=True)
class QueryWeighting:
    """How the terms of a question are weighed.

    `translation_weight` is the weight of a full translation; the word itself has weight 1. With 0, only texts in the
    question's own language are found. `prior_chunks` is a number of general chunks that are counted as part of every
    collection. Without them, every word would be rare in a collection of a few documents.
    """

    translation_weight: float = 0.9
    prior_chunks: float = 100.0


@dataclass(frozen=True, slots=True)
class SparseQuery:
    """A question as weights by term id.

    `normaliser` is the largest inner product that it can reach. `own_language` says whether the collection has texts in
    the question's language: 1 from one chunk in ten on, and 0 without any.
    """

    weights: Mapping[int, float]
    normaliser: float
    own_language: float = 1.0

    def relevance(self, inner_product: float) -> float:
        """Return the relevance of a document with this inner product: the share of the question it matches, 0..1."""
        return min(1.0, max(0.0, inner_product / self.normaliser)) if self.normaliser else 0.0


def document_vector(analysis: Analysis, bm25: Bm25 = Bm25()) -> dict[int, float]:
    """Return a chunk's sparse vector {term id: tf / (tf + k1 (1 - b + b length / average))}, weights in 0..1."""
    pivot = bm25.k1 * (1 - bm25.b + bm25.b * analysis.length / bm25.average_length)
    counts: dict[int, int] = {}
    for term, count in Counter(analysis.terms).items():
        key = term_id(term)
        counts[key] = counts.get(key, 0) + count
    return {term: count / (count + pivot) for term, count in counts.items()}


def query_vector(
    text: str,
    statistics: TermStatistics,
    translations: Translations | None = None,
    weighting: QueryWeighting = QueryWeighting(),
) -> SparseQuery:
    """Return a question's sparse vector for a collection with these statistics.

    The weight of a term is its idf. The translations of a word count as one term, whose frequency is their weighted
    sum. The likeliest translation has this idf in full, and the others a part of it: their likelihood
    relative to the likeliest. Translations that the collection does not hold are left out.
    """
    question = analyze_question(text)
    idf = _Idf(statistics, translations, weighting.prior_chunks)
    own = [term_id(term) for term in question.terms]
    known, own_idf = idf.of(own)
    weights = {term: value for term, held, value in zip(own, known, own_idf, strict=True) if held}
    if translations is not None and weighting.translation_weight > 0:
        scale = weighting.translation_weight * _translation_scale(question, own_idf, statistics)
        for term, weight in _translated(question.phrases, translations, idf):
            weights[term] = weights.get(term, 0.0) + scale * weight
    marks = _CHINESE_MARKS if any(map(starts_chinese, question.terms)) else _ENGLISH_MARKS
    own_language = min(1.0, _share_written(statistics, marks) / _BILINGUAL_SHARE)
    return SparseQuery(weights, math.fsum(own_idf), own_language)


@dataclass(frozen=True, slots=True)
class _Idf:
    """Inverse document frequencies ln(1 + (N - n + .5) / (n + .5)). N and n include `prior` general chunks."""

    statistics: TermStatistics
    background: Translations | None
    prior: float

    def of(self, ids: Sequence[int]) -> tuple[list[bool], list[float]]:
        """Return for each term whether the collection holds it, and its idf."""
        own, shared = self.frequencies(ids)
        return (own > 0).tolist(), self.weigh(own + shared).tolist()

    def frequencies(self, ids: Sequence[int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the number of chunks with each term: of the collection `(n,)`, and of the general chunks `(n,)`."""
        keys = np.asarray(ids, np.uint32)
        own = self.statistics.document_frequencies(keys).astype(np.float64)
        shares = self.background.general_shares(keys) if self.background else np.zeros(len(keys), np.float32)
        return own, self.prior * shares.astype(np.float64)

    def weigh(self, frequencies: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the idf of terms with these numbers of chunks, general chunks included."""
        total = self.statistics.chunks + (self.prior if self.background else 0.0)
        held = np.minimum(frequencies, total)
        return np.log1p((total - held + 0.5) / (held + 0.5))


# Translations


def _translation_scale(question: Question, idf: Sequence[float], statistics: TermStatistics) -> float:
    """Return the factor for translations: a text in the other language can then match a whole question.

    A Chinese character pair that is not a word has no translation. The factor gives the idf of these pairs to the words
    that have one. It is full in a collection with at least one chunk in ten in the other language.
    """
    phrases = set(question.phrases)
    words = math.fsum(value for term, value in zip(question.terms, idf, strict=True) if term in phrases)
    if not words:
        return 1.0
    chinese = any(map(starts_chinese, question.terms))
    share = _share_written(statistics, _ENGLISH_MARKS if chinese else _CHINESE_MARKS)
    return 1.0 + (math.fsum(idf) / words - 1.0) * min(1.0, share / _BILINGUAL_SHARE)


def _share_written(statistics: TermStatistics, marks: Sequence[str]) -> float:
    """Return the share of chunks with the most frequent of `marks`, which are the commonest words of a language."""
    frequencies = statistics.document_frequencies([term_id(mark) for mark in marks])
    return float(frequencies.max()) / max(1, statistics.chunks)


def _translated(phrases: Sequence[str], table: Translations, idf: _Idf) -> list[tuple[int, float]]:
    """Return (term id, weight) of all translations that the collection holds."""
    candidates = [_candidates(phrase, table) for phrase in phrases]
    ids = [term for found in candidates for terms, _ in found for term in terms]
    own, shared = idf.frequencies(ids)
    frequency = dict(zip(ids, zip(own.tolist(), shared.tolist(), strict=True), strict=True))
    weighed = [_as_one_term(found, frequency) for found in candidates]
    together = idf.weigh(np.array([frequent for _, frequent in weighed]))
    return [
        (term, share * value)
        for (shares, _), value in zip(weighed, together.tolist(), strict=True)
        for term, share in shares.items()
    ]


@lru_cache(maxsize=4096)  # questions share most of their words
def _candidates(phrase: str, table: Translations) -> tuple[tuple[tuple[int, ...], float], ...]:
    """Return a phrase's translations as (ids, weight): the id of the word, then the ids of its character pairs."""
    found = table.of_source(phrase)
    if not found and len(phrase) > 2 and not phrase.isascii():
        found = [translation for pair in character_pairs(phrase) for translation in table.of_source(pair)]
    return tuple(((term_id(t.word), *_pair_ids(t.word)), t.weight) for t in found)


def _pair_ids(word: str) -> tuple[int, ...]:
    return () if word.isascii() or len(word) <= 2 else tuple(term_id(pair) for pair in character_pairs(word))


def _as_one_term(
    candidates: Sequence[tuple[tuple[int, ...], float]], frequency: Mapping[int, tuple[float, float]]
) -> tuple[dict[int, float], float]:
    """Return the shares of the terms that the collection holds, the largest as 1, and their joint frequency."""
    shares: dict[int, float] = {}
    for (word, *pairs), weight in candidates:
        for term, share in _held(word, pairs, weight, frequency):
            shares[term] = max(shares.get(term, 0.0), share)
    top = max(shares.values(), default=1.0)
    shares = {term: share / top for term, share in shares.items()}
    return shares, math.fsum(share * sum(frequency[term]) for term, share in shares.items())


def _held(
    word: int, pairs: Sequence[int], weight: float, frequency: Mapping[int, tuple[float, float]]
) -> list[tuple[int, float]]:
    """Return a translation as terms of the collection: the word, or all of its character pairs, or nothing."""
    if frequency[word][0] > 0:
        return [(word, weight)]
    if pairs and all(frequency[pair][0] > 0 for pair in pairs):
        return [(pair, weight / len(pairs)) for pair in pairs]
    return []
