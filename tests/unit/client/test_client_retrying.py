"""When a request is sent again: it depends on the method, the outcome and the time left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.unit.client.fake_api import FakeApi, document, problem, uploaded
from tests.unit.client.flavours import Caller, Clock
from zhiwen.client import ApiError, ConnectionLostError, TooManyRequestsError, UnavailableError
from zhiwen.client.retrying import Attempts, RetryPolicy

MakeCaller = Callable[..., Caller]
Outcome = httpx.Response | Exception
NOTHING_SENT = [httpx.ConnectError("x"), httpx.ConnectTimeout("x"), httpx.PoolTimeout("x")]
REFUSED = [httpx.Response(429), httpx.Response(503)]
LOST = [httpx.ReadError("x"), httpx.WriteError("x"), httpx.ReadTimeout("x"), httpx.RemoteProtocolError("x")]
UNKNOWN = [httpx.Response(502), httpx.Response(504)]
FINAL = [httpx.Response(200), httpx.Response(404), httpx.Response(500), httpx.UnsupportedProtocol("x")]


def attempts(
    *, repeatable: bool = True, retries: int = 2, seconds: float = 60.0, clock: Clock | None = None
) -> Attempts:
    return Attempts(RetryPolicy(retries, seconds), repeatable, clock or Clock(), jitter=lambda number: 1.0 + number)


def name(outcome: Outcome) -> str:
    return str(outcome.status_code) if isinstance(outcome, httpx.Response) else type(outcome).__name__


@pytest.mark.parametrize("outcome", [*NOTHING_SENT, *REFUSED], ids=name)
def test_what_has_certainly_not_happened_is_sent_again(outcome: Outcome) -> None:
    assert attempts(repeatable=False).pause_after(outcome) == 1.0


@pytest.mark.parametrize("outcome", [*LOST, *UNKNOWN], ids=name)
def test_what_may_have_happened_is_sent_again_only_where_it_does_no_harm(outcome: Outcome) -> None:
    assert attempts(repeatable=True).pause_after(outcome) == 1.0
    assert attempts(repeatable=False).pause_after(outcome) is None


@pytest.mark.parametrize("outcome", FINAL, ids=name)
def test_the_rest_is_the_outcome(outcome: Outcome) -> None:
    assert attempts().pause_after(outcome) is None


def test_tries_and_pauses_are_counted() -> None:
    counted = attempts(retries=2)
    assert [counted.pause_after(httpx.ReadError("x")) for _ in range(4)] == [1.0, 2.0, None, None]
    assert attempts(retries=0).pause_after(httpx.ConnectError("x")) is None


def test_service_says_how_long_to_wait_within_the_time_that_is_left() -> None:
    clock = Clock()
    counted = attempts(retries=9, clock=clock)
    assert counted.pause_after(httpx.Response(429, headers={"retry-after": "30"})) == 30.0
    clock.now = 30.0
    assert counted.pause_after(httpx.Response(503, headers={"retry-after": "31"})) is None
    assert counted.pause_after(httpx.Response(503, headers={"retry-after": "30"})) == 30.0


def test_pauses_grow_and_are_spread() -> None:
    counted = Attempts(RetryPolicy(50, 10_000.0), True, Clock())
    pauses = [counted.pause_after(httpx.ReadError("x")) or 0.0 for _ in range(50)]
    assert pauses[0] <= 0.25
    assert pauses[1] <= 0.5
    assert 10.0 < max(pauses) <= 20.0
    assert len(set(pauses[-20:])) > 1


def test_get_is_answered_after_two_hiccups(caller: MakeCaller) -> None:
    clock = Clock()
    api = FakeApi({"k": {"d1": document("d1", "a.txt")}})
    hiccups: list[Exception] = [httpx.ReadError("broke off"), httpx.ConnectError("refused")]

    def answer(request: httpx.Request) -> httpx.Response:
        if hiccups:
            raise hiccups.pop(0)
        return api.answer(request)

    assert caller(answer, clock)("get_document", "k", "d1").id == "d1"
    assert len(clock.slept) == 2


def test_upload_whose_answer_was_lost_is_not_sent_again(caller: MakeCaller) -> None:
    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        raise httpx.ReadError("broke off", request=request)

    calling = caller(answer)
    with pytest.raises(ConnectionLostError):
        calling("upload_documents", "k", [("a.txt", b"1")])
    with pytest.raises(ConnectionLostError):
        calling("ask", "k", "?")
    with pytest.raises(ConnectionLostError):
        calling("create_knowledge_base", "k")
    assert len(requests) == 3


def test_upload_that_was_refused_is_sent_again_whole_and_counted_once(caller: MakeCaller, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"12345")
    clock = Clock()
    read: list[int] = []
    busy = problem(503, "unavailable", "Busy.")
    busy.headers["retry-after"] = "3"
    answers = [busy]
    api = FakeApi({"k": {}}, refuse_upload=lambda _: answers.pop() if answers else None)
    [item] = caller(api.answer, clock)("upload_documents", "k", [tmp_path / "a.txt"], on_bytes=read.append)
    assert item.outcome == "created"
    assert [uploaded(request) for request in api.requests] == [[("a.txt", b"12345")]] * 2
    assert (sum(read), clock.slept) == (5, [3.0])


def test_put_is_sent_again_when_its_answer_was_lost(caller: MakeCaller) -> None:
    item = {"id": "d1", "name": "a.txt", "status": "queued", "version": 1, "outcome": "unchanged"}
    bodies: list[bytes] = []

    def answer(request: httpx.Request) -> httpx.Response:
        bodies.append(request.read())
        if len(bodies) == 1:
            raise httpx.ReadError("broke off", request=request)
        return httpx.Response(202, json=item)

    assert caller(answer)("put_document", "k", "a.txt", b"12345").outcome == "unchanged"
    assert bodies == [b"12345", b"12345"]


def test_last_answer_is_the_error(caller: MakeCaller) -> None:
    busy = problem(429, "too-many", "Wait.")
    busy.headers["retry-after"] = "40"
    clock = Clock()
    with pytest.raises(TooManyRequestsError) as caught:
        caller(lambda _: busy, clock, retries=5, retry_seconds=60.0)("search", "k", "?")
    assert (clock.slept, caught.value.retry_after) == ([40.0], 40.0)


def test_stream_that_did_not_begin_is_asked_for_again(caller: MakeCaller) -> None:
    api = FakeApi({"k": {}})
    answers = [problem(503, "unavailable", "Busy."), problem(503, "unavailable", "Busy.")]
    calling = caller(lambda request: answers.pop() if answers else api.answer(request))
    assert len(calling("ask_stream", "k", "?")) == 4
    answers.extend([problem(503, "unavailable", "Busy.")] * 3)
    with pytest.raises(UnavailableError):
        calling("ask_stream", "k", "?")


def test_pause_is_never_longer_than_what_is_left(caller: MakeCaller) -> None:
    clock = Clock()

    def slow(request: httpx.Request) -> httpx.Response:
        clock.now += 25.0
        raise httpx.ReadTimeout("slow", request=request)

    with pytest.raises(ApiError):
        caller(slow, clock, retries=50, retry_seconds=60.0)("get_knowledge_base", "k")
    assert clock.now < 100.0
