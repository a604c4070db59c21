"""The tokens that answers used, as they are reported, summed and written."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from zhiwen.common.models import UsageRow
from zhiwen.llm_gateway.accounting.usage import TokenUsage, UsageTotals, usage_from


@pytest.mark.parametrize(
    ("reported", "usage"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}, TokenUsage(3, 2, True)),
        ({"prompt_tokens": 3, "total_tokens": 3}, TokenUsage(3, 0, True)),
        ({"total_tokens": 9}, TokenUsage(9, 0, True)),
        ({"prompt_tokens": 2**31, "completion_tokens": None}, TokenUsage(2**31, 0, True)),
        ({"prompt_tokens": 18446744073709551615, "completion_tokens": 2}, TokenUsage()),
        ({"prompt_tokens": 3, "completion_tokens": -1}, TokenUsage()),
        ({"prompt_tokens": True, "completion_tokens": 2}, TokenUsage()),
        ({"prompt_tokens": "3", "total_tokens": 9}, TokenUsage()),
        ({}, TokenUsage()),
        (None, TokenUsage()),
    ],
)
def test_usage_as_it_is_reported(reported: object, usage: TokenUsage) -> None:
    assert usage_from(reported) == usage


def test_usage_is_summed_and_kept_while_it_cannot_be_written() -> None:
    written: list[Sequence[UsageRow]] = []
    broken = True

    def write(rows: Sequence[UsageRow]) -> None:
        if broken:
            raise OSError("disk full")
        written.append(rows)

    totals = UsageTotals(write)
    totals.add("2026-01-31", "a", "qwen", TokenUsage(3, 2, True))
    totals.flush()
    totals.add("2026-01-31", "a", "qwen", TokenUsage())
    broken = False
    totals.flush()
    totals.flush()
    assert written == [[UsageRow("2026-01-31", "a", "qwen", 2, 1, 3, 2)]]
