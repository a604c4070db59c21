"""Sums in memory the tokens that each key used of each model. A flush writes the sums, so that no request waits."""

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
class TokenUsage:
    """The tokens of one answer as the model server reported them. `metered` is False when it reported none."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    metered: bool = False

    @property
    def total(self) -> int:
        """All tokens of the prompt and the answer."""
        return self.prompt_tokens + self.completion_tokens


UNMETERED = TokenUsage()


def usage_from(reported: Any) -> TokenUsage:
    """Read OpenAI's `usage` object. Anything else, and numbers that no answer can have, count as unmetered."""
    if not isinstance(reported, dict):
        return UNMETERED
    counts = {name: reported[name] for name in _COUNTS if reported.get(name) is not None}
    if not all(type(count) is int and 0 <= count <= MOST_TOKENS for count in counts.values()):
        return UNMETERED
    prompt = counts.get("prompt_tokens", counts.get("total_tokens"))
    return UNMETERED if prompt is None else TokenUsage(prompt, counts.get("completion_tokens", 0), True)


WriteUsage = Callable[[Sequence[UsageRow]], None]
"""Adds rows to the ledger in one transaction. Blocking."""


class UsageTotals:
    """Sums usage by day, key and model until it is flushed. Safe to call from several threads.

    `write` is None when there is no ledger; then nothing is summed.
    """

    def __init__(self, write: WriteUsage | None) -> None:
        self._write = write
        self._lock = threading.Lock()
        self._sums: dict[tuple[str, str, str], list[int]] = {}

    def add(self, day: str, key: str, model: str, usage: TokenUsage) -> None:
        """Count one request. `day` is like `2026-01-31`."""
        if self._write is None:
            return
        with self._lock:
            sums = self._sums.setdefault((day, key, model), [0, 0, 0, 0])
            sums[0] += 1
            sums[1] += not usage.metered
            sums[2] += usage.prompt_tokens
            sums[3] += usage.completion_tokens

    def flush(self) -> None:
        """Write the sums. Blocking. Sums that cannot be written now are kept for the next flush."""
        if self._write is None:
            return
        with self._lock:
            taken, self._sums = self._sums, {}
        if not taken:
            return
        try:
            self._write([UsageRow(*place, *sums) for place, sums in taken.items()])
        except Exception as exc:  # whatever the ledger raises, the sums are kept for the next flush
            log.error("usage_not_written", exc_info=exc, rows=len(taken))
            with self._lock:
                for place, sums in taken.items():
                    kept = self._sums.setdefault(place, [0, 0, 0, 0])
                    kept[:] = [a + b for a, b in zip(kept, sums, strict=True)]
