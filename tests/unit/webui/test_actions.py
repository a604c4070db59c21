"""The actions of the page, against a fake API."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from tests.unit.client.fake_api import FakeApi, document, problem
from tests.unit.client.flavours import ONCE
from zhiwen.client import ApiError, Client, DocumentOut
from zhiwen.webui.actions import Actions, Turn, choices, history


def actions_of(api: FakeApi) -> Actions:
    return Actions(Client(transport=api.transport, **ONCE))


def test_creates_and_lists_knowledge_bases() -> None:
    actions = actions_of(FakeApi())
    assert actions.create_base(" 手册 ") == "手册"
    assert actions.base_names() == ["手册"]


def test_upload_yields_the_table_until_every_document_is_settled(tmp_path: Path) -> None:
    for name, text in (("好.txt", "好"), ("空.txt", "")):
        (tmp_path / name).write_text(text)
    paths = [tmp_path / "好.txt", tmp_path / "空.txt"]
    tables = list(actions_of(FakeApi({"k": {}})).upload("k", paths))
    assert [row[2] for row in tables[0]] == ["上传中 / uploading", "上传中 / uploading"]
    assert [row[:3] for row in tables[-1]] == [
        ["好.txt", "新建 / created", "就绪 / ready"],
        ["空.txt", "被拒绝 / rejected", "被拒绝 / rejected"],
    ]
    assert list(tmp_path.iterdir()) == []


def test_upload_that_the_api_refuses_is_a_row(tmp_path: Path) -> None:
    def full(_names: list[str]) -> httpx.Response:
        return problem(429, "queue-full", "Too many documents are waiting.")

    (tmp_path / "a.txt").write_text("x")
    *_, rows = actions_of(FakeApi({"k": {}}, refuse_upload=full)).upload("k", [tmp_path / "a.txt"])
    assert rows == [["a.txt", "被拒绝 / rejected", "被拒绝 / rejected", "Too many documents are waiting."]]


def test_answer_grows_and_ends_with_its_sources() -> None:
    turns = list(actions_of(FakeApi({"k": {}})).ask("k", "?", []))
    assert [turn.answer for turn in turns] == ["", "", "15天", "15天。[1]", "15天。[1]"]
    assert turns[-1].passages[0].source == "员工手册.docx"
    assert [turn.outcome for turn in turns] == [None] * 4 + ["answered"]
    assert (turns[-1].confidence, [mark.n for mark in turns[-1].citations]) == (0.91, [1])
    assert turns[-1].error is None


@pytest.mark.parametrize("outcome", ["closest", "refused"])
def test_passages_that_did_not_answer_stay_with_their_outcome(outcome: str) -> None:
    api = FakeApi({"k": {}})
    name, done = api.ask_events[-1]
    api.ask_events[-1] = (name, {**done, "outcome": outcome, "sources": [], "closest": done["sources"]})
    *_, last = actions_of(api).ask("k", "?", [])
    assert (last.outcome, len(last.passages)) == (outcome, 1)


def test_conversation_is_sent_along() -> None:
    api = FakeApi({"k": {}})
    list(actions_of(api).ask("k", "那么二十年呢?", [Turn("十年?", "15天。"), Turn("?", "一半", error="broke off")]))
    assert json.loads(api.requests[-1].content)["history"] == [
        {"role": "user", "content": "十年?"},
        {"role": "assistant", "content": "15天。"},
    ]


def test_only_the_last_turns_are_sent() -> None:
    assert len(history([Turn(str(n), str(n)) for n in range(50)])) == 12


def test_answer_that_breaks_off_keeps_what_came_and_says_why() -> None:
    api = FakeApi({"k": {}})
    api.ask_events[2:] = [("error", {"code": "upstream-died", "detail": "The model server broke off.", "status": 502})]
    *_, last = actions_of(api).ask("k", "?", [])
    assert (last.answer, last.error) == ("15天", "The model server broke off.")


def test_deletes_chosen_documents() -> None:
    api = FakeApi({"k": {"d1": document("d1", "a.txt"), "d2": document("d2", "b.txt")}})
    actions_of(api).delete("k", ["d1"])
    assert list(api.bases["k"]) == ["d2"]
    with pytest.raises(ApiError):
        actions_of(api).delete("k", ["d1"])


def test_documents_being_deleted_cannot_be_chosen() -> None:
    shown = [document("d1", "a.txt", status="ready"), document("d2", "b.txt", status="deleting")]
    documents = [DocumentOut.model_validate(document) for document in shown]
    assert choices(documents) == [("a.txt (就绪 / ready)", "d1")]


def test_without_a_knowledge_base_there_are_no_documents() -> None:
    assert actions_of(FakeApi()).documents(None) == []
