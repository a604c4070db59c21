"""The client: what it sends, what it makes of answers, and what it says when there is none."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.unit.cli.fake_api import FakeApi, document, form, problem, sse, uploaded
from zhiwen.cli.client import Addresses, Client, LocalFile
from zhiwen.cli.problems import ApiError

ADDRESSES = Addresses("http://127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:3")


def client_of(transport: httpx.BaseTransport, **options: str) -> Client:
    return Client(ADDRESSES, transport=transport, **options)


def refusing(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused", request=request)


def test_sends_the_key_as_bearer() -> None:
    api = FakeApi()
    list(client_of(api.transport, api_key="zw_1").bases())
    assert api.requests[0].headers["authorization"] == "Bearer zw_1"


def test_sends_no_header_without_a_key() -> None:
    api = FakeApi()
    list(client_of(api.transport).bases())
    assert "authorization" not in api.requests[0].headers


def test_uploads_files_under_their_names_with_metadata(tmp_path: Path) -> None:
    api = FakeApi({"手册": {}})
    (tmp_path / "a.txt").write_text("甲")
    (tmp_path / "b.txt").write_text("乙丙")
    read: list[int] = []
    files = [LocalFile.at(tmp_path / "a.txt", "目录/年假 (1).txt"), LocalFile.at(tmp_path / "b.txt")]
    items = client_of(api.transport).upload(
        "手册", files, metadata={"部门": "人事"}, on_duplicate="skip", on_bytes=read.append
    )
    sent = api.requests[-1]
    assert sent.url.raw_path == b"/v1/knowledge-bases/%E6%89%8B%E5%86%8C/documents"
    assert uploaded(sent) == [("目录/年假 (1).txt", "甲".encode()), ("b.txt", "乙丙".encode())]
    assert {name: content for name, file, content in form(sent) if file is None} == {
        "on_duplicate": b"skip",
        "metadata": '{"部门": "人事"}'.encode(),
    }
    assert [item["outcome"] for item in items] == ["created", "created"]
    assert sum(read) == 9


def test_lists_follow_the_cursor() -> None:
    api = FakeApi({"k": {f"d{n}": document(f"d{n}", f"{n}.txt") for n in range(5)}})
    assert [d["id"] for d in client_of(api.transport).documents("k")] == ["d0", "d1", "d2", "d3", "d4"]


def test_streams_an_answer() -> None:
    events = list(client_of(FakeApi({"k": {}}).transport).ask_events("k", {"question": "?"}))
    assert [event for event, _ in events] == ["sources", "token", "token", "done"]


def test_error_event_is_an_error() -> None:
    api = FakeApi({"k": {}})
    api.ask_events[2:] = [("error", {"code": "upstream-died", "detail": "The model server broke off.", "status": 502})]
    with pytest.raises(ApiError) as caught:
        list(client_of(api.transport).ask_events("k", {"question": "?"}))
    assert (caught.value.code, caught.value.status) == ("upstream-died", 502)


def test_stream_that_ends_early_is_an_error() -> None:
    api = FakeApi({"k": {}})
    del api.ask_events[-1]
    with pytest.raises(ApiError, match="ended early") as caught:
        list(client_of(api.transport).ask_events("k", {"question": "?"}))
    assert caught.value.code == "connection-lost"


def test_refused_stream_is_the_services_problem() -> None:
    with pytest.raises(ApiError) as caught:
        list(client_of(FakeApi().transport).ask_events("无", {"question": "?"}))
    assert caught.value.code == "knowledge-base-not-found"


def test_document_events_are_the_documents() -> None:
    api = FakeApi({"k": {"d1": document("d1", "a.txt", status="indexing")}})
    assert [d["status"] for d in client_of(api.transport).document_events("k", "d1")][-1] == "ready"


@pytest.mark.parametrize(("status", "exit_code"), [(401, 4), (403, 4), (404, 5), (409, 6), (422, 1), (503, 1)], ids=str)
def test_problem_keeps_its_fields_and_has_an_exit_code(status: int, exit_code: int) -> None:
    transport = httpx.MockTransport(lambda _: problem(status, "some-code", "One sentence."))
    with pytest.raises(ApiError, match=r"One sentence\.") as caught:
        client_of(transport).base("k")
    assert (caught.value.status, caught.value.code, caught.value.exit_code) == (status, "some-code", exit_code)


def test_no_answer_names_the_address_and_what_to_start() -> None:
    with pytest.raises(ApiError) as caught:
        client_of(httpx.MockTransport(refusing)).search("k", {"query": "x"})
    assert caught.value.exit_code == 3
    assert "The query API does not answer at http://127.0.0.1:2: start it with `zhiwen up`" in caught.value.detail
    assert "ZHIWEN_QUERY_URL" in caught.value.detail


@pytest.mark.parametrize("url", ["nonsense", "ftp://127.0.0.1:1", "http://[::1"])
def test_address_that_is_none_is_one_sentence(url: str) -> None:
    with pytest.raises(ApiError, match="does not answer at"):
        Client(Addresses(url, url)).base("k")


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, text="<html>"),
        httpx.Response(404, json={"detail": "Not Found"}),
        httpx.Response(200, json=[1]),
        httpx.Response(200, json={"status": "ok"}),
    ],
    ids=["html", "foreign-404", "list", "foreign-object"],
)
def test_foreign_server_is_named(answer: httpx.Response) -> None:
    with pytest.raises(ApiError, match="does not speak like the ingest API") as caught:
        list(client_of(httpx.MockTransport(lambda _: answer)).bases())
    assert caught.value.code == "unexpected-answer"


def test_stream_of_a_foreign_server_is_an_error() -> None:
    with pytest.raises(ApiError):
        list(client_of(httpx.MockTransport(lambda _: httpx.Response(200, text="hi"))).ask_events("k", {}))


def test_not_ready_is_an_answer() -> None:
    body = {"status": "not-ready", "checks": {"milvus": "no answer within 3 s"}}
    transport = httpx.MockTransport(lambda _: httpx.Response(503, json=body))
    assert client_of(transport).ready("ingest") == body


def test_name_of_an_old_chinese_system_becomes_text(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("x")
    assert LocalFile.at(path, "年假.txt".encode("gb18030").decode("utf-8", "surrogateescape")).name == "年假.txt"


def test_keep_alive_comments_are_no_events() -> None:
    transport = httpx.MockTransport(lambda _: sse(("document", {"status": "ready"})))
    assert len(list(client_of(transport).document_events("k", "d"))) == 1
