"""Builds the Chinese-English word table of full-text search: `python -m training.build_translations`.

It has two sources. One is the glosses of CC-CEDICT: the i-th gloss of an entry weighs 1 / (1 + .3 i), shared among its
words. The other is the parallel sentences of the training data, whose words are aligned in both directions (IBM model
1: Brown et al. 1993). A pair of words has the larger of its two weights. Weights are relative to a word's best
translation.
"""

from __future__ import annotations

import argparse
import gzip
import json
import logging
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.pairs import DOCUMENT_FILES, Pair, is_held_out, read_pairs
from zhiwen.common.lexical.analysis import (
    CHINESE_STOPWORDS,
    ENGLISH_STOPWORDS,
    analyze,
    fold_text,
    runs,
    segmented,
    starts_chinese,
    stem,
    term_id,
)
from zhiwen.common.lexical.translations import Translation, Translations

REMARK = re.compile(r"\([^()]*\)|\[[^\]]*\]|（[^）]*）")
GLOSS_GRAMMAR = frozenset(
    stem(word)
    for word in """a an the to of in on at for and or be is are was were it its sb sth somebody something one etc
    esp see also variant old abbr lit fig classifier with by from as that this into out up not no s""".split()
)
LONGEST_GLOSS, LONGEST_PHRASE = 6, 3
SENTENCE_CHARACTERS, SENTENCE_WORDS = 300, 40
ROUNDS = 6
LEAST_SCORE, LEAST_COUNT = 0.03, 0.8
BACKGROUND_SAMPLE, BACKGROUND_LEAST = 4, 0.002
Table = dict[str, dict[str, float]]
log = logging.getLogger("training")


def gloss_stems(gloss: str) -> tuple[str, ...]:
    """Return the stems of an English gloss, without grammar words and remarks in brackets."""
    words = (stem(word) for han, word in runs(REMARK.sub(" ", gloss)) if word)
    return tuple(word for word in words if word not in GLOSS_GRAMMAR)


def dictionary_table(folder: Path) -> Table:
    """Return CC-CEDICT as {source: {target: weight}} in both directions, with phrases of up to 3 stems."""
    table: defaultdict[str, dict[str, float]] = defaultdict(dict)
    with gzip.open(folder / "dict.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [row for row in map(json.loads, lines) if row["kind"] == "dict-entry"]
    glosses: defaultdict[str, list[tuple[str, ...]]] = defaultdict(list)
    for row in rows:
        found = (gloss_stems(gloss) for gloss in row["positive"].split(";"))
        glosses[fold_text(row["anchor"])] += [stems for stems in found if 0 < len(stems) <= LONGEST_GLOSS]
    for chinese, entries in glosses.items():
        for place, stems in enumerate(entries):
            weight = 1 / (1 + 0.3 * place)
            for word in stems:
                table[chinese][word] = table[chinese].get(word, 0.0) + weight / len(stems)
            if len(stems) <= LONGEST_PHRASE:
                phrase = table[" ".join(stems)]
                phrase[chinese] = max(phrase.get(chinese, 0.0), weight)
    return dict(table)


def chinese_words(text: str) -> list[str]:
    """Return the distinct Chinese words of a text without stop words, at most 40."""
    words = (word for han, _ in runs(text) if han for word in segmented(han))
    return list(dict.fromkeys(word for word in words if word not in CHINESE_STOPWORDS))[:SENTENCE_WORDS]


def english_stems(text: str) -> list[str]:
    """Return the distinct English stems of a text without stop words, at most 40."""
    stems = (stem(word) for _, word in runs(REMARK.sub(" ", text)) if word)
    telling = (s for s in stems if s not in ENGLISH_STOPWORDS and len(s) > 1 and not s.isdigit())
    return list(dict.fromkeys(telling))[:SENTENCE_WORDS]


def aligned_pairs(pairs: Iterable[Pair]) -> Iterator[tuple[list[str], list[str]]]:
    """Yield (Chinese words, English stems) of sentences, paragraphs, headings and dictionary glosses."""
    for pair in pairs:
        if is_held_out(pair):
            continue
        if pair.kind.startswith("par-") and pair.kind != "par-section":
            chinese, english = pair.anchor, pair.positive
        elif pair.kind == "dict-gloss":
            chinese, english = pair.positive, pair.anchor
        else:
            continue
        if len(chinese) <= SENTENCE_CHARACTERS:
            yield chinese_words(chinese), english_stems(english)


@dataclass(frozen=True, slots=True)
class Links:
    """All pairs of words that occur in the same pair of texts.

    `chinese`, `english` and `text`, `(n,)` each, are the numbers of a pair's two words and of its pair of texts.
    `chinese_words` and `english_words` are the words by number.
    """

    chinese: NDArray[np.int64]
    english: NDArray[np.int64]
    text: NDArray[np.int64]
    chinese_words: list[str]
    english_words: list[str]


def link(texts: Iterable[tuple[list[str], list[str]]]) -> Links:
    """Number the words and return all their pairs."""
    numbers: tuple[dict[str, int], dict[str, int]] = ({}, {})
    left, right, place = [], [], []
    for number, (chinese, english) in enumerate(texts):
        a = [numbers[0].setdefault(word, len(numbers[0])) for word in chinese]
        b = [numbers[1].setdefault(word, len(numbers[1])) for word in english]
        left.append(np.repeat(np.array(a, np.int64), len(b)))
        right.append(np.tile(np.array(b, np.int64), len(a)))
        place.append(np.full(len(a) * len(b), number, np.int64))
    arrays = [np.concatenate(part) for part in (left, right, place)]
    return Links(arrays[0], arrays[1], arrays[2], list(numbers[0]), list(numbers[1]))


def align(links: Links) -> tuple[Table, Table]:
    """Return the translation tables of IBM model 1, Chinese to English and back.

    A weight is the geometric mean of the probabilities in both directions.
    """
    keys, link_key = np.unique(links.chinese * len(links.english_words) + links.english, return_inverse=True)
    chinese, english = np.divmod(keys, len(links.english_words))
    forward, count = _expectation_maximisation(links.english, links.text, link_key, chinese)
    backward, other = _expectation_maximisation(links.chinese, links.text, link_key, english)
    scores, counts = np.sqrt(forward * backward), np.minimum(count, other)
    there: defaultdict[str, dict[str, float]] = defaultdict(dict)
    back: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for key in np.flatnonzero((scores > LEAST_SCORE) & (counts > LEAST_COUNT)):
        left, right = links.chinese_words[chinese[key]], links.english_words[english[key]]
        there[left][right] = back[right][left] = float(scores[key])
    return dict(there), dict(back)


def _expectation_maximisation(
    produced: NDArray[np.int64], text: NDArray[np.int64], link_key: NDArray[np.int64], source: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return p(produced | source) and the expected count of each pair of words, `(keys,)` each.

    `produced` and `text`, `(links,)`, are the word that a link explains and its pair of texts, `link_key`, `(links,)`,
    is the number of the link's pair of words, and `source`, `(keys,)`, is the explaining word of each pair.
    """
    _, token = np.unique(text * (int(produced.max()) + 1) + produced, return_inverse=True)
    probability: NDArray[np.float64] = np.ones(len(source))
    count: NDArray[np.float64] = probability
    for _ in range(ROUNDS):
        share = probability[link_key]
        share /= np.bincount(token, share)[token]
        count = np.bincount(link_key, share, minlength=len(source)).astype(np.float64)
        probability = count / np.bincount(source, count)[source]
    return probability, count


def relative(table: Table) -> Table:
    """Return the table with weight 1 for the best translation of every source."""
    tops = {source: max(found.values(), default=1.0) for source, found in table.items()}
    return {s: {word: weight / tops[s] for word, weight in found.items()} for s, found in table.items()}


def merged(tables: Iterable[Table], *, most: int = 24) -> dict[str, list[Translation]]:
    """Merge tables by the largest weight of each pair. Keep the `most` best translations of a source, best first."""
    result: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for table in tables:
        for source, found in relative(table).items():
            for word, weight in found.items():
                result[source][word] = max(result[source].get(word, 0.0), weight)
    return {
        source: [Translation(w, n) for w, n in sorted(found.items(), key=lambda item: (-item[1], item[0]))[:most]]
        for source, found in sorted(result.items())
        if found
    }


def background(pairs: Iterable[Pair]) -> dict[int, float]:
    """Return each term that at least 1 in 500 general passages of its language holds, with the share that hold it."""
    counts: Counter[str] = Counter()
    passages = {True: 0, False: 0}
    texts = {pair.positive: pair.group.endswith("zh") for pair in pairs if not pair.group.startswith("dict")}
    for number, (text, chinese) in enumerate(texts.items()):
        if number % BACKGROUND_SAMPLE or len(text) < (60 if chinese else 200):
            continue
        passages[chinese] += 1
        counts.update({term for term in analyze(text).terms if starts_chinese(term) == chinese})
    shares = {term: n / passages[starts_chinese(term)] for term, n in counts.items()}
    return {term_id(term): share for term, share in shares.items() if share >= BACKGROUND_LEAST}


def main() -> None:
    """Build the table from and into the folders of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder of training pairs")
    parser.add_argument("--out", type=Path, default=Path("services/common/data/cedict"))
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    there, back = align(link(aligned_pairs(read_pairs(args.data, DOCUMENT_FILES))))
    log.info("aligned: %d Chinese and %d English words", len(there), len(back))
    table = merged([dictionary_table(args.data), there, back])
    args.out.mkdir(parents=True, exist_ok=True)
    Translations.of(table, background(read_pairs(args.data, DOCUMENT_FILES))).save(args.out / "translations.npz")
    log.info("%d sources, %d translations", len(table), sum(map(len, table.values())))


if __name__ == "__main__":
    main()
