"""Readiness checks of blocking functions: each in a thread of its own, and once at a time."""

from __future__ import annotations

import asyncio
import threading

import pytest

from zhiwen.common.web import in_thread


async def test_checks_that_come_together_ask_once_and_the_next_one_again() -> None:
    asked: list[int] = []
    release = threading.Event()

    def ask() -> None:
        asked.append(1)
        release.wait(10)

    check = in_thread(ask)
    waiting = [asyncio.create_task(check()) for _ in range(50)]
    await asyncio.sleep(0.05)
    await asyncio.to_thread(lambda: None)  # whoever else needs a thread gets one
    release.set()
    await asyncio.gather(*waiting)
    assert len(asked) == 1
    await check()
    assert len(asked) == 2


async def test_impatient_caller_leaves_the_answer_to_the_others() -> None:
    release = threading.Event()

    def fail() -> None:
        release.wait(10)
        raise OSError("away")

    check = in_thread(fail)
    other = asyncio.create_task(check())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(check(), 0.05)
    release.set()
    with pytest.raises(OSError, match="away"):
        await other


def test_check_outlives_an_event_loop() -> None:
    asked: list[int] = []
    check = in_thread(lambda: asked.append(1))
    for _ in range(2):
        asyncio.run(check())
    assert len(asked) == 2
