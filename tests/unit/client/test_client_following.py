"""Following documents: by their events, by polling after a stream breaks off, and without progress."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator

import httpx
import pytest

from tests.unit.client.fake_api import FakeApi, document, problem, sse
from tests.unit.client.flavours import URLS, Caller, Clock
from tests.unit.client.test_client_adding import Heard
from zhiwen.client import ApiError, AsyncClient, Client, DocumentEvent, DocumentStatus, NotFoundError, UnreachableError
from zhiwen.client.connection import Connection
from zhiwen.client.following import FOLLOWED_AT_ONCE, IDLE_SECONDS, Following, events_in_threads

MakeCaller = Callable[..., Caller]
EVENTS = {"content-type": "text/event-stream"}
QUEUED = DocumentEvent("d1", DocumentStatus.QUEUED)


class Silence(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A stream that sends some bytes and then stays silent, longer than any client waits."""

    def __init__(self, ended: threading.Event, begun: bytes = b"") -> None:
        self._ended = ended
        self._begun = begun

    def __iter__(self) -> Iterator[bytes]:
        yield self._begun
        self._ended.wait(20)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._begun
        await asyncio.sleep(20)


def states(events: list[DocumentEvent]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for event in events:
        found.setdefault(event.id, []).append(event.status.value)
    return found


def test_every_change_of_every_document_is_heard(caller: MakeCaller) -> None:
    ids = [f"d{n}" for n in range(FOLLOWED_AT_ONCE * 3)]
    api = FakeApi({"k": {id: document(id, f"{id}.txt") for id in ids}})
    events = caller(api.answer)("follow_documents", "k", ids)
    assert states(events) == {id: ["parsing", "embedding", "indexing", "ready"] for id in ids}
    assert {request.url.path.rsplit("/", 1)[-1] for request in api.requests} == {"events"}


def test_nothing_to_follow_ends_at_once(caller: MakeCaller) -> None:
    assert caller(FakeApi({"k": {}}).answer)("follow_documents", "k", []) == []


def test_document_whose_stream_breaks_off_is_looked_at(caller: MakeCaller) -> None:
    api, clock = FakeApi({"k": {"d1": document("d1", "a.txt")}}), Clock()

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/events"):
            return sse(("document", api.bases["k"]["d1"]))  # ends while the document is queued
        return api.answer(request)

    events = caller(answer, clock)("follow_documents", "k", ["d1"])
    assert states(events) == {"d1": ["queued", "parsing", "embedding", "indexing", "ready"]}
    assert clock.slept == [0.5] * 3


def test_service_without_events_is_looked_at(caller: MakeCaller) -> None:
    api = FakeApi({"k": {"d1": document("d1", "a.txt")}})

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/events"):
            return httpx.Response(502, text="<html>Bad gateway")
        return api.answer(request)

    assert caller(answer)("follow_documents", "k", ["d1"])[-1].status == "ready"


def test_restart_of_the_api_is_waited_for(caller: MakeCaller) -> None:
    api, clock = FakeApi({"k": {"d1": document("d1", "a.txt")}}), Clock()

    def answer(request: httpx.Request) -> httpx.Response:
        if clock.now < 20:
            raise httpx.ConnectError("refused", request=request)
        return api.answer(request)

    assert caller(answer, clock, retries=0)("follow_documents", "k", ["d1"])[-1].status == "ready"


def test_api_that_stays_away_is_an_error(caller: MakeCaller) -> None:
    clock = Clock()

    def gone(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(UnreachableError, match="does not answer"):
        caller(gone, clock, retries=0)("follow_documents", "k", ["d1"])
    assert 60 < clock.now < 62


def test_key_that_may_not_read_is_an_error_at_once(caller: MakeCaller) -> None:
    clock = Clock()
    with pytest.raises(ApiError, match="may write"):
        caller(lambda _: problem(403, "scope-too-small", "This key may write."), clock)("follow_documents", "k", ["d1"])
    assert clock.now == 0


def test_deleted_while_followed_is_told(caller: MakeCaller) -> None:
    assert caller(FakeApi({"k": {}}).answer)("follow_documents", "k", ["gone"]) == [
        DocumentEvent("gone", DocumentStatus.DELETED)
    ]


def test_deleted_while_looked_at_is_told(caller: MakeCaller) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/events"):
            raise httpx.ReadError("broke off", request=request)
        return problem(404, "document-not-found", "Gone.")

    assert caller(answer)("follow_documents", "k", ["d1"]) == [DocumentEvent("d1", DocumentStatus.DELETED)]


def test_waiting_returns_the_settled_document(caller: MakeCaller) -> None:
    calling = caller(FakeApi({"k": {"d1": document("d1", "a.txt")}}).answer)
    assert calling("wait_for_document", "k", "d1").status == "ready"
    with pytest.raises(NotFoundError):
        calling("wait_for_document", "k", "gone")


def test_followers_end_when_nobody_listens(caller: MakeCaller) -> None:
    ids = [f"d{n}" for n in range(100)]
    asked: list[str] = []
    ended = threading.Event()

    def answer(request: httpx.Request) -> httpx.Response:
        id = request.url.path.split("/")[-2]
        asked.append(id)
        begun = sse(("document", document(id, f"{id}.txt"))).content
        return httpx.Response(200, headers=EVENTS, stream=Silence(ended, begun))

    calling = caller(answer)
    calling.taken = 1
    calling("follow_documents", "k", ids)
    ended.set()
    deadline = time.monotonic() + 5
    while any(thread.name == "zhiwen-follow" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert len(asked) <= FOLLOWED_AT_ONCE


# What the state makes of events, with a clock by hand


def test_queue_that_does_not_move_is_told_once() -> None:
    heard = Heard()
    following = Following.of(["d1"], heard, now=0.0)
    following.note(QUEUED, 0.0)
    for second in range(1, 100):
        following.note(None, float(second))
    assert heard.stalls == [30.0]


def test_seeing_the_same_again_is_no_move() -> None:
    heard = Heard()
    following = Following.of(["d1"], heard, now=0.0)
    for second in range(100):
        following.note(QUEUED, float(second))
    assert heard.stalls == [30.0]


def test_queue_that_moves_is_not_told() -> None:
    heard = Heard()
    following = Following.of(["d1", "d2"], heard, now=0.0)
    following.note(QUEUED, 0.0)
    following.note(DocumentEvent("d2", DocumentStatus.PARSING), 1.0)
    following.note(None, 100.0)
    following.note(DocumentEvent("d2", DocumentStatus.READY), 101.0)
    following.note(None, 130.0)
    assert heard.stalls == []
    following.note(None, 132.0)
    assert heard.stalls == [30.0]


def test_time_that_is_up_is_an_error() -> None:
    following = Following.of(["d1", "d2"], Heard(), now=5.0, timeout=10.0)
    following.note(DocumentEvent("d2", DocumentStatus.READY), 14.0)
    with pytest.raises(TimeoutError, match="1 documents are not settled"):
        following.note(None, 15.1)


def test_late_end_is_no_error() -> None:
    following = Following.of(["d1"], Heard(), now=0.0, timeout=10.0)
    following.note(DocumentEvent("d1", DocumentStatus.READY), 11.0)


def test_silence_is_noticed_and_ends_by_the_timeout() -> None:
    ended = threading.Event()
    transport = httpx.MockTransport(lambda _: httpx.Response(200, headers=EVENTS, stream=Silence(ended)))
    try:
        with Client(transport=transport, **URLS) as client, pytest.raises(TimeoutError):
            client.wait_for_document("k", "d1", timeout=0.1)
    finally:
        ended.set()


async def test_silence_ends_by_the_timeout_of_asyncio() -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, headers=EVENTS, stream=Silence(threading.Event())))
    started = time.monotonic()
    async with AsyncClient(transport=transport, **URLS) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await client.wait_for_document("k", "d1")
    assert time.monotonic() - started < 5


def test_nothing_heard_for_a_while_is_told() -> None:
    ended = threading.Event()

    def follow(id: str, _is_wanted: Callable[[], bool]) -> Iterator[DocumentEvent]:
        ended.wait(20)
        yield DocumentEvent(id, DocumentStatus.READY)

    events = events_in_threads(["d1"], follow)
    started = time.monotonic()
    assert next(events) is None
    assert time.monotonic() - started >= IDLE_SECONDS * 0.9
    ended.set()
    assert list(events)[-1] == DocumentEvent("d1", DocumentStatus.READY)


class Pings(httpx.SyncByteStream):
    """The events of a document that waits for a worker: its first state, then comments only, until it is closed."""

    def __init__(self) -> None:
        self.closed = threading.Event()

    def __iter__(self) -> Iterator[bytes]:
        yield sse(("document", document("d1", "a.txt"))).content
        while not self.closed.wait(0.01):
            yield b": ping\n\n"

    def close(self) -> None:
        self.closed.set()


def test_followers_that_nobody_listens_to_let_go_of_their_connections() -> None:
    streams: list[Pings] = []

    def answer(_request: httpx.Request) -> httpx.Response:
        streams.append(Pings())
        return httpx.Response(200, headers=EVENTS, stream=streams[-1])

    with Client(transport=httpx.MockTransport(answer), **URLS) as client:
        events = client.follow_documents("k", ["d1", "d2", "d3"])
        assert next(events).status == DocumentStatus.QUEUED
        events.close()  # type: ignore[attr-defined]
        assert all(stream.closed.wait(5) for stream in streams)
    assert len(streams) <= 3


def test_followed_documents_take_no_connection_from_other_calls() -> None:
    limits = Connection.of(**URLS).pool("ingest")["limits"]
    assert limits.max_connections is None  # httpx has 100, which seven visitors of the page would hold
