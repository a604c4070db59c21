"""Simulates the service's search in memory: the scores of every question of a set in both halves of a search.

The passages of a set are one collection, cut into chunks as the worker cuts them. What is ranked is a passage with the
score of its best chunk. Where the passages are whole documents, it is a chunk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from training.sets import Asked, QuestionSet
from zhiwen.common.embedding.background import (
    UNRELATED,
    Background,
    Standard,
    halves_of,
    lowest,
    to_bytes,
    trimmed,
)
from zhiwen.common.embedding.base import Embedder, Vectors
from zhiwen.common.embedding.known_models import estimated_weight, known_weight
from zhiwen.common.lexical.analysis import analyze
from zhiwen.common.lexical.bm25 import Bm25, QueryWeighting, document_vector, query_vector
from zhiwen.common.lexical.statistics import TermStatistics
from zhiwen.common.lexical.translations import Translations
from zhiwen.common.models import Chunk, ChunkingSpec, Sampled, with_heading
from zhiwen.ingest.worker.chunking import chunk_blocks
from zhiwen.query.search.relevance import DenseWeight, Values, dense_score, emphasis, evidence, relevance

Scores = NDArray[np.float32]
CANDIDATES: Final = 100
MOST_OF_GOLD: Final = 0.6
"""The share of a gold text that a chunk must hold when no chunk holds all of it."""
_DROPPED: Final = str.maketrans("", "", " \t\r\n|,　")  # cells of a table are joined by bars, or by commas in a file


@dataclass(frozen=True, slots=True)
class Engine:
    """The embedder, the word table and the parameters for scoring questions against chunks."""

    embedder: Embedder
    translations: Translations | None
    bm25: Bm25 = field(default_factory=Bm25)
    weighting: QueryWeighting = field(default_factory=QueryWeighting)
    chunking: ChunkingSpec = field(default_factory=ChunkingSpec)


@dataclass(frozen=True, slots=True)
class Searched:
    """All scores of a set. `full_text` (share of the question, 0..1) and `cosine` are `(questions, chunks)`.

    `unit` `(chunks,)` numbers what is ranked. `right` holds, for each question, the numbers of the right units; it is
    empty for a question that cannot be answered. `vectors` are those of the chunks, `queries` those of the questions.
    `normaliser` and `own_language` `(questions, 1)` are those of `SparseQuery`, and `weight` is that of the dense half,
    as fits the model.
    """

    name: str
    questions: tuple[Asked, ...]
    chunks: tuple[Chunk, ...]
    unit: NDArray[np.int64]
    right: tuple[frozenset[int], ...]
    full_text: Scores
    normaliser: Scores
    own_language: Scores
    cosine: Scores
    vectors: Vectors
    queries: Vectors
    background: Background
    weight: DenseWeight


def searched(engine: Engine, of: QuestionSet) -> Searched:
    """Cut the passages of a set, and score every question against every chunk."""
    chunks: list[Chunk] = []
    passage: list[int] = []
    for number, blocks in enumerate(of.passages):
        found = chunk_blocks(blocks, engine.chunking, engine.embedder.count_tokens, engine.embedder.max_tokens)
        chunks += found
        passage += [number] * len(found)
    texts = [with_heading(chunk.heading, chunk.text) for chunk in chunks]
    documents = [document_vector(analyze(text), engine.bm25) for text in texts]
    statistics = TermStatistics.of(documents)
    asked = [question.text for question in of.questions]
    queries = [query_vector(text, statistics, engine.translations, engine.weighting) for text in asked]
    products = _matrix([query.weights for query in queries], statistics) @ _matrix(documents, statistics).T
    normalisers = np.array([[query.normaliser or 1.0] for query in queries], np.float32)
    vectors, question_vectors = engine.embedder.embed_passages(texts), engine.embedder.embed_queries(asked)
    background = _background(engine.embedder, texts, vectors)
    by_chunk = any(question.gold for question in of.questions)
    places = np.array(passage)
    return Searched(
        name=of.name,
        questions=of.questions,
        chunks=tuple(chunks),
        unit=np.arange(len(chunks)) if by_chunk else places,
        right=tuple(_right_chunks(q, chunks, places) if by_chunk else q.right for q in of.questions),
        full_text=np.clip(products.toarray() / normalisers, 0, 1).astype(np.float32),
        normaliser=normalisers,
        own_language=np.array([[query.own_language] for query in queries], np.float32),
        cosine=(question_vectors @ vectors.T).astype(np.float32),
        vectors=vectors,
        queries=question_vectors,
        background=background,
        weight=_weight(engine.embedder.model, background),
    )


def _background(embedder: Embedder, texts: Sequence[str], vectors: Vectors) -> Background:
    """Return the background of a collection, sampled as the worker samples."""
    places = lowest([str(place) for place in range(len(texts))], {})
    openings, rests = zip(*(halves_of(texts[place]) for place in places.values()), strict=True)
    known = known_weight(embedder.model) is not None
    halves = (vectors[:0], vectors[:0]) if known else (embedder.embed_queries(openings), embedder.embed_passages(rests))
    sample = [
        Sampled(
            slot,
            0,
            place,
            to_bytes(vectors[place]),
            None if known else to_bytes(halves[0][number]),
            None if known else to_bytes(halves[1][number]),
        )
        for number, (slot, place) in enumerate(places.items())
    ]
    return Background.of(sample, embedder.embed_passages(UNRELATED))


def _weight(model: str, background: Background) -> DenseWeight:
    known = known_weight(model)
    return DenseWeight(estimated_weight(background), estimated=True) if known is None else DenseWeight(known)


@dataclass(frozen=True, slots=True)
class Parts:
    """What the two halves of a hybrid search say about every chunk, `(questions, chunks)`."""

    full_text: Scores
    evidence: Values

    @property
    def dense(self) -> Values:
        """What the model says, 0..1, as a hit shows it."""
        return dense_score(self.evidence)


def parts_of(of: Searched) -> Parts:
    """Return both halves of every search, with the floors of chunks that are not among the candidates."""
    cosines = best(np.clip(of.cosine, 0, 1))
    mean, deviation = trimmed(of.queries @ of.background.vectors.T)
    standards = [Standard(float(m), float(d)) for m, d in zip(mean[:, 0], deviation[:, 0], strict=True)]
    standardised = np.array([standard.of(row) for standard, row in zip(standards, cosines, strict=True)])
    return Parts(best(of.full_text), evidence(standardised, of.background.spread, len(of.chunks)))


def ranking(of: Searched, weight: DenseWeight | None = None) -> Values:
    """Return the relevance of every chunk to every question in a hybrid search, `(questions, chunks)`.

    `weight` None means the model's own.
    """
    return relevance_of(of, parts_of(of), weight)


def relevance_of(of: Searched, parts: Parts, weight: DenseWeight | None = None) -> Values:
    """Return the relevance that two halves give. `weight` None means the model's own."""
    best_full_text = parts.full_text.max(axis=1, keepdims=True)
    emphasised = emphasis(of.normaliser.astype(np.float64), best_full_text, of.own_language)
    return relevance(parts.full_text, parts.evidence, weight or of.weight, emphasised)


def _right_chunks(question: Asked, chunks: Sequence[Chunk], document: NDArray[np.int64]) -> frozenset[int]:
    """Return the chunks of the right document that hold the gold text, or else the one that holds most of it."""
    if not question.right:
        return frozenset()
    own = np.flatnonzero(np.isin(document, list(question.right))).tolist()
    gold = compact(question.gold)
    texts = {place: compact(chunks[place].text) for place in own}
    whole = frozenset(place for place, text in texts.items() if gold in text)
    if whole:
        return whole
    held = {place: share_held(gold, text) for place, text in texts.items()}
    return frozenset(place for place, share in held.items() if share >= MOST_OF_GOLD)


def compact(text: str) -> str:
    """Return a text without white space, and without what separates the cells of a table."""
    return text.translate(_DROPPED)


def share_held(gold: str, text: str) -> float:
    """Return the share of the character 4-grams of `gold` that `text` holds."""
    grams = [gold[i : i + 4] for i in range(max(1, len(gold) - 3))]
    return sum(gram in text for gram in grams) / len(grams)


def _matrix(vectors: Sequence[Mapping[int, float]], statistics: TermStatistics) -> sparse.csr_matrix:
    ids = np.fromiter((term for vector in vectors for term in vector), np.uint32)
    weights = np.fromiter((weight for vector in vectors for weight in vector.values()), np.float32)
    pointers = np.concatenate([[0], np.cumsum([len(vector) for vector in vectors])])
    columns = np.searchsorted(statistics.ids, ids)
    return sparse.csr_matrix((weights, columns, pointers), shape=(len(vectors), len(statistics.ids)))


def best(scores: Scores) -> Scores:
    """Return the scores of each question's best 100 chunks, and for the others the score of the hundredth."""
    if scores.shape[1] <= CANDIDATES:
        return scores
    floor = -np.partition(-scores, CANDIDATES - 1, axis=1)[:, CANDIDATES - 1 : CANDIDATES]
    return np.maximum(scores, floor)


def by_unit(scores: NDArray[np.floating], unit: NDArray[np.int64]) -> NDArray[np.floating]:
    """Return the best score of each unit, `(questions, units)`. `unit` is ascending."""
    starts = np.flatnonzero(np.concatenate([[True], unit[1:] != unit[:-1]]))
    return np.maximum.reduceat(scores, starts, axis=1)


def ranks_of(scores: NDArray[np.floating], of: Searched) -> NDArray[np.int64]:
    """Return the rank of the first right unit of each answerable question. Equal scores count as ranked before it."""
    found = by_unit(scores, of.unit)
    ranks = []
    for row, right in zip(found, of.right, strict=True):
        if right:
            own = row[list(right)].max()
            others = np.delete(row, list(right))
            ranks.append(1 + int((others >= own).sum()))
    return np.array(ranks)


def measures(ranks: NDArray[np.int64]) -> dict[str, float]:
    """Return R@1, R@5, R@10 and MRR@10."""
    found = ranks <= 10
    return {
        "R@1": float(np.mean(ranks <= 1)),
        "R@5": float(np.mean(ranks <= 5)),
        "R@10": float(np.mean(found)),
        "MRR@10": float(np.mean(np.where(found, 1 / ranks, 0))),
    }
