"""Decides what to do after a failed call to a model server. Pure, without clock and randomness."""

from __future__ import annotations

from email.utils import parsedate_to_datetime

from zhiwen.llm_gateway.config import RetryPolicy
from zhiwen.llm_gateway.errors import FailureKind, UpstreamError, UpstreamFailure, translate

RETRY_STATUSES = frozenset({429, 502, 503, 504})
_AGAIN = frozenset({FailureKind.CONNECT, FailureKind.DISCONNECT})
_ELSEWHERE = _AGAIN | {FailureKind.TIMEOUT, FailureKind.EMPTY, FailureKind.GARBAGE}


def counts_against(failure: UpstreamFailure) -> bool:
    """Return True when the server itself failed, and False when it only refused the request or its rate."""
    return failure.kind is not FailureKind.STATUS or failure.status >= 500


def next_delay(
    failure: UpstreamFailure, *, attempt: int, others: bool, remaining: float, jitter: float, policy: RetryPolicy
) -> float | None:
    """Return the seconds to wait before the next attempt, None to give up.

    `failure` is that of attempt number `attempt`, counted from 1. `others` is True when another upstream is left, which
    is then asked at once. `remaining` is the number of seconds until the deadline, `jitter` a random number in [0, 1),
    and `policy` the configured limits. A request whose answer had begun is never tried again.
    """
    if attempt >= policy.attempts or remaining <= 0:
        return None
    by_status = failure.kind is FailureKind.STATUS and failure.status in RETRY_STATUSES
    if others and (by_status or failure.kind in _ELSEWHERE):
        return 0.0
    if not by_status and failure.kind not in _AGAIN:
        return None
    delay = min(policy.cap, policy.base * 2 ** (attempt - 1)) * jitter
    if failure.retry_after is not None:
        if failure.retry_after > policy.longest_wait:
            return None
        delay += failure.retry_after
    return delay if delay < remaining else None


def as_error(failure: UpstreamFailure, upstream: str) -> UpstreamError:
    """Return the error for the client. `upstream` is the server's name."""
    if failure.kind is FailureKind.STATUS:
        error = translate(failure.status, failure.body, upstream=upstream)
        if failure.retry_after is not None and error.status in (429, 503):
            error.headers["Retry-After"] = str(max(1, round(failure.retry_after)))
        return error
    status = 504 if failure.kind in (FailureKind.TIMEOUT, FailureKind.IDLE) else 502
    code = {
        FailureKind.CONNECT: "upstream-unreachable",
        FailureKind.DISCONNECT: "upstream-disconnected",
        FailureKind.TIMEOUT: "upstream-timeout",
        FailureKind.EMPTY: "upstream-empty-answer",
        FailureKind.GARBAGE: "upstream-invalid-answer",
        FailureKind.DIED: "upstream-died",
        FailureKind.IDLE: "upstream-timeout",
    }[failure.kind]
    return UpstreamError(code, f"The model server {upstream} {failure.detail}.", status=status)


def parse_retry_after(value: str | None, *, now: float) -> float | None:
    """Return the seconds that a `Retry-After` header asks for, None if it is missing or malformed.

    The header holds seconds or a date (RFC 9110 section 10.2.3). `now` is seconds since the epoch.
    """
    if not value:
        return None
    try:
        return max(0.0, float(value)) if value.strip()[0].isdigit() else _seconds_until(value, now)
    except (ValueError, OverflowError):
        return None


def _seconds_until(date: str, now: float) -> float | None:
    return max(0.0, parsedate_to_datetime(date).timestamp() - now)
