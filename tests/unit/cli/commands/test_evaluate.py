"""`zhiwen eval` as a user sees it: what it asks, what it leaves behind, and which options go together."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import Result

from tests.unit.cli.commands.test_commands import zhiwen
from tests.unit.client.fake_api import FakeApi, document, problem

HANDBOOK = "员工手册.docx"


def written(path: Path, *rows: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture
def api() -> FakeApi:
    """A knowledge base `手册` with one document. Every answer is 15天, from that document."""
    return FakeApi(bases={"手册": {"d1": document("d1", HANDBOOK)}})


@pytest.fixture
def questions(tmp_path: Path) -> str:
    asked = [{"question": f"{n}年的员工有几天年假?", "document": HANDBOOK, "answers": ["15天"]} for n in range(60)]
    return written(tmp_path / "questions.jsonl", *asked, {"question": "木星有几个卫星?", "answerable": False})


def paths(api: FakeApi, method: str) -> list[str]:
    return [request.url.path for request in api.requests if request.method == method]


def test_a_base_of_ones_own_is_asked_and_stays(api: FakeApi, questions: str) -> None:
    done = zhiwen(api, "eval", "--questions", questions, "--kb", "手册", "--modes", "hybrid", "--json")
    assert done.exit_code == 0, done.stderr
    figures = json.loads(done.stdout)
    assert (figures["passages"], list(figures["modes"])) == (1, ["hybrid"])
    assert figures["modes"]["hybrid"]["recall_at_1"] == 1.0
    assert (figures["answers"]["asked"], figures["answers"]["holds_gold"]) == (61, 1.0)
    assert (figures["answers"]["unanswerable"], figures["answers"]["rightly_unsure"]) == (1, 0.0)
    assert "answers 61/61" in done.stderr
    assert paths(api, "DELETE") == []
    assert list(api.bases) == ["手册"]


def test_without_answers_nothing_is_asked(api: FakeApi, questions: str) -> None:
    done = zhiwen(api, "eval", "--questions", questions, "--kb", "手册", "--no-answers", "--json")
    assert json.loads(done.stdout)["answers"] is None
    assert not any(path.endswith("/ask") for path in paths(api, "POST"))


def test_tables_show_answers_and_reliability(api: FakeApi, questions: str, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    done = zhiwen(api, "eval", "--questions", questions, "--kb", "手册", "--report", str(page))
    assert done.exit_code == 0, done.stderr
    shown = ("nDCG@10", "not answerable", "hold the gold", "calibration error", "mean confidence", "0.9-1.0")
    assert [word for word in shown if word not in done.stdout] == []
    assert "Share of right answers over the confidence" in page.read_text(encoding="utf-8")


def test_a_folder_of_documents_is_loaded_and_removed_again(api: FakeApi, tmp_path: Path) -> None:
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / HANDBOOK).write_text("满十年的员工享有15天年假。", encoding="utf-8")
    row = {"question": "几天?", "document": HANDBOOK, "gold_text": "满十年的员工享有15天年假。", "answer": "15天"}
    asked = written(tmp_path / "q.jsonl", row)
    done = zhiwen(api, "eval", "--questions", asked, "--documents", str(folder), "--modes", "dense", "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["modes"]["dense"]["recall_at_1"] == 1.0
    assert json.loads(done.stdout)["answers"]["holds_gold"] == 1.0
    assert list(api.bases) == ["手册"]


def test_tuning_compares_and_says_when_nothing_is_better(api: FakeApi, questions: str) -> None:
    done = zhiwen(api, "eval", "--questions", questions, "--kb", "手册", "--tune")
    assert done.exit_code == 0, done.stderr
    assert "Nothing is better" in done.stdout
    assert {"dense_weight", "min_confidence", "MRR@10"} <= set(done.stdout.split())
    assert paths(api, "PATCH") == []
    weights = {json.loads(r.content).get("dense_weight") for r in api.requests if r.url.path.endswith("/search")}
    assert {None, 0.0, 1.0, 3.0} <= weights


class Weighing(FakeApi):
    """Finds nothing unless the dense half has a weight of at least 2, and takes changes."""

    def answer(self, request: httpx.Request) -> httpx.Response:
        if request.method == "PATCH":
            self.requests.append(request)
            return httpx.Response(200, json=self.base("手册"))
        answer = super().answer(request)
        if request.url.path.endswith("/search") and json.loads(request.content).get("dense_weight", 0) < 2:
            return httpx.Response(200, json={**answer.json(), "hits": []})
        return answer


def tuned(questions: str, *options: str) -> tuple[Weighing, Result]:
    api = Weighing(bases={"手册": {"d1": document("d1", HANDBOOK)}})
    return api, zhiwen(api, "eval", "--questions", questions, "--kb", "手册", "--tune", *options)


def test_tuning_stores_what_is_better(questions: str) -> None:
    api, done = tuned(questions)
    assert done.exit_code == 0, done.stderr
    assert "Stored with 手册: dense_weight" in done.stdout
    assert [json.loads(r.content) for r in api.requests if r.method == "PATCH"] == [{"dense_weight": 3.0}]


def test_dry_run_stores_nothing(questions: str) -> None:
    api, done = tuned(questions, "--dry-run", "--json")
    found = json.loads(done.stdout)
    assert (found["dense_weight"]["better"], found["dense_weight"]["value"], found["stored"]) == (True, 3.0, {})
    assert "PATCH" not in {request.method for request in api.requests}
    assert "Better, but not stored" in tuned(questions, "--dry-run")[1].stdout


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--modes", "hybrid,sparse"], "There is no search mode sparse"),
        (["--dry-run"], "--dry-run goes with --tune"),
        (["--tune", "--report", "r.html"], "leave out --report"),
        (["--hold-out", "0.5"], "go with --passages"),
        (["--passages", "PASSAGES", "--documents", "."], "not both"),
        (["--kb", "没有"], "There is no knowledge base named 没有"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    api: FakeApi, questions: str, tmp_path: Path, options: Sequence[str], says: str
) -> None:
    passages = written(tmp_path / "p.jsonl", {"id": "a", "text": "年假"})
    chosen = [passages if option == "PASSAGES" else option for option in options]
    done = zhiwen(api, "eval", "--questions", questions, *chosen)
    assert done.exit_code != 0
    assert says in " ".join(done.stderr.split())
    assert paths(api, "DELETE") == []


def test_a_service_that_knows_no_such_weight_is_named(questions: str) -> None:
    class Older(FakeApi):
        def answer(self, request: httpx.Request) -> httpx.Response:
            if request.content and b"dense_weight" in request.content:
                return problem(422, "invalid-request", "dense_weight: there is no such field.")
            return super().answer(request)

    api = Older(bases={"手册": {"d1": document("d1", HANDBOOK)}})
    done = zhiwen(api, "eval", "--questions", questions, "--kb", "手册", "--tune")
    assert done.exit_code != 0
    assert "there is no such field" in done.stderr
