"""Limits in this process, accounts, and export files."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from zhiwen.common.errors import TooMany
from zhiwen.common.models import UsageRow
from zhiwen.llm_gateway.accounting.conversation_log import QUEUE, ConversationLog
from zhiwen.llm_gateway.accounting.limits import LocalLimiter, estimated_tokens, limits_of
from zhiwen.llm_gateway.accounting.usage import TokenUsage, UsageTotals, usage_from
from zhiwen.llm_gateway.config import KeyLimits
from zhiwen.llm_gateway.metrics import CONVERSATIONS_DROPPED
from zhiwen.llm_gateway.request import Endpoint, read_request


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def admitted(limiter: LocalLimiter, limits: KeyLimits, count: int, tokens: int = 1) -> int:
    results = await asyncio.gather(*(limiter.admit(limits, "k", tokens) for _ in range(count)), return_exceptions=True)
    assert all(isinstance(result, TooMany) for result in results if isinstance(result, BaseException))
    return sum(not isinstance(result, BaseException) for result in results)


async def test_requests_per_minute_are_exact_under_concurrent_clients() -> None:
    limiter = LocalLimiter(Clock())
    assert await admitted(limiter, KeyLimits(name="k", requests_per_minute=20), 50) == 20


async def test_the_minute_moves_on() -> None:
    clock = Clock()
    limiter = LocalLimiter(clock)
    limits = KeyLimits(name="k", requests_per_minute=2)
    await limiter.admit(limits, "k", 1)
    clock.now += 30
    await limiter.admit(limits, "k", 1)
    with pytest.raises(TooMany) as refused:
        await limiter.admit(limits, "k", 1)
    assert refused.value.retry_after == 31
    clock.now += 31
    await limiter.admit(limits, "k", 1)
    with pytest.raises(TooMany):
        await limiter.admit(limits, "k", 1)


async def test_reserved_tokens_count_until_the_truth_is_known() -> None:
    limiter = LocalLimiter(Clock())
    limits = KeyLimits(name="k", tokens_per_minute=100)
    admission = await limiter.admit(limits, "k", 90)
    with pytest.raises(TooMany) as refused:
        await limiter.admit(limits, "k", 20)
    assert refused.value.code == "tokens-per-minute"
    limiter.settle(admission, 15)
    assert await admitted(limiter, limits, 10, 20) == 4


async def test_a_request_larger_than_the_limit_may_enter_an_empty_window() -> None:
    limiter = LocalLimiter(Clock())
    limits = KeyLimits(name="k", tokens_per_minute=10)
    await limiter.admit(limits, "k", 500)
    with pytest.raises(TooMany):
        await limiter.admit(limits, "k", 1)


async def test_keys_do_not_share_their_limits() -> None:
    limiter = LocalLimiter(Clock())
    limits = KeyLimits(name="*", requests_per_minute=1)
    await limiter.admit(limits, "a", 1)
    await limiter.admit(limits, "b", 1)


def test_limits_by_name_then_for_all() -> None:
    keys = (KeyLimits(name="*", requests_per_minute=1), KeyLimits(name="a", requests_per_minute=2))
    assert limits_of(keys, "a") is keys[1]
    assert limits_of(keys, "b") is keys[0]
    assert limits_of(keys[1:], "b") is None


def test_an_estimate_covers_the_prompt_and_the_answer() -> None:
    body = json.dumps({"messages": [], "max_tokens": 100, "x": "y" * 300}).encode()
    assert estimated_tokens(read_request(Endpoint.CHAT, body)) >= 200
    assert estimated_tokens(read_request(Endpoint.EMBEDDINGS, body)) < 200


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


def test_accounts_are_summed_and_kept_while_they_cannot_be_written() -> None:
    written: list[Sequence[UsageRow]] = []
    broken = True

    def write(rows: Sequence[UsageRow]) -> None:
        if broken:
            raise OSError("disk full")
        written.append(rows)

    accounts = UsageTotals(write)
    accounts.add("2026-01-31", "a", "qwen", TokenUsage(3, 2, True))
    accounts.flush()
    accounts.add("2026-01-31", "a", "qwen", TokenUsage())
    broken = False
    accounts.flush()
    accounts.flush()
    assert written == [[UsageRow("2026-01-31", "a", "qwen", 2, 1, 3, 2)]]


def test_conversations_are_written_one_per_line_and_files_rotate(tmp_path: Path) -> None:
    clock = Clock()
    exporter = ConversationLog(tmp_path / "export", 60.0, clock=clock)
    exporter.put({"answer": "年假"})
    exporter.close()
    clock.now += 100
    later = ConversationLog(tmp_path / "export", 60.0, clock=clock)
    for number in range(300):
        later.put({"n": number})
    later.close()
    first, second = sorted((tmp_path / "export").iterdir())
    assert json.loads(first.read_text()) == {"answer": "年假"}
    assert [json.loads(line)["n"] for line in second.read_text().splitlines()] == list(range(300))


def dropped() -> float:
    [metric] = CONVERSATIONS_DROPPED.collect()
    return metric.samples[0].value


def test_a_conversation_that_cannot_be_written_is_counted_and_the_others_are_kept(tmp_path: Path) -> None:
    before = dropped()
    exporter = ConversationLog(tmp_path, 60.0)
    for content in ("first", json.loads("[" * 300 + "]" * 300), "last"):
        exporter.put({"answer": content})
    exporter.close()
    [file] = tmp_path.iterdir()
    assert [json.loads(line)["answer"] for line in file.read_text().splitlines()] == ["first", "last"]
    assert dropped() == before + 1


def test_a_disk_that_does_not_answer_does_not_hold_up_the_end(tmp_path: Path) -> None:
    stuck, answers = threading.Event(), threading.Event()

    def clock() -> float:
        stuck.set()
        answers.wait(20)
        return 0.0

    exporter = ConversationLog(tmp_path, 60.0, clock=clock)
    exporter.put({"answer": "年假"})
    assert stuck.wait(20)
    for number in range(QUEUE + 1):
        exporter.put({"n": number})
    exporter.close(0.05)
    answers.set()
