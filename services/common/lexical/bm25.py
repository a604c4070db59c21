"""The lexical half of retrieval: BM25 as our own sparse vectors, bilingual, with an absolute relevance in 0..1.

A document's vector holds the saturated term frequencies, a question's vector the inverse document frequencies, so
that their inner product is BM25 (Robertson & Zaragoza 2009, without the constant factor k1 + 1). Divided by what the
question could reach at best, the summed idf of all its terms, known or not, it is a share in 0..1 that means the
same in every collection. A question's words are also looked up in a Chinese-English table, and all translations of
a word count together as one term (structured queries: Pirkola 1998). Everything here is pure: the statistics and
the table are arguments.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from zlib import crc32

import numpy as np
import rjieba
from numpy.typing import NDArray

from zhiwen.common.lexical import stopwords
from zhiwen.common.lexical.statistics import TermStatistics
from zhiwen.common.lexical.translations import Translations
from zhiwen.common.lexical.words import character_pairs, is_chinese, runs, starts_chinese, stem

_LARGEST_ID: Final = 2**32 - 2  # Milvus keeps 2**32 - 1 for itself
_CHARACTERS_A_WORD: Final = 1.7  # of Chinese text: so long is a word on average
_PHRASE: Final = 3
_BILINGUAL_SHARE: Final = 0.1
ACROSS_LANGUAGES: Final = 0.6
_ENGLISH_MARKS: Final = ("the", "of", "to", "and", "in", "a")
_CHINESE_MARKS: Final = ("的", "在", "是", "和", "了", "一")


@dataclass(frozen=True, slots=True)
class Bm25:
    """BM25's constants. `average_length` is fixed, in words, so that a chunk's vector never has to be rewritten."""

    k1: float = 1.2
    b: float = 0.75
    average_length: float = 150.0


@dataclass(frozen=True, slots=True)
class Analysis:
    """A text's terms in order, with repeats, and its length in words of either language."""

    terms: tuple[str, ...]
    length: float


@dataclass(frozen=True, slots=True)
class SparseQuery:
    """A question as weights by term id, and the most that they could add up to.

    `relevance` turns the inner product with a document's vector into 0..1.
    """

    weights: Mapping[int, float]
    normaliser: float

    def relevance(self, inner_product: float) -> float:
        """Return the share of the question that the document answers to, 0..1."""
        return min(1.0, max(0.0, inner_product / self.normaliser)) if self.normaliser else 0.0


def term_id(term: str) -> int:
    """Return the term's stable number in 0..2**32-2 (CRC-32 of its UTF-8 bytes)."""
    return min(crc32(term.encode()), _LARGEST_ID)


def analyze(text: str) -> Analysis:
    """Return the terms of a document: Chinese words (search mode) and character pairs, English stems, digits.

    Pairs find what the segmenter cut differently in question and document; a two-character word counts as both.
    """
    terms: list[str] = []
    length = 0.0
    for han, word in runs(text):
        if han:
            terms += rjieba.cut_for_search(han, True)
            terms += character_pairs(han)
            length += len(han) / _CHARACTERS_A_WORD
        else:
            terms.append(stem(word))
            length += 1
    return Analysis(tuple(terms), length)


def document_vector(analysis: Analysis, bm25: Bm25 = Bm25()) -> dict[int, float]:
    """Return the chunk's sparse vector {term id: tf / (tf + k1 (1 - b + b length / average))}, weights in 0..1."""
    pivot = bm25.k1 * (1 - bm25.b + bm25.b * analysis.length / bm25.average_length)
    counts: dict[int, int] = {}
    for term, count in Counter(analysis.terms).items():
        key = term_id(term)
        counts[key] = counts.get(key, 0) + count
    return {term: count / (count + pivot) for term, count in counts.items()}


@dataclass(frozen=True, slots=True)
class _Question:
    """A question's own terms and the words and phrases to translate, grammar left out of both."""

    terms: tuple[str, ...]
    sources: tuple[str, ...]


def _read_question(text: str) -> _Question:
    """Take a question apart; when it is nothing but grammar, all of it stands."""
    terms: list[str] = []
    sources: list[str] = []
    everything: list[str] = []
    stems: list[str] = []
    for han, word in runs(text):
        if han:
            words = rjieba.cut_for_search(han, True)
            telling = [w for w in words if w not in stopwords.CHINESE]
            pairs = character_pairs(han)
            terms += telling
            terms += [p for p in pairs if not stopwords.FUNCTION_CHARACTERS.intersection(p)]
            sources += telling
            everything += [*words, *pairs]
        else:
            stems.append(stem(word))
    telling = [s for s in stems if s not in stopwords.ENGLISH]
    terms += telling
    everything += stems
    sources += telling
    sources += [" ".join(stems[i : i + n]) for n in range(2, _PHRASE + 1) for i in range(len(stems) - n + 1)]
    return _Question(_distinct(terms) or _distinct(everything), _distinct(sources))


def _distinct(items: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(items))


@dataclass(frozen=True, slots=True)
class QuerySettings:
    """How a question is weighed.

    `translation_weight` is what a full translation counts beside the word itself (0: same language only);
    `prior_chunks` is the number of general chunks that every collection is thought to hold besides its own, so that
    a handful of documents does not make every word rare.
    """

    translation_weight: float = 0.9
    prior_chunks: float = 100.0


def query_vector(
    text: str,
    statistics: TermStatistics,
    translations: Translations | None = None,
    settings: QuerySettings = QuerySettings(),
) -> SparseQuery:
    """Return the question's sparse vector for a collection with these statistics.

    A term weighs its idf. Each word's translations that the collection holds share the idf of them all together,
    the likeliest in full and the others by their likelihood beside it.
    """
    question = _read_question(text)
    idf = _Idf(statistics, translations, settings.prior_chunks)
    own = [term_id(term) for term in question.terms]
    known, own_idf = idf.of(own)
    weights = {term: value for term, held, value in zip(own, known, own_idf, strict=True) if held}
    if translations is not None and settings.translation_weight > 0:
        scale = settings.translation_weight * _translation_scale(question, own_idf, statistics)
        for term, weight in _translated(question.sources, translations, idf):
            weights[term] = weights.get(term, 0.0) + scale * weight
    return SparseQuery(weights, math.fsum(own_idf))


def _translation_scale(question: _Question, idf: Sequence[float], statistics: TermStatistics) -> float:
    """Return by how much translations are raised so that the other language can answer all of a question.

    Chinese character pairs across words have no translation: in a collection that is written in both languages (at
    least one chunk in ten in the other one) their share goes to the words that have.
    """
    sources = set(question.sources)
    words = math.fsum(value for term, value in zip(question.terms, idf, strict=True) if term in sources)
    if not words:
        return 1.0
    chinese = any(map(starts_chinese, question.terms))
    share = _share_written(statistics, _ENGLISH_MARKS if chinese else _CHINESE_MARKS)
    return 1.0 + (math.fsum(idf) / words - 1.0) * min(1.0, share / _BILINGUAL_SHARE)


def _share_written(statistics: TermStatistics, marks: Sequence[str]) -> float:
    """Return the share of chunks that hold the commonest of a language's commonest words."""
    frequencies = statistics.document_frequencies([term_id(mark) for mark in marks])
    return float(frequencies.max()) / max(1, statistics.chunks)


@dataclass(frozen=True, slots=True)
class _Idf:
    """Inverse document frequencies ln(1 + (N - n + .5) / (n + .5)), the general texts counted in."""

    statistics: TermStatistics
    background: Translations | None
    prior: float

    def of(self, ids: Sequence[int]) -> tuple[list[bool], list[float]]:
        """Return for each term whether the collection holds it, and its idf."""
        own, shared = self.frequencies(ids)
        return (own > 0).tolist(), self.weigh(own + shared).tolist()

    def frequencies(self, ids: Sequence[int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return each term's chunks in the collection, (n,), and among the general ones, (n,)."""
        keys = np.asarray(ids, np.uint32)
        own = self.statistics.document_frequencies(keys).astype(np.float64)
        shares = self.background.general_shares(keys) if self.background else np.zeros(len(keys), np.float32)
        return own, self.prior * shares.astype(np.float64)

    def weigh(self, frequencies: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the idf of terms in so many chunks, own and general."""
        total = self.statistics.chunks + (self.prior if self.background else 0.0)
        held = np.minimum(frequencies, total)
        return np.log1p((total - held + 0.5) / (held + 0.5))


def _translated(sources: Sequence[str], table: Translations, idf: _Idf) -> list[tuple[int, float]]:
    """Return (term id, weight) of all translations that the collection holds."""
    candidates = [_candidates(source, table) for source in sources]
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
def _candidates(source: str, table: Translations) -> tuple[tuple[tuple[int, ...], float], ...]:
    """Return a source's translations as ids and weight: the word's own id first, then its character pairs'."""
    found = table.of_source(source)
    if not found and len(source) > 2 and not source.isascii():
        found = [translation for pair in character_pairs(source) for translation in table.of_source(pair)]
    return tuple(((term_id(t.word), *_pair_ids(t.word)), t.weight) for t in found)


def _pair_ids(word: str) -> tuple[int, ...]:
    return () if word.isascii() or len(word) <= 2 else tuple(term_id(pair) for pair in character_pairs(word))


def _as_one_term(
    candidates: Sequence[tuple[tuple[int, ...], float]], frequency: Mapping[int, tuple[float, float]]
) -> tuple[dict[int, float], float]:
    """Return the shares of the terms that the collection holds, the largest 1, and their joint frequency."""
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
    """Return a translation as terms of the collection: the word, else all its character pairs, else nothing."""
    if frequency[word][0] > 0:
        return [(word, weight)]
    if pairs and all(frequency[pair][0] > 0 for pair in pairs):
        return [(pair, weight / len(pairs)) for pair in pairs]
    return []


def is_relevant(question: str, text: str, relevance: float, threshold: float) -> bool:
    """Say whether a text of this relevance may answer the question. In the other language, where only translations
    match, 0.6 of the threshold is as much evidence."""
    if relevance >= threshold:
        return True
    return relevance >= ACROSS_LANGUAGES * threshold and is_chinese(question) != is_chinese(text)
