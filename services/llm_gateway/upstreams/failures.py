"""How a call to a model server can fail, and what to do then: pure decisions, no clock, no randomness."""

from __future__ import annotations

from enum import StrEnum

from zhiwen.llm_gateway.config import RetryPolicy
from zhiwen.llm_gateway.errors import UpstreamError, translate


class Kind(StrEnum):
    """Where a call went wrong."""

    CONNECT = "connect"  # no connection: refused, no such host, TLS
    DISCONNECT = "disconnect"  # closed before the first byte of an answer
    TIMEOUT = "timeout"  # no first byte in time
    STATUS = "status"  # an HTTP error
    EMPTY = "empty"  # 200 and nothing else
    GARBAGE = "garbage"  # an answer that is not what the protocol says
    DIED = "died"  # broke off within the answer
    IDLE = "idle"  # silent within the answer for too long


class UpstreamFailure(Exception):
    """A failed call. `retry_after` is seconds; `body` is that of an HTTP error."""

    def __init__(
        self, kind: Kind, detail: str, *, status: int = 0, retry_after: float | None = None, body: bytes = b""
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.status = status
        self.retry_after = retry_after
        self.body = body


RETRY_STATUSES = frozenset({429, 502, 503, 504})
_ELSEWHERE = frozenset({Kind.CONNECT, Kind.DISCONNECT, Kind.TIMEOUT, Kind.EMPTY, Kind.GARBAGE})
_AGAIN = frozenset({Kind.CONNECT, Kind.DISCONNECT})


def counts_against(failure: UpstreamFailure) -> bool:
    """True when the failure says that the server is ill, and not that the request or its rate was refused."""
    return failure.kind is not Kind.STATUS or failure.status >= 500


def next_delay(
    failure: UpstreamFailure, *, attempt: int, others: bool, remaining: float, jitter: float, policy: RetryPolicy
) -> float | None:
    """Return the seconds to wait before the next attempt, None to give up.

    `attempt` counts from 1; `others` says whether an upstream is left that was not tried: it is asked at once.
    `remaining` is what is left of the deadline, `jitter` a random number in [0, 1). An answer that had begun is never
    tried again.
    """
    if attempt >= policy.attempts or remaining <= 0:
        return None
    by_status = failure.kind is Kind.STATUS and failure.status in RETRY_STATUSES
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
    """Return what the client is told."""
    if failure.kind is Kind.STATUS:
        error = translate(failure.status, failure.body, upstream=upstream)
        if failure.retry_after is not None and error.status in (429, 503):
            error.headers["Retry-After"] = str(max(1, round(failure.retry_after)))
        return error
    status = 504 if failure.kind in (Kind.TIMEOUT, Kind.IDLE) else 502
    code = {
        Kind.CONNECT: "upstream-unreachable",
        Kind.DISCONNECT: "upstream-disconnected",
        Kind.TIMEOUT: "upstream-timeout",
        Kind.EMPTY: "upstream-empty-answer",
        Kind.GARBAGE: "upstream-invalid-answer",
        Kind.DIED: "upstream-died",
        Kind.IDLE: "upstream-timeout",
    }[failure.kind]
    return UpstreamError(code, f"The model server {upstream} {failure.detail}.", status=status)


def parse_retry_after(value: str | None, *, now: float) -> float | None:
    """Return the seconds of a `Retry-After` header (RFC 9110 section 10.2.3: seconds or a date), None without one.

    `now` is seconds since the epoch.
    """
    if not value:
        return None
    try:
        return max(0.0, float(value)) if value.strip()[0].isdigit() else _seconds_until(value, now)
    except (ValueError, OverflowError):
        return None


def _seconds_until(date: str, now: float) -> float | None:
    from email.utils import parsedate_to_datetime

    return max(0.0, parsedate_to_datetime(date).timestamp() - now)
