"""What follows a failed call: again, elsewhere, or an error for the client."""

from __future__ import annotations

import itertools
from email.utils import formatdate

import pytest

from zhiwen.llm_gateway.config import RetryPolicy
from zhiwen.llm_gateway.errors import FailureKind, UpstreamFailure
from zhiwen.llm_gateway.upstreams.failures import (
    as_error,
    counts_against,
    next_delay,
    parse_retry_after,
)

POLICY = RetryPolicy(attempts=3, base=0.2, cap=1.0, longest_wait=10)


def delay(failure: UpstreamFailure, *, attempt: int = 1, others: bool = False, remaining: float = 60.0) -> float | None:
    return next_delay(failure, attempt=attempt, others=others, remaining=remaining, jitter=0.5, policy=POLICY)


def failure(kind: FailureKind, status: int = 0, retry_after: float | None = None) -> UpstreamFailure:
    return UpstreamFailure(kind, "failed", status=status, retry_after=retry_after)


KINDS = [kind for kind in FailureKind if kind is not FailureKind.STATUS]
RETRIED_ELSEWHERE = {
    FailureKind.CONNECT,
    FailureKind.DISCONNECT,
    FailureKind.TIMEOUT,
    FailureKind.EMPTY,
    FailureKind.GARBAGE,
}
RETRIED_AGAIN = {FailureKind.CONNECT, FailureKind.DISCONNECT}


@pytest.mark.parametrize(("kind", "others"), list(itertools.product(KINDS, [True, False])))
def test_each_kind(kind: FailureKind, others: bool) -> None:
    got = delay(failure(kind), others=others)
    if others:
        assert got == (0.0 if kind in RETRIED_ELSEWHERE else None)
    else:
        assert got == (pytest.approx(0.1) if kind in RETRIED_AGAIN else None)


@pytest.mark.parametrize(
    ("status", "others"), list(itertools.product([400, 401, 404, 422, 429, 500, 502, 503, 504], [True, False]))
)
def test_each_status(status: int, others: bool) -> None:
    got = delay(failure(FailureKind.STATUS, status), others=others)
    if status in (429, 502, 503, 504):
        assert got == (0.0 if others else pytest.approx(0.1))
    else:
        assert got is None


def test_waits_grow_to_the_cap_with_jitter() -> None:
    waits = [
        next_delay(
            failure(FailureKind.CONNECT),
            attempt=n,
            others=False,
            remaining=60,
            jitter=1.0,
            policy=POLICY.model_copy(update={"attempts": 9}),
        )
        for n in (1, 2, 3, 4)
    ]
    assert waits == pytest.approx([0.2, 0.4, 0.8, 1.0])


def test_retry_after_is_waited_for_unless_it_is_too_long() -> None:
    assert delay(failure(FailureKind.STATUS, 429, 3)) == pytest.approx(3.1)
    assert delay(failure(FailureKind.STATUS, 503, 11)) is None
    assert delay(failure(FailureKind.STATUS, 429, 11), others=True) == 0.0


def test_attempts_and_the_deadline_end_it() -> None:
    assert delay(failure(FailureKind.CONNECT), attempt=3) is None
    assert delay(failure(FailureKind.CONNECT), remaining=0) is None
    assert delay(failure(FailureKind.STATUS, 429, 5), remaining=4) is None


def test_only_a_server_that_is_ill_counts_against_it() -> None:
    assert not any(counts_against(failure(FailureKind.STATUS, status)) for status in (400, 404, 422, 429))
    assert all(counts_against(failure(FailureKind.STATUS, status)) for status in (500, 502, 503))
    assert all(counts_against(failure(kind)) for kind in set(FailureKind) - {FailureKind.STATUS})


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_an_error(kind: FailureKind) -> None:
    error = as_error(failure(kind), "gpu-1")
    assert error.status == (504 if kind in (FailureKind.TIMEOUT, FailureKind.IDLE) else 502)
    assert "gpu-1" in error.detail
    assert error.code.startswith("upstream-")


def test_retry_after_is_handed_on() -> None:
    assert as_error(failure(FailureKind.STATUS, 429, 7.2), "gpu-1").headers == {"Retry-After": "7"}


@pytest.mark.parametrize(("value", "seconds"), [("7", 7.0), ("0.5", 0.5), (None, None), ("", None), ("soon", None)])
def test_retry_after_in_seconds(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, now=0.0) == seconds


def test_retry_after_as_a_date() -> None:
    assert parse_retry_after(formatdate(1000, usegmt=True), now=990.0) == 10.0
    assert parse_retry_after(formatdate(1000, usegmt=True), now=2000.0) == 0.0
