"""Turns hits into the numbered passages of a prompt. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from zhiwen.common.models import Hit, with_heading

_CJK = re.compile(r"[\u2e80-\u9fff\uac00-\ud7ff\uf900-\ufaff\uff00-\uffef]")


def count_tokens(text: str) -> int:
    """Estimate the tokens that a language model needs: one per CJK character, one per four others."""
    cjk = len(_CJK.findall(text))
    return cjk + (len(text) - cjk + 3) // 4


def within_budget(hits: Sequence[Hit], max_tokens: int) -> list[Hit]:
    """Return the best hits whose passages have at most `max_tokens` tokens together.

    Passages stay whole. Only when the best one alone is too long, its text is cut.
    """
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
    """Return the longest beginning of a text that has at most `max_tokens` tokens."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if count_tokens(text[:middle]) <= max_tokens else (low, middle - 1)
    return text[:low]


def passage(number: int, hit: Hit) -> str:
    """Return a hit as the prompt shows it: its number, the headings above it, and its text."""
    text = hit.text if hit.text.startswith(hit.heading) else with_heading(hit.heading, hit.text)
    return f"[{number}] {text}"


def context_of(hits: Sequence[Hit]) -> str:
    """Return the numbered passages, as text for the template's `{context}`."""
    return "\n\n".join(passage(number, hit) for number, hit in enumerate(hits, 1))
