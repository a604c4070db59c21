"""Decides when to send a request again: when it was not handled, or when handling it twice does no harm. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import httpx

from zhiwen.common.http_retry import jittered_pause, retry_after


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """At most `retries` attempts after the first one, none of them later than `seconds` after it."""

    retries: int
    seconds: float


@dataclass(slots=True)
class Attempts:
    """The attempts of one request.

    `is_repeatable` is True when sending the request twice does no harm. `clock` returns seconds. `jitter` returns the
    seconds to pause after a failed attempt, given its number, counted from 0.
    """

    policy: RetryPolicy
    is_repeatable: bool
    clock: Callable[[], float]
    jitter: Callable[[int], float] = jittered_pause
    started: float = 0.0
    failed: int = 0

    def __post_init__(self) -> None:
        self.started = self.clock()

    def pause_after(self, outcome: httpx.Response | Exception) -> float | None:
        """Return the seconds to wait before the next attempt, or None when this outcome is final."""
        if self.failed == self.policy.retries or not may_be_sent_again(outcome, is_repeatable=self.is_repeatable):
            return None
        asked = retry_after(outcome) if isinstance(outcome, httpx.Response) else None
        pause = self.jitter(self.failed) if asked is None else asked
        if self.clock() + pause > self.started + self.policy.seconds:
            return None
        self.failed += 1
        return pause


def may_be_sent_again(outcome: httpx.Response | Exception, *, is_repeatable: bool) -> bool:
    """Return True when sending a request again may help and does no harm."""
    match outcome:
        case httpx.Response(status_code=429 | 503):  # the service did not handle the request
            return True
        case httpx.Response(status_code=502 | 504):  # a proxy does not know whether the service handled it
            return is_repeatable
        case httpx.ConnectError() | httpx.ConnectTimeout() | httpx.PoolTimeout():  # nothing was sent
            return True
        case httpx.NetworkError() | httpx.TimeoutException() | httpx.RemoteProtocolError():  # it may have been handled
            return is_repeatable
        case _:
            return False
