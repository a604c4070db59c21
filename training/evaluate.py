"""Measures dense, full-text and hybrid retrieval on question sets: `python -m training.evaluate --sets FOLDER`.

It simulates the service in memory. The passages of a set are one collection, cut into chunks. Each half of a search
finds its best 100 chunks. Every other chunk gets the score of the hundredth, because it cannot have more. A passage has
the score of its best chunk. A set is a folder with `passages.jsonl` and `questions.jsonl`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.stats import rankdata

from zhiwen.common.embedding.static import DEFAULT_ARTIFACT, StaticEmbedder
from zhiwen.common.lexical.analysis import analyze
from zhiwen.common.lexical.bm25 import Bm25, QueryWeighting, document_vector, query_vector
from zhiwen.common.lexical.statistics import TermStatistics
from zhiwen.common.lexical.translations import DEFAULT_TABLE, Translations
from zhiwen.common.models import Block, ChunkingSpec
from zhiwen.ingest.worker.chunking import chunk_blocks

Scores = NDArray[np.float32]
CANDIDATES = 100
PARALLEL = ("zh_xquad", "en_xquad")


@dataclass(frozen=True, slots=True)
class QuestionSet:
    """One folder: passages and questions; `answers[i]` is the number of the passage that answers question i."""

    passages: list[str]
    questions: list[str]
    answers: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Engine:
    """The embedder, the word table and the parameters for scoring questions against passages."""

    embedder: StaticEmbedder
    translations: Translations | None
    bm25: Bm25
    weighting: QueryWeighting
    dense_weight: float
    chunking: ChunkingSpec


@dataclass(frozen=True, slots=True)
class Run:
    """The relevance of all passages to all questions, 0..1, `(questions, passages)`: of each half, and fused."""

    dense: Scores
    lexical: Scores
    hybrid: Scores


def read_set(folder: Path) -> QuestionSet:
    """Read the passages of a set, and those of its questions that have an answer."""
    passages = [json.loads(line) for line in (folder / "passages.jsonl").open(encoding="utf-8")]
    rows = [json.loads(line) for line in (folder / "questions.jsonl").open(encoding="utf-8")]
    number = {passage["id"]: i for i, passage in enumerate(passages)}
    rows = [row for row in rows if row["answerable"]]
    answers = np.array([number[row["passage_id"][0]] for row in rows])
    return QuestionSet([p["text"] for p in passages], [row["question"] for row in rows], answers)


def run(engine: Engine, passages: Sequence[str], questions: Sequence[str]) -> Run:
    """Score every question against every passage."""
    chunks, starts = cut(engine, passages)
    documents = [document_vector(analyze(text), engine.bm25) for text in chunks]
    statistics = TermStatistics.of(documents)
    queries = [query_vector(text, statistics, engine.translations, engine.weighting) for text in questions]
    products = _matrix([q.weights for q in queries], statistics) @ _matrix(documents, statistics).T
    normalisers = np.array([[q.normaliser or 1.0] for q in queries], np.float32)
    lexical = np.clip(products.toarray() / normalisers, 0, 1).astype(np.float32)
    cosines = engine.embedder.embed_queries(questions) @ engine.embedder.embed_passages(chunks).T
    dense = np.clip(cosines, 0, 1)
    hybrid = (best(lexical) + engine.dense_weight * best(dense)) / (1 + engine.dense_weight)
    by_passage = [np.maximum.reduceat(scores, starts, axis=1) for scores in (dense, lexical, hybrid)]
    return Run(by_passage[0], by_passage[1], by_passage[2].astype(np.float32))


def cut(engine: Engine, passages: Sequence[str]) -> tuple[list[str], list[int]]:
    """Return the chunks of all passages, and the number of the first chunk of each."""
    chunks: list[str] = []
    starts: list[int] = []
    for text in passages:
        starts.append(len(chunks))
        found = chunk_blocks([Block(text)], engine.chunking, engine.embedder.count_tokens, engine.embedder.max_tokens)
        chunks += [chunk.text for chunk in found]
    return chunks, starts


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


def measures(scores: Scores, answers: NDArray[np.int64]) -> dict[str, float]:
    """Return R@1, R@5, R@10, MRR@10 and nDCG@10. Passages with the right one's score count as ranked before it."""
    own = np.take_along_axis(scores, answers[:, None], axis=1)
    ranks = (scores >= own).sum(axis=1)
    ranks = np.where(own[:, 0] > 0, ranks, scores.shape[1] + 1)
    found = ranks <= 10
    return {
        "R@1": float(np.mean(ranks <= 1)),
        "R@5": float(np.mean(ranks <= 5)),
        "R@10": float(np.mean(found)),
        "MRR@10": float(np.mean(np.where(found, 1 / ranks, 0))),
        "nDCG@10": float(np.mean(np.where(found, 1 / np.log2(1 + ranks), 0))),
    }


def auroc(present: Scores, absent: Scores) -> float:
    """Return the probability that a question with an answer scores higher than one without (Mann-Whitney U)."""
    ranks = rankdata(np.concatenate([present, absent]))
    n, m = len(present), len(absent)
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))


def line(name: str, values: Mapping[str, float]) -> str:
    """Return one row of the table."""
    return f"{name:58}" + "".join(f" {values[key]:7.3f}" for key in ("R@1", "R@5", "R@10", "MRR@10", "nDCG@10"))


def report_halves(name: str, result: Run, answers: NDArray[np.int64]) -> None:
    """Print the three modes of one run."""
    for mode, scores in (("dense", result.dense), ("lexical", result.lexical), ("hybrid", result.hybrid)):
        print(line(f"{name} {mode}", measures(scores, answers)), flush=True)


def report_across(engine: Engine, sets: Mapping[str, QuestionSet]) -> None:
    """Print how questions of one language find passages of the other, alone and among the passages of other sets.

    A passage of several sets counts once. "others" leaves out the set of the questions. "everything" includes it, so
    that the right passage competes with its own translation.
    """
    for asked, held in (PARALLEL, PARALLEL[::-1]):
        pools = {
            "alone": [held],
            "others": [held, *(name for name in sets if name not in PARALLEL)],
            "everything": [held, *(name for name in sets if name != held)],
        }
        for label, names in pools.items():
            passages = list(dict.fromkeys(text for name in names for text in sets[name].passages))
            result = run(engine, passages, sets[asked].questions)
            report_halves(f"{asked} -> {held} ({label})", result, sets[asked].answers)


def report_refusal(engine: Engine, asked: QuestionSet, passages: Sequence[str], threshold: float) -> None:
    """Print how well the best relevance shows which questions have an answer, with every second passage left out."""
    result = run(engine, passages[::2], asked.questions)
    present = asked.answers % 2 == 0
    for mode, scores in (("dense", result.dense), ("lexical", result.lexical), ("hybrid", result.hybrid)):
        top = scores.max(axis=1)
        print(
            f"  {mode}: AUROC {auroc(top[present], top[~present]):.4f}, at {threshold:.3f} refused rightly "
            f"{np.mean(top[~present] < threshold):.3f}, wrongly {np.mean(top[present] < threshold):.3f}",
            flush=True,
        )


def report_refusals(engine: Engine, sets: Mapping[str, QuestionSet], threshold: float) -> None:
    """Print `report_refusal` for each set, and for questions of one language and passages of the other."""
    for name, asked in sets.items():
        print(f"refusal {name}, half of its passages")
        report_refusal(engine, asked, asked.passages, threshold)
    for name, other in (PARALLEL, PARALLEL[::-1]) if set(PARALLEL) <= set(sets) else ():
        print(f"refusal {name} -> half of {other}")
        report_refusal(engine, sets[name], sets[other].passages, 0.6 * threshold)


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=Path, required=True, help="the folder of the sets")
    parser.add_argument("--embedder", type=Path, default=DEFAULT_ARTIFACT)
    parser.add_argument("--translations", type=Path, default=DEFAULT_TABLE)
    parser.add_argument("--dense-weight", type=float, help="unless given, the embedder's own")
    parser.add_argument("--translation-weight", type=float, default=QueryWeighting().translation_weight)
    parser.add_argument("--prior-chunks", type=float, default=QueryWeighting().prior_chunks)
    parser.add_argument("--k1", type=float, default=Bm25().k1)
    parser.add_argument("--b", type=float, default=Bm25().b)
    parser.add_argument("--average-length", type=float, default=Bm25().average_length)
    parser.add_argument("--threshold", type=float, default=0.275)
    parser.add_argument("--chunk-size", type=int, default=ChunkingSpec().size)
    parser.add_argument("--overlap", type=int, default=ChunkingSpec().overlap)
    args = parser.parse_args()
    embedder = StaticEmbedder(args.embedder)
    engine = Engine(
        embedder,
        Translations.load(args.translations),
        Bm25(args.k1, args.b, args.average_length),
        QueryWeighting(args.translation_weight, args.prior_chunks),
        embedder.fusion_weight if args.dense_weight is None else args.dense_weight,
        ChunkingSpec(args.chunk_size, args.overlap),
    )
    sets = {folder.name: read_set(folder) for folder in sorted(args.sets.iterdir()) if folder.is_dir()}
    print(f"{'':58}     R@1     R@5    R@10  MRR@10 nDCG@10")
    for name, question_set in sets.items():
        report_halves(name, run(engine, question_set.passages, question_set.questions), question_set.answers)
    if set(PARALLEL) <= set(sets):
        report_across(engine, sets)
    report_refusals(engine, sets, args.threshold)


if __name__ == "__main__":
    main()
