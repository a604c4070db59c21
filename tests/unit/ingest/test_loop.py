"""How long a job rests after a failure."""

from __future__ import annotations

import pytest

from zhiwen.ingest.worker.loop import MAX_PAUSE_SECONDS, pause_seconds


@pytest.mark.parametrize(("base", "times", "seconds"), [(2.0, 0, 1.0), (2.0, 5, 32.0), (3.0, 1, 3.0), (3.0, 3, 27.0)])
def test_pauses_grow(base: float, times: int, seconds: float) -> None:
    assert pause_seconds(base, times) == seconds


@pytest.mark.parametrize("base", [2.0, 3.0])
@pytest.mark.parametrize("times", [8, 647, 1024, 10**9])
def test_pause_is_a_minute_at_most_however_often_it_failed(base: float, times: int) -> None:
    assert pause_seconds(base, times) == MAX_PAUSE_SECONDS
