"""Measures embedders on all question sets, half by half: `python -m training.compare --data DIR --embedder DIR ...`.

For each set, half and mode, a row has R@1, R@5, R@10 and MRR@10 of every embedder, one after the other. A choice is
made on the rows of the choose halves, and reported with those of the test halves.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.sets import QuestionSet, all_sets, pair_set
from training.simulation import Engine, Searched, best, measures, ranking, ranks_of, searched
from zhiwen.common.embedding.static import DEFAULT_ARTIFACT, StaticEmbedder
from zhiwen.common.lexical.translations import Translations
from zhiwen.query.search.relevance import DenseWeight

HELD_OUT_PAIRS = 1000
MODES = ("dense", "full text", "hybrid")
HALVES = ("choose", "test")


def every_set(data: Path) -> Iterator[QuestionSet]:
    """Yield all question sets below a folder, and the held-out training pairs of both languages."""
    yield from all_sets(data)
    for language in ("zh", "en"):
        yield pair_set(data / "train", language, limit=HELD_OUT_PAIRS)


def figures(found: Searched, weight: DenseWeight | None) -> dict[tuple[str, str], str]:
    """Return the figures of a search by (mode, half). `weight` None is the embedder's own weight in hybrid search."""
    words, cosines = best(found.full_text), best(np.clip(found.cosine, 0, 1))
    scores: dict[str, NDArray[np.floating]] = dict(zip(MODES, (cosines, words, ranking(found, weight)), strict=True))
    answerable = [q for q, right in zip(found.questions, found.right, strict=True) if right]
    chosen = np.array([question.half == "choose" for question in answerable])
    rows = {}
    for mode in MODES:
        ranks = ranks_of(scores[mode], found)
        for half, part in zip(HALVES, (ranks[chosen], ranks[~chosen]), strict=True):
            rows[mode, half] = " ".join(f"{value:.3f}" for value in measures(part).values())
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder with retrieval, everyday and train")
    parser.add_argument("--embedder", type=Path, nargs="+", default=[DEFAULT_ARTIFACT], help="folders of tables")
    parser.add_argument("--dense-weight", type=float, help="unless given, each embedder's own")
    args = parser.parse_args()
    weight = None if args.dense_weight is None else DenseWeight(args.dense_weight)
    embedders = [StaticEmbedder(folder) for folder in args.embedder]
    translations = Translations.load()
    for question_set in every_set(args.data):
        compared = []
        for embedder in embedders:
            compared.append(figures(searched(Engine(embedder, translations), question_set), weight))
        for mode, half in compared[0]:
            row = " | ".join(rows[mode, half] for rows in compared)
            print(f"{question_set.name:24} {half:6} {mode:9} | {row}", flush=True)


if __name__ == "__main__":
    main()
