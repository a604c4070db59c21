"""Leaves out hits whose text repeats, and adds the neighbouring chunks to a hit when that is asked for. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from zhiwen.common.models import Hit

MIN_OVERLAP = 8
"""Shortest overlap of two neighbours, in characters. A shorter one may be chance."""


def distinct(hits: Iterable[Hit]) -> Iterator[Hit]:
    """Yield each hit whose text differs from the text of every earlier hit. White space does not count."""
    seen: set[str] = set()
    for hit in hits:
        key = "".join(hit.text.split())
        if key not in seen:
            seen.add(key)
            yield hit


def with_neighbours(hit: Hit, around: Sequence[Hit]) -> Hit:
    """Return the hit with the text of the chunks around it.

    `around` are the neighbouring chunks and the hit's own chunk, in the order of the document.
    """
    return replace(hit, text=join_neighbours(around)) if around else hit


def join_neighbours(chunks: Sequence[Hit]) -> str:
    """Join successive chunks of a document. Text that two chunks share appears once."""
    joined = ""
    for chunk in chunks:
        joined = _join(joined, chunk.text)
    return joined


def _join(left: str, right: str) -> str:
    for length in range(min(len(left), len(right)), MIN_OVERLAP - 1, -1):
        if left.endswith(right[:length]):
            return left + right[length:]
    return f"{left}\n{right}" if left else right
