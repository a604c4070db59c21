"""Slots at upstreams: taken, settled once, waited for in a queue, and kept through a reload."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from zhiwen.common.errors import NotFound, TooMany, Unavailable
from zhiwen.llm_gateway.config import GatewayConfig, parse_config
from zhiwen.llm_gateway.errors import FailureKind, UpstreamError, UpstreamFailure
from zhiwen.llm_gateway.upstreams.http import Timeouts
from zhiwen.llm_gateway.upstreams.pool import Pool, Slot

TIMEOUTS = Timeouts(1.0, 2.0, 3.0)
NOBODY: frozenset[str] = frozenset()
DIED = UpstreamFailure(FailureKind.DIED, "broke off")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def config(*names: str, queue: int = 10, **more: Any) -> GatewayConfig:
    upstreams = [{"name": name, "base_url": f"http://{name}.test/v1", "models": ["m"], **more} for name in names]
    breaker = {"failures": 2, "open_seconds": 5}
    return parse_config({"upstreams": upstreams, "queue": {"size": queue}, "breaker": breaker}, source="test")


def pool_of(*names: str, clock: Clock | None = None, **more: Any) -> Pool:
    return Pool(config(*names, **more), TIMEOUTS, clock or Clock())


async def take(pool: Pool, tried: frozenset[str] = NOBODY, seconds: float = 5.0) -> Slot:
    return await pool.acquire(pool.resolve("m"), tried, pool.now() + seconds)


def pending(pool: Pool) -> list[int]:
    return [upstream.pending for upstream in pool.upstreams]


async def test_calls_go_to_who_has_fewest_and_a_settled_slot_is_free() -> None:
    pool = pool_of("a", "b")
    slots = [await take(pool) for _ in range(4)]
    assert pending(pool) == [2, 2]
    slots[0].succeeded()
    slots[1].failed(DIED)
    slots[2].abandoned()
    assert sum(pending(pool)) == 1


async def test_abandoning_a_settled_slot_changes_nothing() -> None:
    pool = pool_of("a")
    slot = await take(pool)
    slot.succeeded()
    slot.abandoned()
    assert pending(pool) == [0]


async def test_failures_open_the_breaker_and_a_probe_closes_it_with_its_first_byte() -> None:
    clock = Clock()
    pool = pool_of("a", clock=clock)
    for _ in range(2):
        (await take(pool)).failed(DIED)
    with pytest.raises(Unavailable) as refused:
        await take(pool)
    assert refused.value.headers == {"Retry-After": "5"}
    clock.now += 5
    probe = await take(pool)
    with pytest.raises(Unavailable):
        await take(pool)
    probe.first_byte()
    (await take(pool)).succeeded()
    probe.succeeded()
    assert pending(pool) == [0]


async def test_a_refused_rate_is_a_pause_and_no_failure() -> None:
    clock = Clock()
    pool = pool_of("a", clock=clock)
    for _ in range(3):
        slot = await take(pool)
        slot.failed(UpstreamFailure(FailureKind.STATUS, "answered 429", status=429))
    (await take(pool)).failed(UpstreamFailure(FailureKind.STATUS, "answered 429", status=429, retry_after=7))
    with pytest.raises(TooMany) as refused:
        await take(pool)
    assert (refused.value.code, refused.value.retry_after) == ("upstream-rate-limited", 7)
    clock.now += 7
    (await take(pool)).succeeded()


async def test_a_busy_upstream_is_waited_for_in_order() -> None:
    pool = pool_of("a", max_concurrent=1)
    first = await take(pool)
    waiting = [asyncio.create_task(take(pool)) for _ in range(2)]
    await asyncio.sleep(0)
    assert pool.queued == 2
    first.succeeded()
    second = await waiting[0]
    assert not waiting[1].done()
    second.succeeded()
    (await waiting[1]).succeeded()
    assert (pool.queued, pending(pool)) == (0, [0])


async def test_a_full_queue_and_a_deadline_in_the_queue_refuse() -> None:
    pool = pool_of("a", max_concurrent=1, queue=1)
    held = await take(pool)
    late = asyncio.create_task(take(pool, seconds=0.01))
    await asyncio.sleep(0)
    with pytest.raises(TooMany) as full:
        await take(pool)
    assert full.value.code == "queue-full"
    with pytest.raises(UpstreamError) as refused:
        await late
    assert (refused.value.status, refused.value.code) == (504, "deadline-exceeded")
    held.succeeded()
    assert (pool.queued, pending(pool)) == (0, [0])


async def test_a_waiter_that_is_cancelled_when_it_got_its_slot_gives_it_back() -> None:
    pool = pool_of("a", max_concurrent=1)
    held = await take(pool)
    waiting = asyncio.create_task(take(pool))
    await asyncio.sleep(0)
    held.succeeded()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert pending(pool) == [0]


async def test_a_reload_keeps_what_is_known_of_an_upstream_that_stays() -> None:
    pool = pool_of("a", "b")
    slot = await take(pool)
    kept = slot.upstream
    pool.reload(config("a", "b", "c", weight=2.0))
    assert kept in pool.upstreams
    assert kept.pending == 1
    pool.reload(config("c"))
    assert [upstream.name for upstream in pool.upstreams] == ["c"]
    slot.succeeded()
    assert kept.pending == 0


async def test_others_are_left_while_one_may_be_asked_that_was_not_tried() -> None:
    pool = pool_of("a", "b")
    route = pool.resolve("m")
    assert pool.others_left(route, frozenset("a"))
    assert not pool.others_left(route, frozenset("ab"))
    for _ in range(2):
        (await take(pool, frozenset("a"))).failed(DIED)
    assert not pool.others_left(route, frozenset("a"))


def test_an_unknown_model_and_a_missing_default_are_told_apart() -> None:
    with pytest.raises(NotFound, match="no model x"):
        pool_of("a").resolve("x")
    wild = parse_config({"upstreams": [{"name": "a", "base_url": "http://a.test/v1"}]}, source="test")
    with pytest.raises(NotFound, match="no default"):
        Pool(wild, TIMEOUTS, Clock()).resolve("")


def test_the_first_model_that_is_listed_becomes_the_default() -> None:
    wild = parse_config({"upstreams": [{"name": "a", "base_url": "http://a.test/v1"}]}, source="test")
    pool = Pool(wild, TIMEOUTS, Clock())
    pool.note_listed(pool.upstreams[0], ("qwen", "bge"))
    assert pool.resolve("").public == "qwen"
    assert pool.public_models() == ["qwen", "bge"]
