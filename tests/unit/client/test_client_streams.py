"""Streams: the events that they yield, and the errors when they break off."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.unit.client.fake_api import ANSWER, FakeApi, document, problem, source, sse
from tests.unit.client.flavours import Caller
from zhiwen.client import (
    Answer,
    ApiError,
    ConnectionLostError,
    NotFoundError,
    SourcesEvent,
    TokenEvent,
    UnexpectedAnswerError,
)

MakeCaller = Callable[..., Caller]
EVENTS = {"content-type": "text/event-stream"}


class Broken(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that breaks off after its first bytes."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def __iter__(self) -> Iterator[bytes]:
        yield self._content
        raise httpx.ReadError("broke off")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self:
            yield piece


def test_answer_comes_as_typed_events(caller: MakeCaller) -> None:
    api = FakeApi({"k": {}})
    sources, one, two, done = caller(api.answer)("ask_stream", "k", "?", top_k=3)
    assert isinstance(sources, SourcesEvent)
    assert [found.source for found in sources.sources] == ["员工手册.docx"]
    assert [one, two] == [TokenEvent(text="15天"), TokenEvent(text="。[1]")]
    assert done == Answer.model_validate(ANSWER)
    assert api.requests[0].read() == b'{"question":"?","top_k":3,"stream":true}'


def test_events_of_a_kind_that_is_not_known_are_left_out(caller: MakeCaller) -> None:
    api = FakeApi({"k": {}})
    api.ask_events.insert(1, ("thinking", {"text": "Hm"}))
    assert [type(event) for event in caller(api.answer)("ask_stream", "k", "?")] == [
        SourcesEvent,
        TokenEvent,
        TokenEvent,
        Answer,
    ]


def test_error_event_is_an_error(caller: MakeCaller) -> None:
    api = FakeApi({"k": {}})
    api.ask_events[2:] = [("error", {"code": "upstream-died", "detail": "The model server broke off.", "status": 502})]
    with pytest.raises(ApiError) as caught:
        caller(api.answer)("ask_stream", "k", "?")
    assert (caught.value.code, caught.value.status) == ("upstream-died", 502)


def test_stream_that_ends_early_is_an_error(caller: MakeCaller) -> None:
    api = FakeApi({"k": {}})
    del api.ask_events[-1]
    with pytest.raises(ConnectionLostError, match="ended early") as caught:
        caller(api.answer)("ask_stream", "k", "?")
    assert caught.value.code == "connection-lost"


def test_stream_that_breaks_off_is_an_error_and_what_came_before_is_not_lost(caller: MakeCaller) -> None:
    begun = sse(("sources", {"sources": [source()]}), ("token", {"text": "15"})).content
    calling = caller(lambda _: httpx.Response(200, headers=EVENTS, stream=Broken(begun)))
    calling.taken = 2
    assert calling("ask_stream", "k", "?")[1] == TokenEvent(text="15")
    calling.taken = None
    with pytest.raises(ConnectionLostError, match="broke off"):
        calling("ask_stream", "k", "?")


def test_refused_stream_is_the_services_problem(caller: MakeCaller) -> None:
    with pytest.raises(NotFoundError) as caught:
        caller(FakeApi().answer)("ask_stream", "无", "?")
    assert caught.value.code == "knowledge-base-not-found"


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        ({}, "hi"),
        (EVENTS, "event: token\ndata: hi\n\n"),
        (EVENTS, 'event: token\ndata: {"words": 1}\n\n'),
        (EVENTS, "event: error\ndata: [1]\n\n"),
    ],
    ids=["no-stream", "no-json", "other-fields", "error-without-a-problem"],
)
def test_stream_of_a_foreign_server_is_an_error(caller: MakeCaller, headers: dict[str, str], text: str) -> None:
    with pytest.raises(UnexpectedAnswerError, match="is not the query API"):
        caller(lambda _: httpx.Response(200, text=text, headers=headers))("ask_stream", "k", "?")


def test_document_events_are_the_documents(caller: MakeCaller) -> None:
    api = FakeApi({"k": {"d1": document("d1", "a.txt", status="embedding")}})
    states = [found.status for found in caller(api.answer)("document_events", "k", "d1")]
    assert states == ["indexing", "ready", "ready", "ready", "ready"]


def test_keep_alive_comments_are_no_events(caller: MakeCaller) -> None:
    text = sse(("document", document("d", "a", status="ready"))).text
    kept_alive = f": still here\n\n{text}: still here\n\n"
    calling = caller(lambda _: httpx.Response(200, text=kept_alive, headers=EVENTS))
    assert len(calling("document_events", "k", "d")) == 1


def test_stream_that_is_left_is_closed(caller: MakeCaller) -> None:
    closed: list[bool] = []

    class Endless(Broken):
        def close(self) -> None:
            closed.append(True)

        async def aclose(self) -> None:
            closed.append(True)

    begun = sse(("token", {"text": "15"})).content
    calling = caller(lambda _: httpx.Response(200, headers=EVENTS, stream=Endless(begun)))
    calling.taken = 1
    calling("ask_stream", "k", "?")
    assert closed == [True]


def test_download_that_breaks_off_leaves_no_file(caller: MakeCaller, tmp_path: Path) -> None:
    calling = caller(lambda _: httpx.Response(200, stream=Broken(b"half")))
    with pytest.raises(ConnectionLostError):
        calling("save_content", "k", "d", tmp_path / "a.pdf")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(NotFoundError):
        caller(lambda _: problem(404, "original-missing", "Gone."))("save_content", "k", "d", tmp_path / "a.pdf")
    assert list(tmp_path.iterdir()) == []
