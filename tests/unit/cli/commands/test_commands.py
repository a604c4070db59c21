"""The commands as a user sees them: what is on stdout and stderr, and how they end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.cells import cell_len
from typer.main import get_command
from typer.testing import CliRunner, Result

from tests.servers.ledgers import add, index, new_base
from tests.unit.client.fake_api import FakeApi, citation, document, source
from zhiwen.cli.commands import operations
from zhiwen.cli.main import create_app
from zhiwen.cli.output import Output
from zhiwen.common.ledger import open_ledger
from zhiwen.common.models import UsageRow

CLEAN = {f"ZHIWEN_{name}": "" for name in ("KB", "API_KEY", "INGEST_URL", "QUERY_URL", "GATEWAY_URL", "DATABASE_URL")}


def zhiwen(api: FakeApi | httpx.BaseTransport, *arguments: str, **environment: str) -> Result:
    transport = api.transport if isinstance(api, FakeApi) else api
    env = {**CLEAN, **environment}
    return CliRunner(env=env).invoke(create_app(), list(arguments), obj=transport, catch_exceptions=False)


def refusing(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused", request=request)


def commands() -> Iterator[tuple[str, ...]]:
    """Every command there is."""
    root: Any = get_command(create_app())
    for name, found in root.commands.items():
        subcommands = getattr(found, "commands", None)
        yield from [(name, inner) for inner in subcommands] if subcommands else [(name,)]


@pytest.mark.parametrize("path", list(commands()), ids=" ".join)
def test_every_command_explains_itself_and_has_json(path: tuple[str, ...]) -> None:
    shown = zhiwen(FakeApi(), *path, "--help")
    assert shown.exit_code == 0
    assert "--json" in shown.stdout


def test_all_commands_are_there() -> None:
    assert {" ".join(path) for path in commands()} >= {
        *("up", "status", "add", "ask", "search", "usage"),
        *("kb create", "kb list", "kb show", "kb delete"),
        *("docs list", "docs show", "docs delete", "docs retry", "docs cancel"),
        *("keys create", "keys list", "keys revoke"),
    }


def test_knowledge_base_is_created_listed_and_deleted() -> None:
    api = FakeApi()
    assert "员工手册" in zhiwen(api, "kb", "create", "员工手册").stdout
    assert json.loads(zhiwen(api, "kb", "list", "--json").stdout)["items"][0]["name"] == "员工手册"
    assert zhiwen(api, "kb", "create", "员工手册").exit_code == 6
    assert zhiwen(api, "kb", "delete", "员工手册", "--yes").exit_code == 0
    assert api.bases == {}


def test_creating_sends_what_was_chosen() -> None:
    api = FakeApi()
    zhiwen(api, "kb", "create", "k", "--index-type", "HNSW", "--index-params", '{"M": 8}', "--chunk-size", "200")
    assert json.loads(api.requests[-1].content) == {
        "name": "k",
        "description": "",
        "index": {"type": "HNSW", "metric": None, "params": {"M": 8}, "search": {}},
        "chunking": {"size": 200, "overlap": 40},
    }


def test_nothing_is_deleted_without_a_yes() -> None:
    api = FakeApi({"k": {"d1": document("d1", "a.txt")}})
    for arguments in (("kb", "delete", "k"), ("docs", "delete", "d1")):
        ended = zhiwen(api, *arguments)
        assert (ended.exit_code, "--yes" in ended.stderr) == (2, True)
    assert list(api.bases["k"]) == ["d1"]


def test_problem_is_a_sentence_on_stderr() -> None:
    ended = zhiwen(FakeApi(), "kb", "show", "无")
    assert (ended.exit_code, ended.stdout) == (5, "")
    assert ended.stderr == "Error: There is no knowledge base named 无.\n"


def test_problem_is_json_on_stdout_for_programs() -> None:
    ended = zhiwen(FakeApi(), "kb", "show", "无", "--json")
    assert json.loads(ended.stdout)["code"] == "knowledge-base-not-found"
    assert (ended.exit_code, ended.stderr) == (5, "")


def test_service_that_does_not_answer_is_one_sentence() -> None:
    ended = zhiwen(httpx.MockTransport(refusing), "kb", "list", "--ingest-url", "http://127.0.0.1:9")
    assert ended.exit_code == 3
    assert ended.stderr.startswith("Error: The ingest API does not answer at http://127.0.0.1:9: start it with")
    assert ended.stderr.count("\n") == 1


def test_addresses_and_key_come_from_the_environment() -> None:
    api = FakeApi()
    zhiwen(api, "kb", "list", ZHIWEN_INGEST_URL="http://10.0.0.1:7", ZHIWEN_API_KEY="zw_secret")
    [request] = api.requests
    assert (request.url.host, request.headers["authorization"]) == ("10.0.0.1", "Bearer zw_secret")


@pytest.mark.parametrize(
    ("bases", "environment", "arguments", "asked"),
    [
        (["甲"], {}, [], "甲"),
        (["甲", "乙"], {"ZHIWEN_KB": "乙"}, [], "乙"),
        (["甲", "乙"], {"ZHIWEN_KB": "乙"}, ["--kb", "甲"], "甲"),
    ],
    ids=["the-only-one", "environment", "option"],
)
def test_which_knowledge_base_is_meant(
    bases: list[str], environment: dict[str, str], arguments: list[str], asked: str
) -> None:
    api = FakeApi({name: {} for name in bases})
    assert zhiwen(api, "search", "x", *arguments, **environment).exit_code == 0
    assert f"/v1/knowledge-bases/{asked}/search" == api.requests[-1].url.path


@pytest.mark.parametrize(("bases", "said"), [([], "kb create"), (["甲", "乙"], "甲, 乙")], ids=["none", "two"])
def test_unclear_knowledge_base_is_asked_for(bases: list[str], said: str) -> None:
    ended = zhiwen(FakeApi({name: {} for name in bases}), "search", "x")
    assert (ended.exit_code, said in ended.stderr) == (2, True)


def test_add_prints_a_summary_and_ends_with_one_when_a_file_failed(tmp_path: Path) -> None:
    (tmp_path / "好.txt").write_text("好")
    assert zhiwen(FakeApi({"k": {}}), "add", str(tmp_path)).exit_code == 0
    (tmp_path / "空.txt").write_text("")
    ended = zhiwen(FakeApi({"k": {}}), "add", str(tmp_path))
    assert ended.exit_code == 1
    assert "1 created · 0 replaced · 0 unchanged · 0 duplicate · 0 failed · 1 rejected" in ended.stdout
    assert "The file is empty (0 bytes)." in ended.stdout
    assert "indexing" in ended.stderr


def test_add_for_programs_prints_one_object(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("甲")
    ended = zhiwen(FakeApi({"k": {}}), "add", str(tmp_path), "--json")
    told = json.loads(ended.stdout)
    assert (told["knowledge_base"], told["counts"]["created"]) == ("k", 1)
    assert (told["items"][0]["name"], told["items"][0]["status"]) == ("a.txt", "ready")
    assert ended.stderr == ""


@pytest.mark.parametrize("metadata", ["{", "[1]"])
def test_metadata_must_be_an_object(tmp_path: Path, metadata: str) -> None:
    (tmp_path / "a.txt").write_text("甲")
    ended = zhiwen(FakeApi({"k": {}}), "add", str(tmp_path), "--metadata", metadata)
    assert (ended.exit_code, "--metadata" in ended.stderr) == (2, True)


def test_ask_prints_the_answer_and_numbered_sources() -> None:
    ended = zhiwen(FakeApi({"k": {}}), "ask", "年假有几天?")
    assert ended.exit_code == 0
    assert ended.stdout.splitlines() == [
        "15天。[1]",
        "",
        "[1] 员工手册.docx · p. 3 · 假期  (0.88)",
        "    满十年的员工享有15天年假。",
    ]


def ended_with(**answer: Any) -> FakeApi:
    api = FakeApi({"k": {}})
    name, done = api.ask_events[-1]
    api.ask_events[-1] = (name, {**done, **answer})
    return api


def test_unsure_answer_shows_the_closest_passages_under_their_own_title() -> None:
    ended = zhiwen(ended_with(outcome="closest", sources=[], closest=[source()], confidence=0.12), "ask", "?")
    assert ended.exit_code == 0
    assert ended.stdout.splitlines()[1:4] == [
        "",
        "最接近的内容 / The closest passages",
        "[1] 员工手册.docx · p. 3 · 假期  (0.88)",
    ]
    assert "confidence 0.12" in ended.stderr


def test_refusal_is_named_and_shows_no_sources() -> None:
    refused = ended_with(outcome="refused", refused=True, sources=[], closest=[source()], citations=[], confidence=0.0)
    ended = zhiwen(refused, "ask", "?")
    assert ended.exit_code == 0
    assert ended.stdout.splitlines()[2:4] == [
        "知识库中没有答案 / The knowledge base does not hold the answer",
        "最接近的内容 / The closest passages",
    ]
    assert "confidence" not in ended.stderr


def test_marks_that_nothing_supports_are_named() -> None:
    marks = [citation(2, supported=False), citation(1), citation(7, supported=False), citation(2, supported=False)]
    assert zhiwen(ended_with(citations=marks), "ask", "?").stdout.splitlines()[-1] == (
        "缺少依据 / Not supported by the passage: [2] [7]"
    )
    assert "缺少依据" not in zhiwen(ended_with(), "ask", "?").stdout


def test_search_says_whether_it_could_be_answered() -> None:
    assert zhiwen(FakeApi({"k": {}}), "search", "?").stderr == "hybrid · answerable, confidence 0.91 · 2 ms\n"


def test_ask_for_programs_is_one_object_or_a_line_an_event() -> None:
    api = FakeApi({"k": {}})
    assert json.loads(zhiwen(api, "ask", "?", "--json").stdout)["answer"] == "15天。[1]"
    lines = [json.loads(line) for line in zhiwen(api, "ask", "?", "--json", "--stream").stdout.splitlines()]
    assert [line["event"] for line in lines] == ["sources", "token", "token", "done"]


def test_answer_that_breaks_off_is_an_error() -> None:
    api = FakeApi({"k": {}})
    api.ask_events[2:] = [("error", {"code": "upstream-died", "detail": "The model server broke off.", "status": 502})]
    ended = zhiwen(api, "ask", "?")
    assert (ended.exit_code, ended.stderr) == (1, "Error: The model server broke off.\n")
    assert ended.stdout.startswith("15天\n")


def test_document_cannot_steer_the_terminal() -> None:
    api = FakeApi({"k": {}})
    api.ask_events[1:3] = [("token", {"text": "a\x1b]0;owned\x07b"})]
    assert "\x1b" not in zhiwen(api, "ask", "?").stdout


def test_square_brackets_are_no_markup() -> None:
    api = FakeApi({"k": {"d1": document("d1", "[bold]附件[/bold].txt")}})
    assert "[bold]附件[/bold].txt" in zhiwen(api, "docs", "list").stdout


def test_chinese_and_english_columns_align() -> None:
    api = FakeApi({"k": {"d1": document("d1", "员工手册.txt"), "d2": document("d2", "handbook.txt")}})
    rows = [line for line in zhiwen(api, "docs", "list").stdout.splitlines() if "queued" in line]
    assert len(rows) == 2
    assert len({cell_len(row.partition("queued")[0]) for row in rows}) == 1


def test_documents_are_found_by_name_too() -> None:
    api = FakeApi({"k": {"d1": document("d1", "a.txt"), "d2": document("d2", "年假.txt", status="ready")}})
    assert json.loads(zhiwen(api, "docs", "show", "年假.txt", "--json").stdout)["id"] == "d2"
    assert zhiwen(api, "docs", "delete", "年假.txt", "--yes").exit_code == 0
    assert list(api.bases["k"]) == ["d1"]


def test_document_that_is_not_there_is_named() -> None:
    done = zhiwen(FakeApi({"手册": {}}), "docs", "show", "没有.txt", "--kb", "手册")
    assert "There is no document with the id or the name 没有.txt in 手册." in done.stderr
    assert done.exit_code == 5


def test_rebuild_must_be_told_what_to_change() -> None:
    api = FakeApi({"手册": {}})
    done = zhiwen(api, "kb", "rebuild", "手册")
    assert (done.exit_code, api.requests) == (2, [])
    assert "--index-type" in done.stderr


def test_following_a_document_is_a_line_a_change() -> None:
    api = FakeApi({"k": {"d1": document("d1", "a.txt")}})
    lines = zhiwen(api, "docs", "show", "d1", "--follow", "--json").stdout.splitlines()
    assert json.loads(lines[-1])["status"] == "ready"


def test_status_ends_with_one_when_a_service_is_away() -> None:
    assert zhiwen(FakeApi({"k": {}}), "status").exit_code == 0
    ended = zhiwen(httpx.MockTransport(refusing), "status", "--json")
    assert ended.exit_code == 1
    assert {state["status"] for state in json.loads(ended.stdout)["services"].values()} == {"unreachable"}


def test_interrupt_ends_with_130() -> None:
    def interrupted(_request: httpx.Request) -> httpx.Response:
        raise KeyboardInterrupt

    ended = zhiwen(httpx.MockTransport(interrupted), "kb", "list")
    assert (ended.exit_code, ended.stderr) == (130, "Interrupted.\n")


def test_wrong_setting_is_one_sentence() -> None:
    ended = zhiwen(FakeApi(), "kb", "list", ZHIWEN_LOG_LEVEL="LOUD")
    assert (ended.exit_code, "ZHIWEN_LOG_LEVEL" in ended.stderr) == (2, True)


def test_keys_live_in_the_ledger(tmp_path: Path) -> None:
    folder = ("--data-dir", str(tmp_path / "data"))
    assert zhiwen(FakeApi(), "keys", "list", *folder).exit_code == 2
    made = json.loads(
        zhiwen(FakeApi(), "keys", "create", "--scope", "read", "--name", "门户", "--json", *folder).stdout
    )
    assert made["secret"].startswith("zw_")
    shown = zhiwen(FakeApi(), "keys", "list", *folder).stdout
    assert "门户" in shown
    assert made["secret"] not in shown
    assert zhiwen(FakeApi(), "keys", "revoke", made["id"], *folder).exit_code == 0
    [listed] = json.loads(zhiwen(FakeApi(), "keys", "list", "--json", *folder).stdout)["items"]
    assert listed["revoked"] is True
    assert zhiwen(FakeApi(), "keys", "revoke", "nope", *folder).exit_code == 5
    assert zhiwen(FakeApi(), "keys", "create", "--scope", "read", "--kb", "无", *folder).exit_code == 5


def test_usage_adds_up_the_days_of_each_key_and_model(tmp_path: Path) -> None:
    folder = ("--data-dir", str(tmp_path))
    assert zhiwen(FakeApi(), "usage", *folder).exit_code == 2
    ledger = open_ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    ledger.database.migrate()
    days = ("2026-01-30", "2026-01-31", "2026-02-01")
    ledger.usage.add([UsageRow(day, key, "qwen", 1, 0, 10, 5) for day in days for key in ("门户", "team-a")])
    ledger.close()
    days_asked = ("--since", "2026-01-31", "--until", "2026-02-01")
    told = json.loads(zhiwen(FakeApi(), "usage", *days_asked, "--json", *folder).stdout)
    sums = {"requests": 2, "unmetered": 0, "prompt_tokens": 20, "completion_tokens": 10}
    assert told["items"] == [{"key": key, "model": "qwen", **sums} for key in ("team-a", "门户")]
    assert told["total"] == {name: 2 * number for name, number in sums.items()}
    shown = zhiwen(FakeApi(), "usage", *days_asked, "--key", "门户", *folder).stdout
    lines = [line.split() for line in shown.splitlines()]
    assert [line for line in lines if line[:1] in (["门户"], ["total"], ["team-a"])] == [
        ["门户", "qwen", "2", "0", "20", "10"],
        ["total", "2", "0", "20", "10"],
    ]


@pytest.mark.parametrize(
    "wrong", [("--since", "yesterday"), ("--until", "2026-13-01"), ("--since", "2026-02-02", "--until", "2026-02-01")]
)
def test_usage_of_what_is_no_day_is_one_sentence(tmp_path: Path, wrong: tuple[str, ...]) -> None:
    ended = zhiwen(FakeApi(), "usage", *wrong, "--data-dir", str(tmp_path))
    assert (ended.exit_code, len(ended.stderr.splitlines())) == (2, 1)


def test_long_snippet_is_cut_by_columns_not_characters() -> None:
    api = FakeApi({"k": {}})
    api.ask_events[-1][1]["sources"] = [source(text="字" * 500)]
    try:
        last = zhiwen(api, "ask", "?").stdout.splitlines()[-1].strip()
    finally:
        api.ask_events[-1][1]["sources"] = [source()]
    assert last.endswith("…")
    assert cell_len(last) <= 180


def test_knowledge_base_that_outgrows_milvus_lite_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = open_ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    ledger.database.migrate()
    for name in ("small", "large"):
        base = new_base(ledger, name)
        add(ledger, base)
        index(ledger, base, chunks=3 if name == "large" else 2)
    monkeypatch.setattr(operations, "LITE_CHUNKS", 2)
    operations.warn_of_size(Output(), ledger)
    ledger.close()
    said = capsys.readouterr().err
    assert "large holds 3 chunks" in said
    assert "small" not in said
