"""The public client against running services: the examples of its documentation, and every method once."""

from __future__ import annotations

import asyncio
import doctest
import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from zhiwen.cli.stack import Stack
from zhiwen.client import (
    Answer,
    ApiError,
    AsyncClient,
    Client,
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    SourcesEvent,
    TokenEvent,
    Watcher,
)

FACT = "满十年的员工每年享有十五天年假。"


@pytest.fixture
def _environment(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a program sees that runs beside the services: clients without arguments reach them."""
    for name, url in stack.addresses.items():
        monkeypatch.setenv(f"ZHIWEN_{name.upper()}_URL", url)
    monkeypatch.delenv("ZHIWEN_API_KEY", raising=False)


@pytest.fixture
def client(_environment: None) -> Iterator[Client]:
    with Client() as client:
        yield client


@pytest.mark.usefixtures("_environment")
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_examples_of_the_documentation_are_true(kind: type) -> None:
    [example] = doctest.DocTestFinder(recurse=False).find(kind, kind.__name__, globs={})
    told = io.StringIO()
    assert len(example.examples) > 2
    failed, tried = doctest.DocTestRunner().run(example, out=told.write)
    with Client() as client:  # the README's lines make a knowledge base of the same name
        for base in client.list_knowledge_bases():
            client.delete_knowledge_base(base.name)
    assert (failed, tried) == (0, len(example.examples)), told.getvalue()


def test_life_of_a_knowledge_base_and_its_documents(client: Client, tmp_path: Path) -> None:
    made = client.create_knowledge_base("接口", description="一", chunking={"size": 200, "overlap": 20})
    assert (made.name, made.description, made.chunking) == ("接口", "一", {"size": 200, "overlap": 20})
    with pytest.raises(ConflictError) as taken:
        client.create_knowledge_base("接口")
    assert (taken.value.code, bool(taken.value.request_id)) == ("knowledge-base-exists", True)
    assert client.update_knowledge_base("接口", description="二").description == "二"
    assert "接口" in [base.name for base in client.list_knowledge_bases()]
    with pytest.raises(ApiError):
        client.cancel_rebuild("接口")
    with pytest.raises(InvalidRequestError) as wrong:
        client.search("接口", "x", top_k=0)
    assert "top_k" in wrong.value.errors[0]["field"]

    (tmp_path / "子").mkdir()
    (tmp_path / "子" / "年假.txt").write_text(FACT, encoding="utf-8")
    added = client.add_documents("接口", [tmp_path, ("坏.bin", b"\0\1\2"), ("空.txt", b"")], metadata={"部门": "人事"})
    assert {one.name: one.outcome for one in added} == {
        "子/年假.txt": "created",
        "坏.bin": "rejected",
        "空.txt": "rejected",
    }
    [again] = client.add_documents("接口", [tmp_path])
    assert (again.outcome, again.status, again.chunks) == ("unchanged", "ready", 1)
    [document] = client.list_documents("接口", status="ready", name="子/*")
    assert (document.metadata, document.live_version, document.bytes) == ({"部门": "人事"}, 1, len(FACT.encode()))
    assert client.get_content("接口", document.id) == FACT.encode()
    client.save_content("接口", document.id, tmp_path / "copy.txt")
    assert (tmp_path / "copy.txt").read_text(encoding="utf-8") == FACT
    assert [chunk.text for chunk in client.list_chunks("接口", document.id)] == [FACT]
    assert list(client.document_events("接口", document.id)) == [document]

    item = client.put_document("接口", "目录/放 %41.txt", "病假需要医院证明。".encode())
    assert (item.outcome, item.name, item.id is not None) == ("created", "目录/放 %41.txt", True)
    assert item.id is not None
    put = client.wait_for_document("接口", item.id, timeout=60)
    assert put.status == "ready"
    with pytest.raises(ConflictError):
        client.retry_document("接口", item.id)
    with pytest.raises(ConflictError):
        client.cancel_document("接口", item.id)
    assert client.delete_document("接口", item.id).status in {"deleting", "deleted"}
    *_, gone = client.follow_documents("接口", [item.id], timeout=60)
    assert gone.status == "deleted"
    client.delete_knowledge_base("接口")
    with pytest.raises(NotFoundError):
        client.get_knowledge_base("接口")


def test_questions_and_operations(client: Client) -> None:
    client.create_knowledge_base("问题")
    client.add_documents("问题", [("年假.txt", FACT.encode())])
    found = client.search("问题", "满十年有几天年假?", mode="full_text", filter={"source": {"prefix": "年"}})
    assert (found.mode, found.answerable, found.hits[0].text) == ("full_text", True, FACT)
    answer = client.ask("问题", "满十年有几天年假?", history=[{"role": "user", "content": "你好"}])
    assert (answer.refused, answer.sources[0].n) == (False, 1)
    events = list(client.ask_stream("问题", "满十年有几天年假?"))
    assert isinstance(events[0], SourcesEvent)
    whole = events[-1]
    assert isinstance(whole, Answer)
    assert "".join(event.text for event in events if isinstance(event, TokenEvent)) == whole.answer
    assert client.recall("问题", queries=1, k=1).chunks == 1
    assert client.fsck().checked_chunks >= 1
    assert client.fsck(repair=True).repaired is True
    assert client.health("query").status == "ok"
    assert client.readiness("ingest").checks["ledger"] == "ok"
    client.delete_knowledge_base("问题")


def test_many_documents_are_followed_by_their_events(client: Client) -> None:
    class Counting(Watcher):
        waited = 0
        followed = 0

        def waiting(self, reason: str, seconds: float) -> None:
            self.waited += 1

        def following(self, documents: int) -> None:
            self.followed = documents

    async def added() -> list[str]:
        async with AsyncClient() as other:
            files = [(f"b{n}.txt", f"第{n}号合同的乙方须付款。".encode()) for n in range(30)]
            return [one.status or "" for one in await other.add_documents("许多", files)]

    client.create_knowledge_base("许多")
    watcher = Counting()
    files = [(f"a{n}.txt", f"第{n}号合同的甲方须付款。".encode()) for n in range(30)]
    assert {one.status for one in client.add_documents("许多", files, watcher=watcher)} == {"ready"}
    assert (watcher.followed, watcher.waited) == (30, 0)
    assert asyncio.run(added()) == ["ready"] * 30
    client.delete_knowledge_base("许多")


def test_documents_are_followed_across_a_restart_of_the_api(client: Client, stack: Stack) -> None:
    class Killing(Watcher):
        def following(self, documents: int) -> None:
            [ingest] = [program.process for program in stack.programs if program.name == "ingest"]
            assert ingest is not None
            ingest.kill()

    client.create_knowledge_base("重启")
    files = [(f"c{n}.txt", f"第{n}号合同的丙方须付款。".encode()) for n in range(20)]
    assert {one.status for one in client.add_documents("重启", files, watcher=Killing())} == {"ready"}
    client.delete_knowledge_base("重启")
