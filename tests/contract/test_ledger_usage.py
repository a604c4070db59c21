"""What the ledger promises about token accounts, on SQLite and on PostgreSQL."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from zhiwen.common.ledger import Ledger
from zhiwen.common.models import UsageRow

THREADS = 8
DAY = "2026-01-31"


def row(day: str = DAY, key: str = "team-a", model: str = "qwen", times: int = 1) -> UsageRow:
    return UsageRow(day, key, model, times, 0, 11 * times, 7 * times)


def test_ledger_without_usage_reports_nothing(ledger: Ledger) -> None:
    ledger.usage.add([])
    assert ledger.usage.report("2000-01-01") == []


def test_usage_is_added_to_what_is_there(ledger: Ledger) -> None:
    ledger.usage.add([UsageRow(DAY, "团队", "qwen", 1, 1, 0, 0)])
    ledger.usage.add([UsageRow(DAY, "团队", "qwen", 2, 0, 30, 4), row(key="other")])
    assert ledger.usage.report(DAY) == [row(key="other"), UsageRow(DAY, "团队", "qwen", 3, 1, 30, 4)]


def test_rows_of_one_place_in_one_call_are_added_up(ledger: Ledger) -> None:
    ledger.usage.add([row(), row(times=2)])
    assert ledger.usage.report(DAY) == [row(times=3)]


def test_sums_grow_past_32_bits(ledger: Ledger) -> None:
    for _ in range(2):
        ledger.usage.add([row(times=2**33)])
    assert ledger.usage.report(DAY) == [row(times=2**34)]


@pytest.mark.parametrize(
    ("since", "until", "key", "found"),
    [
        ("2026-01-01", None, None, 6),
        ("2026-01-31", None, None, 4),
        ("2026-01-30", "2026-01-31", None, 4),
        ("2026-01-31", "2026-01-31", "team-a", 1),
        ("2026-01-01", None, "team-a", 3),
        ("2026-02-02", None, None, 0),
        ("2026-01-01", None, "nobody", 0),
    ],
)
def test_report_holds_the_days_and_the_key_asked_for(
    ledger: Ledger, since: str, until: str | None, key: str | None, found: int
) -> None:
    days = ("2026-01-30", "2026-01-31", "2026-02-01")
    ledger.usage.add([row(day, name) for day in reversed(days) for name in ("team-b", "team-a")])
    reported = ledger.usage.report(since, until, key)
    assert len(reported) == found
    assert reported == sorted(reported, key=lambda row: (row.day, row.key))


def test_names_that_no_column_holds_do_not_keep_the_others_out(ledger: Ledger) -> None:
    ledger.usage.add([row(), row(model="长" * 300), row(model="a\0b")])
    assert {reported.model for reported in ledger.usage.report(DAY)} == {"qwen", "长" * 255, "a\ufffdb"}


@pytest.mark.timeout(60)
def test_many_writers_lose_nothing(ledger: Ledger) -> None:
    """Eight gateways that name the same rows in different orders."""
    start = threading.Barrier(THREADS)
    models = [f"model-{number}" for number in range(5)]

    def write(number: int) -> None:
        start.wait()
        for turn in range(25):
            order = models[turn % 5 :] + models[: turn % 5]
            ledger.usage.add([row(model=model) for model in (order if number % 2 else reversed(order))])

    with ThreadPoolExecutor(THREADS) as pool:
        for future in [pool.submit(write, number) for number in range(THREADS)]:
            future.result()
    assert ledger.usage.report(DAY) == [row(model=model, times=25 * THREADS) for model in models]
