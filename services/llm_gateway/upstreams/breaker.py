"""A circuit breaker per upstream, as pure functions over a frozen state: `now` is any monotonic clock in seconds.

Closed, it lets everything through and counts. Open, it lets nothing through until its time is over, then one probe
(half-open); the probe's success closes it, its failure opens it for twice as long.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from zhiwen.llm_gateway.config import BreakerPolicy


class State(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True)
class Breaker:
    """Counts of the current and the previous half of the window; `opened` is None while closed."""

    opened: float | None = None
    open_for: float = 0.0
    probing: bool = False
    streak: int = 0
    since: float = 0.0
    calls: int = 0
    failures: int = 0
    earlier_calls: int = 0
    earlier_failures: int = 0


def state(breaker: Breaker, now: float) -> State:
    if breaker.opened is None:
        return State.CLOSED
    return State.HALF_OPEN if now >= breaker.opened + breaker.open_for else State.OPEN


def allows(breaker: Breaker, now: float) -> bool:
    """True when a call may start now."""
    return breaker.opened is None or (not breaker.probing and now >= breaker.opened + breaker.open_for)


def opens_in(breaker: Breaker, now: float) -> float:
    """Seconds until a call may start; 0 when it may start now or a probe is under way."""
    return 0.0 if breaker.opened is None else max(0.0, breaker.opened + breaker.open_for - now)


def started(breaker: Breaker) -> Breaker:
    """A call begins; when the breaker is not closed it is the probe."""
    return breaker if breaker.opened is None else replace(breaker, probing=True)


def abandoned(breaker: Breaker, *, probe: bool) -> Breaker:
    """A call ended without a verdict: the client left."""
    return replace(breaker, probing=False) if probe else breaker


def succeeded(breaker: Breaker, now: float, policy: BreakerPolicy, *, probe: bool) -> Breaker:
    """A call went well. One that began before the breaker opened does not close it."""
    if breaker.opened is not None:
        return Breaker(since=now) if probe else breaker
    rolled = _rolled(breaker, now, policy)
    return replace(rolled, calls=rolled.calls + 1, streak=0)


def failed(breaker: Breaker, now: float, policy: BreakerPolicy, *, probe: bool) -> Breaker:
    """A call failed; opens the breaker on a streak or on the error rate."""
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
