"""Reads the training pairs, and decides which are held out."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

FILES = ("dict", "heading", "parallel", "selfsup", "question", "paraphrase", "synonym")
DOCUMENT_FILES = FILES[:4]
"""The files of pairs made of documents and dictionaries; the others hold questions and everyday words."""
_LONGEST_TEXT = 1200


@dataclass(frozen=True, slots=True)
class Pair:
    """Two texts that belong together. `group` is the file and the languages of the pair, such as `dict:zh-en`."""

    anchor: str
    positive: str
    group: str
    kind: str
    source: str = ""
    licence: str = ""


def read_pairs(folder: Path, files: Sequence[str] = FILES) -> Iterator[Pair]:
    """Yield all pairs of `files` in a folder, their texts cut to 1,200 characters."""
    for name in files:
        with gzip.open(folder / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                yield Pair(
                    row["anchor"][:_LONGEST_TEXT],
                    row["positive"][:_LONGEST_TEXT],
                    f"{name}:{row['lang_a']}-{row['lang_p']}",
                    row["kind"],
                    row["source"],
                    row["licence"],
                )


def is_held_out(pair: Pair, *, one_in: int = 60) -> bool:
    """Return True when a pair is for validation and not for training: 1 in `one_in`, by a hash of the positive text."""
    return zlib.crc32(pair.positive.encode()) % one_in == 0
