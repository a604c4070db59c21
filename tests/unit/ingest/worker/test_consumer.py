"""Celery's consumer is made again when it breaks, and not when it is told to stop."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import pytest

from zhiwen.ingest.worker import consumer


@dataclass
class Consumer:
    """A consumer that ends at once, with this exit code."""

    exitcode: int | None

    def start(self) -> None: ...


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer, "CONSUMER_SECONDS", 0.0)


@pytest.mark.parametrize(("codes", "made"), [([0], 1), ([None], 1), ([1, 1, 0], 3)])
def test_broken_consumer_is_made_again_until_one_ends_well(codes: list[int | None], made: int) -> None:
    left = list(codes)
    consumer.consume(lambda: Consumer(left.pop(0)), threading.Event())
    assert len(codes) - len(left) == made


def test_broken_consumer_of_a_worker_that_is_to_stop_is_not_made_again() -> None:
    stopping = threading.Event()
    stopping.set()
    codes = [1, 0]
    consumer.consume(lambda: Consumer(codes.pop(0)), stopping)
    assert codes == [0]
