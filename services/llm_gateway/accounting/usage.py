"""Who used how many tokens of which model: summed in memory, written every few seconds, never in a request's way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from zhiwen.common.models import UsageRow

log = structlog.get_logger(__name__)

MOST_TOKENS = 2**31
_COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer as the model server reported them; `metered` is False when it reported none."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    metered: bool = False

    @property
    def total(self) -> int:
        return self.prompt_tokens + self.completion_tokens


def usage_from(reported: Any) -> Usage:
    """Read OpenAI's `usage` object; anything else, and numbers that no answer has, is unmetered."""
    if not isinstance(reported, dict):
        return Usage()
    counts = {name: reported[name] for name in _COUNTS if reported.get(name) is not None}
    if not all(type(count) is int and 0 <= count <= MOST_TOKENS for count in counts.values()):
        return Usage()
    prompt = counts.get("prompt_tokens", counts.get("total_tokens"))
    return Usage() if prompt is None else Usage(prompt, counts.get("completion_tokens", 0), True)


WriteUsage = Callable[[Sequence[UsageRow]], None]
"""Adds rows to the ledger in one transaction. Blocking."""


class Accounts:
    """Sums usage until it is flushed. Safe to call from several threads."""

    def __init__(self, write: WriteUsage | None) -> None:
        self._write = write
        self._lock = threading.Lock()
        self._sums: dict[tuple[str, str, str], list[int]] = {}

    def add(self, day: str, key: str, model: str, usage: Usage) -> None:
        """Count one request."""
        if self._write is None:
            return
        with self._lock:
            sums = self._sums.setdefault((day, key, model), [0, 0, 0, 0])
            sums[0] += 1
            sums[1] += not usage.metered
            sums[2] += usage.prompt_tokens
            sums[3] += usage.completion_tokens

    def flush(self) -> None:
        """Write what was summed. Blocking; what cannot be written now is kept for the next time."""
        if self._write is None:
            return
        with self._lock:
            taken, self._sums = self._sums, {}
        if not taken:
            return
        try:
            self._write([UsageRow(*place, *sums) for place, sums in taken.items()])
        except Exception as exc:  # whatever the ledger raises: what was used is kept for the next flush
            log.error("usage_not_written", exc_info=exc, rows=len(taken))
            with self._lock:
                for place, sums in taken.items():
                    kept = self._sums.setdefault(place, [0, 0, 0, 0])
                    kept[:] = [a + b for a, b in zip(kept, sums, strict=True)]
