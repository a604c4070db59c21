"""From hits to the passages of a prompt. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from zhiwen.common.models import Hit, with_heading

MIN_OVERLAP = 8
_CJK = re.compile(r"[\u2e80-\u9fff\uac00-\ud7ff\uf900-\ufaff\uff00-\uffef]")


def distinct(hits: Iterable[Hit]) -> Iterator[Hit]:
    """Yield the hits whose text, white space aside, no earlier hit has already."""
    seen: set[str] = set()
    for hit in hits:
        key = "".join(hit.text.split())
        if key not in seen:
            seen.add(key)
            yield hit


def join_neighbours(chunks: Sequence[Hit]) -> str:
    """Join chunks that follow each other, without repeating what they share."""
    joined = ""
    for chunk in chunks:
        joined = _join(joined, chunk.text)
    return joined


def _join(left: str, right: str) -> str:
    for length in range(min(len(left), len(right)), MIN_OVERLAP - 1, -1):
        if left.endswith(right[:length]):
            return left + right[length:]
    return f"{left}\n{right}" if left else right


def with_neighbours(hit: Hit, around: Sequence[Hit]) -> Hit:
    """Return the hit with the text of the chunks around it; `around` holds the hit's own chunk, in order."""
    return replace(hit, text=join_neighbours(around)) if around else hit


def count_tokens(text: str) -> int:
    """Estimate the tokens a language model needs: one per CJK character, one per four others."""
    cjk = len(_CJK.findall(text))
    return cjk + (len(text) - cjk + 3) // 4


def within_budget(hits: Sequence[Hit], max_tokens: int) -> list[Hit]:
    """Return the best hits that fit together, whole passages only; the best alone is cut if it must be."""
    kept: list[Hit] = []
    left = max_tokens
    for hit in hits:
        needed = count_tokens(passage(len(kept) + 1, hit))
        if needed > left:
            continue
        kept.append(hit)
        left -= needed
    if not kept and hits:
        kept = [replace(hits[0], text=_cut(hits[0].text, max_tokens))]
    return kept


def _cut(text: str, max_tokens: int) -> str:
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if count_tokens(text[:middle]) <= max_tokens else (low, middle - 1)
    return text[:low]


def passage(number: int, hit: Hit) -> str:
    """Return a hit as it stands in the prompt: its number, the headings above it, its text."""
    text = hit.text if hit.text.startswith(hit.heading) else with_heading(hit.heading, hit.text)
    return f"[{number}] {text}"


def context_of(hits: Sequence[Hit]) -> str:
    """Return the numbered passages, as they fill `{context}`."""
    return "\n\n".join(passage(number, hit) for number, hit in enumerate(hits, 1))
