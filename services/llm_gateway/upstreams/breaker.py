"""A circuit breaker per upstream, as pure functions over a frozen value. `now` is seconds on any monotonic clock.

A closed breaker lets all calls through and counts them. An open breaker lets no call through until its time is over.
Then it is half-open and lets one call through, the probe. A probe that succeeds closes the breaker. A probe that fails
opens it for twice as long.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from zhiwen.llm_gateway.config import BreakerPolicy


class BreakerState(StrEnum):
    """What a breaker does at one moment."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True)
class Breaker:
    """When the breaker opened, and what it has counted in the current and in the previous half of its window.

    `opened` is the second in which it opened, None while it is closed. `open_for` is how many seconds it stays open.
    `probing` is True while a probe is under way. `streak` counts failures in a row. `since` is where the current half
    of the window began.
    """

    opened: float | None = None
    open_for: float = 0.0
    probing: bool = False
    streak: int = 0
    since: float = 0.0
    calls: int = 0
    failures: int = 0
    earlier_calls: int = 0
    earlier_failures: int = 0


def state_of(breaker: Breaker, now: float) -> BreakerState:
    """Return the state at `now`."""
    if breaker.opened is None:
        return BreakerState.CLOSED
    return BreakerState.HALF_OPEN if now >= breaker.opened + breaker.open_for else BreakerState.OPEN


def allows(breaker: Breaker, now: float) -> bool:
    """True when a call may start now."""
    return breaker.opened is None or (not breaker.probing and now >= breaker.opened + breaker.open_for)


def opens_in(breaker: Breaker, now: float) -> float:
    """Return the seconds until a call may start: 0 when it may start now, or when a probe is under way."""
    return 0.0 if breaker.opened is None else max(0.0, breaker.opened + breaker.open_for - now)


def started(breaker: Breaker) -> Breaker:
    """Return the breaker after a call began. If the breaker is not closed, that call is the probe."""
    return breaker if breaker.opened is None else replace(breaker, probing=True)


def abandoned(breaker: Breaker, *, probe: bool) -> Breaker:
    """Return the breaker after a call ended without success or failure, because the client left."""
    return replace(breaker, probing=False) if probe else breaker


def succeeded(breaker: Breaker, now: float, policy: BreakerPolicy, *, probe: bool) -> Breaker:
    """Return the breaker after a call went well. A call that began before the breaker opened does not close it."""
    if breaker.opened is not None:
        return Breaker(since=now) if probe else breaker
    rolled = _rolled(breaker, now, policy)
    return replace(rolled, calls=rolled.calls + 1, streak=0)


def failed(breaker: Breaker, now: float, policy: BreakerPolicy, *, probe: bool) -> Breaker:
    """Return the breaker after a call failed. It opens after too many failures in a row or in the window."""
    if breaker.opened is not None:
        longer = min(policy.longest, breaker.open_for * 2)
        return replace(breaker, opened=now, open_for=longer, probing=False) if probe else breaker
    rolled = _rolled(breaker, now, policy)
    counted = replace(rolled, calls=rolled.calls + 1, failures=rolled.failures + 1, streak=rolled.streak + 1)
    calls = counted.calls + counted.earlier_calls
    failures = counted.failures + counted.earlier_failures
    if counted.streak >= policy.failures or (calls >= policy.least and failures >= policy.rate * calls):
        return Breaker(opened=now, open_for=policy.open_seconds)
    return counted


def _rolled(breaker: Breaker, now: float, policy: BreakerPolicy) -> Breaker:
    """Return the breaker without counts older than the window, which moves on by halves."""
    half = policy.window / 2
    if now < breaker.since + half:
        return breaker
    if now < breaker.since + policy.window:
        return replace(
            breaker,
            since=breaker.since + half,
            earlier_calls=breaker.calls,
            earlier_failures=breaker.failures,
            calls=0,
            failures=0,
        )
    return replace(breaker, since=now, calls=0, failures=0, earlier_calls=0, earlier_failures=0)
