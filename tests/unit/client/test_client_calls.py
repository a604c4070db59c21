"""The request of each client method, and the value that it reads from the answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import BaseModel

from tests.unit.client.fake_api import ANSWER, FOUND, FakeApi, document, form, knowledge_base, uploaded
from tests.unit.client.flavours import Caller
from zhiwen.client import (
    Answer,
    Chunking,
    DocumentOut,
    FsckReport,
    Health,
    Index,
    KnowledgeBaseOut,
    LocalFile,
    Message,
    Readiness,
    RecallOut,
    SearchOut,
    UnexpectedAnswerError,
    UploadItem,
)

MakeCaller = Callable[..., Caller]
KB = "/v1/knowledge-bases/%E6%89%8B%E5%86%8C"
BASE = knowledge_base("手册")
DOCUMENT = document("d 1", "年假.txt")
ITEM = {"id": "d1", "name": "a.txt", "status": "queued", "version": 1, "outcome": "created"}
RECALL = {
    "index": {"type": "HNSW"},
    "chunks": 9,
    "queries": 3,
    "k": 5,
    "recall": 0.99,
    "took_ms": {"p50": 1.0, "p99": 2.0},
}
REPORT: dict[str, Any] = {
    "clean": True,
    "repaired": False,
    "checked_chunks": 1,
    "checked_originals": 1,
    "skipped_busy": 0,
    **{name: [] for name in ("missing", "orphaned", "duplicated", "missing_collections", "unknown_collections")},
    **{name: [] for name in ("missing_originals", "orphaned_originals")},
}


@dataclass(frozen=True)
class Case:
    """A call, the request it becomes (`METHOD port raw-path`), the answer, and the type of what is returned."""

    method: str
    arguments: tuple[Any, ...]
    sent: str
    answer: Any
    kind: type[BaseModel] | None
    keywords: dict[str, Any] = field(default_factory=dict)
    body: Any = None


CASES = [
    Case(
        "create_knowledge_base",
        ("手册",),
        "POST 1 /v1/knowledge-bases",
        BASE,
        KnowledgeBaseOut,
        {"index": Index(type="HNSW", params={"M": 8}), "chunking": Chunking(size=200, overlap=20), "description": None},
        {
            "name": "手册",
            "index": {"type": "HNSW", "metric": None, "params": {"M": 8}, "search": {}},
            "chunking": {"size": 200, "overlap": 20},
        },
    ),
    Case("get_knowledge_base", ("手册",), f"GET 1 {KB}", BASE, KnowledgeBaseOut),
    Case(
        "update_knowledge_base",
        ("手册",),
        f"PATCH 1 {KB}",
        BASE,
        KnowledgeBaseOut,
        {"description": "新", "prompt_template": None},
        {"description": "新", "prompt_template": None},
    ),
    Case("cancel_rebuild", ("手册",), f"DELETE 1 {KB}/rebuild", BASE, KnowledgeBaseOut),
    Case("delete_knowledge_base", ("手册",), f"DELETE 1 {KB}", None, None),
    Case("get_document", ("手册", "d 1"), f"GET 1 {KB}/documents/d%201", DOCUMENT, DocumentOut),
    Case("retry_document", ("手册", "d 1"), f"POST 1 {KB}/documents/d%201/retry", DOCUMENT, DocumentOut),
    Case("cancel_document", ("手册", "d 1"), f"POST 1 {KB}/documents/d%201/cancel", DOCUMENT, DocumentOut),
    Case("delete_document", ("手册", "d 1"), f"DELETE 1 {KB}/documents/d%201", DOCUMENT, DocumentOut),
    Case(
        "search",
        ("手册", "年假?"),
        f"POST 2 {KB}/search",
        FOUND,
        SearchOut,
        {"top_k": 3, "mode": "dense", "filter": {"page": {"gt": 1}}, "min_score": None},
        {"query": "年假?", "top_k": 3, "mode": "dense", "filter": {"page": {"gt": 1}}},
    ),
    Case(
        "ask",
        ("手册", "那么二十年呢?"),
        f"POST 2 {KB}/ask",
        ANSWER,
        Answer,
        {"history": [Message(role="user", content="十年?"), {"role": "assistant", "content": "15天"}], "rerank": False},
        {
            "question": "那么二十年呢?",
            "history": [{"role": "user", "content": "十年?"}, {"role": "assistant", "content": "15天"}],
            "rerank": False,
        },
    ),
    Case(
        "recall",
        ("手册",),
        f"GET 2 {KB}/recall?queries=3&k=5&params=%7B%22ef%22%3A+64%7D",
        RECALL,
        RecallOut,
        {"queries": 3, "k": 5, "params": {"ef": 64}},
    ),
    Case("fsck", (), "GET 1 /v1/fsck", REPORT, FsckReport),
    Case("fsck", (), "POST 1 /v1/fsck", REPORT, FsckReport, {"repair": True}),
    Case("health", ("gateway",), "GET 3 /healthz", {"status": "ok"}, Health),
    Case("readiness", ("query",), "GET 2 /readyz", {"status": "ready", "checks": {"milvus": "ok"}}, Readiness),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.method} {case.sent.split()[0]}")
def test_call_becomes_a_request_and_the_answer_a_value(caller: MakeCaller, case: Case) -> None:
    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(202) if case.answer is None else httpx.Response(200, json=case.answer)

    found = caller(answer)(case.method, *case.arguments, **case.keywords)
    [request] = requests
    assert f"{request.method} {request.url.port} {request.url.raw_path.decode()}" == case.sent
    assert (json.loads(request.content) if request.content else None) == case.body
    if case.kind is None:
        assert found is None
    else:
        assert found == case.kind.model_validate(case.answer)


def test_sends_the_key_as_bearer(caller: MakeCaller) -> None:
    api = FakeApi()
    caller(api.answer, api_key="zw_1")("list_knowledge_bases")
    assert api.requests[0].headers["authorization"] == "Bearer zw_1"


def test_sends_no_header_without_a_key(caller: MakeCaller) -> None:
    api = FakeApi()
    caller(api.answer)("list_knowledge_bases")
    assert "authorization" not in api.requests[0].headers


def test_addresses_and_key_come_from_the_environment(caller: MakeCaller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZHIWEN_INGEST_URL", "http://10.0.0.1:7/zhiwen/")
    monkeypatch.setenv("ZHIWEN_API_KEY", "zw_2")
    api = FakeApi()
    calling = caller(api.answer, ingest_url=None, api_key=None)
    with pytest.raises(UnexpectedAnswerError, match="is not the ingest API"):
        calling("get_knowledge_base", "k")
    [request] = api.requests
    assert str(request.url) == "http://10.0.0.1:7/zhiwen/v1/knowledge-bases/k"
    assert request.headers["authorization"] == "Bearer zw_2"


@pytest.mark.parametrize("key", ["zw_2\n", " zw_2 "], ids=repr)
def test_key_is_sent_without_the_white_space_around_it(caller: MakeCaller, key: str) -> None:
    api = FakeApi({"k": {}})
    caller(api.answer, api_key=key)("get_knowledge_base", "k")
    assert api.requests[0].headers["authorization"] == "Bearer zw_2"


def test_key_that_is_not_ascii_is_for_the_service_to_refuse(caller: MakeCaller) -> None:
    api = FakeApi({"k": {}})
    caller(api.answer, api_key="密钥")("get_knowledge_base", "k")
    assert dict(api.requests[0].headers.raw)[b"Authorization"] == "Bearer 密钥".encode()


def test_making_a_knowledge_base_may_take_as_long_as_fetching_its_model(caller: MakeCaller) -> None:
    api = FakeApi()
    calling = caller(api.answer, timeout=1.0, long_timeout=600.0)
    calling("create_knowledge_base", "k")
    calling("get_knowledge_base", "k")
    assert [request.extensions["timeout"]["read"] for request in api.requests] == [600.0, 1.0]


def test_uploads_files_under_their_names_with_metadata(caller: MakeCaller, tmp_path: Path) -> None:
    api = FakeApi({"手册": {}})
    (tmp_path / "a.txt").write_text("甲")
    (tmp_path / "b.txt").write_text("乙丙")
    read: list[int] = []
    files = [LocalFile.at(tmp_path / "a.txt", "目录/年假 (1).txt"), str(tmp_path / "b.txt"), ("c.txt", b"x")]
    items = caller(api.answer)(
        "upload_documents", "手册", files, metadata={"部门": "人事"}, on_duplicate="skip", on_bytes=read.append
    )
    sent = api.requests[-1]
    assert sent.url.raw_path == b"/v1/knowledge-bases/%E6%89%8B%E5%86%8C/documents"
    assert uploaded(sent) == [("目录/年假 (1).txt", "甲".encode()), ("b.txt", "乙丙".encode()), ("c.txt", b"x")]
    assert {name: content for name, file, content in form(sent) if file is None} == {
        "on_duplicate": b"skip",
        "metadata": '{"部门": "人事"}'.encode(),
    }
    assert [item.outcome for item in items] == ["created", "created", "created"]
    assert sum(read) == 10


@pytest.mark.parametrize("kind", ["bytes", "path"])
def test_puts_one_file_under_a_name(caller: MakeCaller, tmp_path: Path, kind: str) -> None:
    requests: list[tuple[httpx.Request, bytes]] = []
    (tmp_path / "local").write_bytes(b"12345")
    read: list[int] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append((request, request.read()))
        return httpx.Response(202, json=ITEM)

    content = b"12345" if kind == "bytes" else tmp_path / "local"
    item = caller(answer)("put_document", "k", "目录/a.txt", content, metadata={"年": 1}, on_bytes=read.append)
    assert item == UploadItem.model_validate(ITEM)
    [(request, body)] = requests
    assert request.url.path == "/v1/knowledge-bases/k/documents/by-name/目录/a.txt"
    assert request.url.raw_path.partition(b"?")[0].endswith(b"/by-name/%E7%9B%AE%E5%BD%95%2Fa.txt")
    assert dict(request.url.params) == {"on_duplicate": "keep", "metadata": '{"年": 1}'}
    assert (body, request.headers["content-length"], sum(read)) == (b"12345", "5", 5)


def test_lists_follow_the_cursor(caller: MakeCaller) -> None:
    api = FakeApi({"k": {f"d{n}": document(f"d{n}", f"{n}.txt") for n in range(5)}})
    assert [d.id for d in caller(api.answer)("list_documents", "k")] == ["d0", "d1", "d2", "d3", "d4"]
    assert [request.url.params.get("cursor") for request in api.requests] == [None, "2", "4"]
    assert [d.name for d in caller(api.answer)("list_documents", "k", name="3.txt")] == ["3.txt"]


def test_lists_are_fetched_page_by_page_as_they_are_read(caller: MakeCaller) -> None:
    api = FakeApi({"k": {f"d{n}": document(f"d{n}", f"{n}.txt") for n in range(5)}})
    calling = caller(api.answer)
    calling.taken = 2
    assert [d.id for d in calling("list_documents", "k")] == ["d0", "d1"]
    assert len(api.requests) == 1


def test_chunks_are_listed_in_order(caller: MakeCaller) -> None:
    chunk = {"chunk_id": "d:1:0", "ordinal": 0, "text": "甲", "page": None, "heading": ""}
    pages = [{"items": [chunk], "next_cursor": "x"}, {"items": [{**chunk, "ordinal": 1}], "next_cursor": None}]
    calling = caller(lambda _: httpx.Response(200, json=pages.pop(0)))
    assert [found.ordinal for found in calling("list_chunks", "k", "d")] == [0, 1]


def test_original_comes_back_as_bytes_or_as_a_file(caller: MakeCaller, tmp_path: Path) -> None:
    calling = caller(lambda _: httpx.Response(200, content=b"%PDF-"))
    assert calling("get_content", "k", "d") == b"%PDF-"
    calling("save_content", "k", "d", tmp_path / "a.pdf")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.pdf": b"%PDF-"}


def test_not_ready_is_an_answer(caller: MakeCaller) -> None:
    body = {"status": "not-ready", "checks": {"milvus": "no answer within 3 s"}}
    assert caller(lambda _: httpx.Response(503, json=body))("readiness", "ingest").model_dump() == body


def test_timeouts_are_those_of_the_client_and_longer_where_a_model_answers(caller: MakeCaller) -> None:
    api = FakeApi({"k": {}})
    calling = caller(api.answer, timeout=7, long_timeout=70, connect_timeout=2)
    calling("search", "k", "?")
    calling("ask", "k", "?")
    limits = [request.extensions["timeout"] for request in api.requests]
    assert [(limit["read"], limit["connect"]) for limit in limits] == [(7, 2), (70, 2)]
