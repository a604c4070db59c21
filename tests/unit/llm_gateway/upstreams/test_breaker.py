"""The circuit breaker over time."""

from __future__ import annotations

from zhiwen.llm_gateway.config import BreakerPolicy
from zhiwen.llm_gateway.upstreams.breaker import (
    Breaker,
    BreakerState,
    abandoned,
    allows,
    failed,
    opens_in,
    started,
    state_of,
    succeeded,
)

POLICY = BreakerPolicy(failures=3, rate=0.5, least=10, window=20, open_seconds=5, longest=15)


def after_failures(count: int, now: float = 0.0) -> Breaker:
    breaker = Breaker()
    for _ in range(count):
        breaker = failed(breaker, now, POLICY, probe=False)
    return breaker


def test_it_opens_on_a_streak_and_a_success_breaks_the_streak() -> None:
    assert state_of(after_failures(2), 0) is BreakerState.CLOSED
    assert state_of(after_failures(3), 0) is BreakerState.OPEN
    calmed = succeeded(after_failures(2), 0, POLICY, probe=False)
    assert state_of(failed(calmed, 0, POLICY, probe=False), 0) is BreakerState.CLOSED


def test_it_opens_on_the_error_rate_without_a_streak() -> None:
    breaker = Breaker()
    for n in range(9):
        change = failed if n % 2 else succeeded
        breaker = change(breaker, n, POLICY, probe=False)
    assert state_of(breaker, 9) is BreakerState.CLOSED
    assert state_of(failed(breaker, 9, POLICY, probe=False), 9) is BreakerState.OPEN


def test_old_errors_are_forgotten() -> None:
    breaker = Breaker()
    for n in range(8):
        breaker = (failed if n % 2 else succeeded)(breaker, 0, POLICY, probe=False)
    breaker = succeeded(breaker, 50, POLICY, probe=False)
    breaker = failed(breaker, 50, POLICY, probe=False)
    assert (breaker.calls, breaker.failures, breaker.earlier_calls) == (2, 1, 0)


def test_the_window_moves_by_halves() -> None:
    breaker = after_failures(2, 0)
    moved = succeeded(breaker, 12, POLICY, probe=False)
    assert (moved.calls, moved.earlier_calls, moved.earlier_failures) == (1, 2, 2)
    again = succeeded(moved, 21, POLICY, probe=False)
    assert (again.calls, again.earlier_calls, again.earlier_failures) == (1, 1, 0)


def test_open_lets_nothing_through_until_its_time_then_one_probe() -> None:
    breaker = after_failures(3)
    assert not allows(breaker, 4.9)
    assert opens_in(breaker, 2) == 3
    assert allows(breaker, 5)
    assert state_of(breaker, 5) is BreakerState.HALF_OPEN
    probing = started(breaker)
    assert not allows(probing, 6)


def test_a_probe_that_succeeds_closes_it() -> None:
    probing = started(after_failures(3))
    assert state_of(succeeded(probing, 6, POLICY, probe=True), 6) is BreakerState.CLOSED


def test_a_probe_that_fails_opens_it_for_twice_as_long_up_to_the_longest() -> None:
    breaker = after_failures(3)
    waits = []
    now = 0.0
    for _ in range(4):
        now += breaker.open_for
        breaker = failed(started(breaker), now, POLICY, probe=True)
        waits.append(breaker.open_for)
    assert waits == [10, 15, 15, 15]


def test_a_probe_whose_client_left_leaves_room_for_the_next() -> None:
    probing = started(after_failures(3))
    assert allows(abandoned(probing, probe=True), 6)


def test_calls_that_began_before_it_opened_change_nothing() -> None:
    breaker = after_failures(3)
    assert succeeded(breaker, 1, POLICY, probe=False) == breaker
    assert failed(breaker, 1, POLICY, probe=False) == breaker
    assert abandoned(breaker, probe=False) == breaker
    assert started(Breaker()) == Breaker()
