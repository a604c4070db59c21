"""Writes the card of the embedder: its data, licences and scores."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

from training.contrastive import Plan

REMARKS = {
    "PSF-2.0/CC0": "label of the translation project's contribution agreement, not found beside the data",
    "CC-BY-2.0-FR": "Tatoeba, through a third party's copy; label not found beside the data",
    "CC0-1.0": "some of it dialogues that a language model wrote",
    "MIT": "as the repositories state; patients' and doctors' texts came from public sites",
    "WordNet-3.0 (Chinese Open Wordnet)": "notice below",
}
NOTICE = """
Chinese Open Wordnet: Shan Wang and Francis Bond, "Building the Chinese Open Wordnet (COW): Starting from Core Synsets",
11th Workshop on Asian Language Resources, 2013. It is derived from WordNet 3.0, which has this notice:

> Permission to use, copy, modify and distribute this software and database and its documentation for any purpose and
> without fee or royalty is hereby granted, provided that you agree to comply with the following copyright notice and
> statements, including the disclaimer, and that the same appear on ALL copies of the software, database and
> documentation, including modifications that you make for internal use or for distribution. WordNet 3.0 Copyright 2006
> by Princeton University. All rights reserved. THIS SOFTWARE AND DATABASE IS PROVIDED "AS IS" AND PRINCETON UNIVERSITY
> MAKES NO REPRESENTATIONS OR WARRANTIES, EXPRESS OR IMPLIED.
"""
HEAD = """# {model}

A table of {rows:,} word vectors of {dimension} dimensions in 8 bits for Chinese and English. A text's vector is the
L2-normalised sum of the rows of its distinct tokens: Chinese 1- to 4-grams that the vocabulary knows, Snowball stems
of other words, character 4-grams of unknown ones. Traditional characters are folded to Simplified, case and accents
dropped.

It needs numpy, runs at thousands of passages a second on one thread, and finds a text in the other language. It is
no replacement for a transformer: it knows no word order and no word that its training data lacks.

Made by

    python -m training.train_embedder --data ../shared/data/train --out services/common/data/embedder

with seed {seed}: {steps} steps of {batch} pairs, symmetric InfoNCE (scale {scale:g}), row-wise Adagrad (rate
{learning_rate:g}, {warm_up} steps warm-up, linear decay), rows started at N(0, 1) * sqrt(a / (a + p)) with
a = {frequency_weight:g}. numpy and scipy, one thread. `training/mixture.py` says how often each kind of pair is drawn,
and which kinds are left out. No training data come from the question sets, whose figures are in `training/RESULTS.md`.

## Scores on held-out pairs

One pair in 60 by a hash of the second text. R@k: the share of first texts whose second is among the best k of its row.

| kind | file and languages | pairs | R@1 | R@10 |
| --- | --- | --- | --- | --- |
"""


def card(
    model: str,
    rows: int,
    plan: Plan,
    sources: Counter[tuple[str, str]],
    scores: Mapping[tuple[str, str], tuple[int, float, float]],
) -> str:
    """Return the card as Markdown.

    `model` is the name, `rows` the size of the vocabulary, `plan` the parameters of the training, `sources` counts
    pairs by (source, licence), `scores` has (pairs, R@1, R@10) by (kind, file and languages).
    """
    text = HEAD.format(
        model=model,
        rows=rows,
        dimension=plan.dimension,
        seed=plan.seed,
        steps=plan.steps,
        batch=plan.batch,
        scale=plan.scale,
        learning_rate=plan.learning_rate,
        warm_up=plan.warm_up,
        frequency_weight=plan.frequency_weight,
    )
    for (kind, group), (count, first, tenth) in scores.items():
        text += f"| {kind} | {group} | {count} | {first:.3f} | {tenth:.3f} |\n"
    return text + _licences(sources) + NOTICE


def _licences(sources: Counter[tuple[str, str]]) -> str:
    by_licence: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for (source, licence), count in sources.items():
        by_licence[licence][source] += count
    text = "\n## Data and licences\n\n| licence | sources (pairs) |\n| --- | --- |\n"
    for licence, found in sorted(by_licence.items()):
        remark = f" ({REMARKS[licence]})" if licence in REMARKS else ""
        named = ", ".join(f"{source} ({count})" for source, count in found.most_common())
        text += f"| {licence}{remark} | {named} |\n"
    return text
