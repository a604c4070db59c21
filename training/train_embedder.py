"""Trains the built-in embedder: `python -m training.train_embedder --data DIR --out DIR` (`make train-embedder`).

It reads pairs of texts that belong together, chooses a vocabulary, and learns a vector for each token, so that the
vectors of a pair's texts point the same way. The vectors are rounded to 8 bits and written with a card. It runs in one
thread, and the same seed gives the same table.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.card import card
from training.contrastive import Encoded, Float, Ints, Plan, train
from training.mixture import LEFT_OUT, groups_of
from training.pairs import Pair, is_held_out, read_pairs
from training.vocabulary import choose_vocabulary
from zhiwen.common.embedding.static import StaticEmbedder, Tokenizer
from zhiwen.common.lexical.analysis import fold_text
from zhiwen.common.settings import BUILT_IN_MODEL

MAX_TOKENS = 512
LARGEST_VOCABULARY = 160_000
LEAST_VALIDATION = 100
log = logging.getLogger("training")


@dataclass(frozen=True, slots=True)
class Corpus:
    """All distinct texts as rows of the table, and the pairs as numbers of texts, `(n, 2)`.

    `frequencies`, `(rows,)`, is the share of texts that have each token.
    """

    encoded: Encoded
    pairs: Ints
    frequencies: Float


def dictionary_words(pairs: Iterable[Pair]) -> set[str]:
    """Return the folded Chinese headwords of the dictionary pairs, and the words of the Chinese synonyms."""
    words: set[str] = set()
    for pair in pairs:
        if pair.group == "dict:zh-en":
            words.add(fold_text(pair.anchor))
        elif pair.group == "dict:en-zh":
            words.update(fold_text(pair.positive).split())
        elif pair.group == "synonym:zh-zh":
            words.update((fold_text(pair.anchor), fold_text(pair.positive)))
    return words


def encode(texts: Sequence[str], vocabulary: Sequence[str]) -> Encoded:
    """Return each text as its distinct rows of the table."""
    tokenizer = Tokenizer({token: row for row, token in enumerate(vocabulary)})
    rows, starts = array("i"), [0]
    for text in texts:
        rows.extend(tokenizer.rows(text).tolist())
        starts.append(len(rows))
    return Encoded(np.frombuffer(rows, np.int32), np.array(starts, np.int64))


def build_corpus(pairs: Sequence[Pair], limit: int) -> tuple[list[str], Corpus]:
    """Return the vocabulary, at most `limit` tokens, and the encoded pairs."""
    numbers: dict[str, int] = {}
    for pair in pairs:
        numbers.setdefault(pair.anchor, len(numbers))
        numbers.setdefault(pair.positive, len(numbers))
    vocabulary = choose_vocabulary(numbers, dictionary_words(pairs), limit)
    encoded = encode(list(numbers), vocabulary)
    frequencies = np.bincount(encoded.rows, minlength=len(vocabulary)) / len(numbers)
    ends = np.array([(numbers[pair.anchor], numbers[pair.positive]) for pair in pairs])
    return vocabulary, Corpus(encoded, ends, frequencies.astype(np.float32))


def quantised(table: Float) -> tuple[NDArray[np.int8], Float]:
    """Return the table in 8 bits, and the factor by which each row has to be multiplied, `(rows,)`."""
    scales = np.maximum(np.abs(table).max(axis=1), 1e-9) / 127
    return np.rint(table / scales[:, None]).astype(np.int8), scales.astype(np.float32)


def write_artifact(out: Path, vocabulary: Sequence[str], table: Float, plan: Plan) -> None:
    """Write the folder that `StaticEmbedder` opens."""
    out.mkdir(parents=True, exist_ok=True)
    integers, scales = quantised(table / np.abs(table).max())
    np.save(out / "table.npy", integers)
    np.save(out / "scales.npy", scales)
    (out / "vocabulary.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    config = {
        "model": BUILT_IN_MODEL,
        "dimension": plan.dimension,
        "max_tokens": MAX_TOKENS,
        "training": asdict(plan),
    }
    (out / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def validate(embedder: StaticEmbedder, pairs: Iterable[Pair]) -> dict[tuple[str, str], tuple[int, float, float]]:
    """Return for each (kind, group) the number of held-out pairs, and R@1 and R@10 of finding the positives."""
    held: dict[tuple[str, str], dict[str, str]] = {}
    for pair in pairs:
        if is_held_out(pair):
            held.setdefault((pair.kind, pair.group), {}).setdefault(pair.positive, pair.anchor)
    scores = {}
    for name, members in sorted(held.items()):
        if len(members) >= LEAST_VALIDATION:
            cosines = embedder.embed_queries(list(members.values())) @ embedder.embed_passages(list(members)).T
            ranks = (cosines > np.diagonal(cosines)[:, None]).sum(axis=1)
            scores[name] = (len(members), float(np.mean(ranks < 1)), float(np.mean(ranks < 10)))
    return scores


def main() -> None:
    """Train from and into the folders of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder of training pairs")
    parser.add_argument("--out", type=Path, default=Path("services/common/data/embedder"))
    parser.add_argument("--dimension", type=int, default=Plan().dimension)
    parser.add_argument("--steps", type=int, default=Plan().steps)
    parser.add_argument("--rows", type=int, default=LARGEST_VOCABULARY)
    parser.add_argument("--seed", type=int, default=Plan().seed)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    started = time.monotonic()
    plan = Plan(dimension=args.dimension, steps=args.steps, seed=args.seed)
    pairs = list(read_pairs(args.data))
    vocabulary, corpus = build_corpus(pairs, args.rows)
    log.info("%d pairs, %d rows, %d texts", len(pairs), len(vocabulary), len(corpus.encoded.starts) - 1)
    filled = np.diff(corpus.encoded.starts) > 0
    groups = groups_of(pairs, np.logical_and(*filled[corpus.pairs].T))
    table = train(corpus.encoded, corpus.pairs, groups, corpus.frequencies, plan)
    write_artifact(args.out, vocabulary, table, plan)
    scores = validate(StaticEmbedder(args.out), pairs)
    sources = Counter((pair.source, pair.licence) for pair in pairs if pair.kind not in LEFT_OUT)
    text = card(BUILT_IN_MODEL, len(vocabulary), plan, sources, scores)
    (args.out / "CARD.md").write_text(text, encoding="utf-8")
    log.info("done in %.0f s", time.monotonic() - started)


if __name__ == "__main__":
    main()
