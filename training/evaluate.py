"""Measures dense, full-text and hybrid retrieval on every question set: `python -m training.evaluate`.

`training/sets.py` says which sets there are, and `training/simulation.py` how a search is simulated. A choice is made
on the `choose` half of a set and reported on the `test` half.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from training.sets import QuestionSet, all_sets, pair_set
from training.simulation import Engine, Searched, best, measures, ranking, ranks_of, searched
from zhiwen.common.embedding.base import Embedder
from zhiwen.common.embedding.static import DEFAULT_ARTIFACT, StaticEmbedder
from zhiwen.common.embedding.transformer import SentenceTransformerEmbedder
from zhiwen.common.lexical.bm25 import Bm25, QueryWeighting
from zhiwen.common.lexical.translations import DEFAULT_TABLE, Translations
from zhiwen.common.models import ChunkingSpec
from zhiwen.query.search.relevance import DenseWeight

PAIRS = 1000
"""Held-out training pairs in each language that make a set."""


def sets_of(data: Path) -> Iterator[QuestionSet]:
    """Yield every set below the data folder, and one of training pairs in each language."""
    yield from all_sets(data)
    for language in ("zh", "en"):
        yield pair_set(data / "train", language, limit=PAIRS)


def report(found: Searched, weight: DenseWeight | None) -> Iterator[str]:
    """Yield a line for each half of a set: R@1, R@5, R@10 and MRR@10 of the three modes."""
    choosing = np.array([q.half == "choose" for q, right in zip(found.questions, found.right, strict=True) if right])
    modes = (best(np.clip(found.cosine, 0, 1)), best(found.full_text), ranking(found, weight))
    ranks = [ranks_of(scores, found) for scores in modes]
    for half, chosen in (("choose", choosing), ("test", ~choosing)):
        values = (" ".join(f"{value:.3f}" for value in measures(rank[chosen]).values()) for rank in ranks)
        yield f"{found.name:22} {half:6} {chosen.sum():5}  " + "  ".join(values)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="the folder of the data")
    parser.add_argument("--embedder", type=Path, default=DEFAULT_ARTIFACT)
    parser.add_argument("--transformer", help="a sentence-transformers model in place of the table")
    parser.add_argument("--translations", type=Path, default=DEFAULT_TABLE)
    parser.add_argument("--dense-weight", type=float, help="unless given, the embedder's own")
    parser.add_argument("--translation-weight", type=float, default=QueryWeighting().translation_weight)
    parser.add_argument("--prior-chunks", type=float, default=QueryWeighting().prior_chunks)
    parser.add_argument("--k1", type=float, default=Bm25().k1)
    parser.add_argument("--b", type=float, default=Bm25().b)
    parser.add_argument("--average-length", type=float, default=Bm25().average_length)
    parser.add_argument("--chunk-size", type=int, default=ChunkingSpec().size)
    parser.add_argument("--overlap", type=int, default=ChunkingSpec().overlap)
    parser.add_argument("--only", default="", help="sets whose name holds this")
    args = parser.parse_args()
    embedder: Embedder = (
        SentenceTransformerEmbedder(args.transformer) if args.transformer else StaticEmbedder(args.embedder)
    )
    engine = Engine(
        embedder,
        Translations.load(args.translations),
        Bm25(args.k1, args.b, args.average_length),
        QueryWeighting(args.translation_weight, args.prior_chunks),
        ChunkingSpec(args.chunk_size, args.overlap),
    )
    weight = None if args.dense_weight is None else DenseWeight(args.dense_weight)
    print(f"{'':36}" + "".join(f"{mode:25}" for mode in ("dense", "full text", "hybrid: R@1 R@5 R@10 MRR@10")))
    for question_set in sets_of(args.data):
        if args.only in question_set.name:
            for line in report(searched(engine, question_set), weight):
                print(line, flush=True)


if __name__ == "__main__":
    main()
