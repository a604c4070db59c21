"""Limits of keys, counted in this process."""

from __future__ import annotations

import asyncio
import json

import pytest

from zhiwen.common.errors import TooMany
from zhiwen.llm_gateway.accounting.limits import LocalLimiter, estimated_tokens, limits_of
from zhiwen.llm_gateway.config import KeyLimits
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
