"""When a job is tried again, how soon, and when it is given up."""

from __future__ import annotations

from dataclasses import replace

import pytest

from zhiwen.common.ledger import RETRY_POLICY, Retry, RetryPolicy
from zhiwen.common.models import Job, JobKind

INDEXING = [JobKind.INGEST, JobKind.REBUILD]
REMOVALS = [JobKind.DELETE, JobKind.PURGE, JobKind.DROP, JobKind.RETIRE]


def a_job(kind: JobKind = JobKind.INGEST, attempts: int = 1, waits: int = 0) -> Job:
    """Return a claimed job: this is attempt number `attempts`, after `waits` waits."""
    return Job("job", kind, "base", "document", 1, None, attempts, waits, fence=7, request_id=None)


def test_every_kind_of_job_is_limited_or_not() -> None:
    assert set(INDEXING) | set(REMOVALS) == set(JobKind)


def test_claim_counts_as_an_attempt() -> None:
    assert RETRY_POLICY.count_claim(0) == 1
    assert RETRY_POLICY.count_claim(2) == 3


@pytest.mark.parametrize("kind", INDEXING)
@pytest.mark.parametrize(("attempts", "exhausted"), [(0, False), (2, False), (3, True), (4, True)])
def test_indexing_has_three_attempts(kind: JobKind, attempts: int, exhausted: bool) -> None:
    assert RETRY_POLICY.exhausted(kind, attempts) is exhausted


@pytest.mark.parametrize("kind", REMOVALS)
@pytest.mark.parametrize("attempts", [0, 3, 1000])
def test_removals_are_never_exhausted(kind: JobKind, attempts: int) -> None:
    assert not RETRY_POLICY.exhausted(kind, attempts)
    assert RETRY_POLICY.after_error(a_job(kind, attempts)) is not None


@pytest.mark.parametrize(("attempts", "expected"), [(1, Retry(3.0, 1, 5)), (2, Retry(9.0, 2, 5)), (3, None), (4, None)])
def test_error_is_an_attempt_and_the_third_is_the_last(attempts: int, expected: Retry | None) -> None:
    assert RETRY_POLICY.after_error(a_job(attempts=attempts, waits=5)) == expected


@pytest.mark.parametrize(
    ("waits", "expected"),
    [(0, Retry(1.0, 1, 1)), (1, Retry(2.0, 1, 2)), (5, Retry(32.0, 1, 6)), (6, Retry(60.0, 1, 7))],
)
def test_outage_is_a_wait_and_gives_the_attempt_back(waits: int, expected: Retry) -> None:
    assert RETRY_POLICY.after_outage(a_job(attempts=2, waits=waits)) == expected


def test_lost_lease_gives_the_attempt_back_and_the_job_is_due_at_once() -> None:
    assert RETRY_POLICY.after_lost_lease(a_job(attempts=3, waits=4)) == Retry(0.0, 2, 4)


@pytest.mark.parametrize("times", [8, 647, 1024, 10**9])
def test_pause_is_a_minute_at_most_however_often_it_failed(times: int) -> None:
    after_error = RETRY_POLICY.after_error(a_job(JobKind.PURGE, attempts=times))
    assert after_error is not None
    assert after_error.seconds == RETRY_POLICY.max_pause == 60.0
    assert RETRY_POLICY.after_outage(a_job(waits=times)).seconds == RETRY_POLICY.max_pause


@pytest.mark.parametrize("base", [2.0, 3.0])
def test_pauses_grow_until_the_longest(base: float) -> None:
    policy = RetryPolicy(error_base=base, outage_base=base)
    waits = [policy.after_outage(a_job(waits=times)).seconds for times in range(10)]
    assert waits == [min(base**times, 60.0) for times in range(10)]
    purge = a_job(JobKind.PURGE)
    errors = [policy.after_error(replace(purge, attempts=times)) for times in range(10)]
    assert [retry.seconds for retry in errors if retry] == waits


@pytest.mark.parametrize("kind", INDEXING)
def test_document_is_tried_three_times_through_any_number_of_outages(kind: JobKind) -> None:
    """Follow a job through its life: claims, outages in between, and an error at each attempt."""
    attempts = waits = errors = 0
    for turn in range(30):
        job = a_job(kind, RETRY_POLICY.count_claim(attempts), waits)
        if turn % 3:
            retry: Retry | None = RETRY_POLICY.after_outage(job)
        else:
            errors += 1
            retry = RETRY_POLICY.after_error(job)
        if retry is None:
            break
        attempts, waits = retry.attempts, retry.waits
    assert (errors, waits) == (3, 4)
