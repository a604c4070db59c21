"""`zhiwen eval` and `zhiwen kb recall` against running services."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from zhiwen.cli.stack import Stack

FACTS = [
    ("年假", "满十年的员工每年享有十五天年假。", "满十年的员工有几天年假？", "十五天"),
    ("报销", "出差的报销单须在三十天内交给财务部。", "报销单要在多少天内交？", "三十天"),
    (
        *("penguins", "Emperor penguins breed on the sea ice of Antarctica in winter."),
        *("Where do emperor penguins breed?", "on the sea ice"),
    ),
    (
        "bridge",
        "The bridge over the Tay was rebuilt in 1887 after its collapse.",
        "When was the Tay bridge rebuilt?",
        "1887",
    ),
]
NOWHERE = "How many moons has Jupiter?"


def zhiwen(stack: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **{f"ZHIWEN_{name.upper()}_URL": url for name, url in stack.addresses.items()}}
    command = [sys.executable, "-m", "zhiwen.cli.main", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def written(path: Path, rows: Sequence[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """The options for passages, questions and distractors. One distractor has the text of a passage."""
    passages = [{"id": id, "text": text} for id, text, _, _ in FACTS]
    questions: list[dict[str, Any]] = [
        {"question": question, "passage_id": [id], "answerable": True, "answers": [answer]}
        for id, _, question, answer in FACTS
    ]
    questions.append({"question": NOWHERE, "passage_id": [], "answerable": False})
    others = [{"id": "x", "text": FACTS[2][1]}, {"id": "y", "text": "Nothing of the kind is said here."}]
    named: dict[str, list[dict[str, Any]]] = {"passages": passages, "questions": questions, "distractors": others}
    return [part for name, rows in named.items() for part in (f"--{name}", written(tmp_path / f"{name}.jsonl", rows))]


def test_eval_measures_all_modes_refusal_and_latency_and_leaves_nothing(
    stack: Stack, files: list[str], tmp_path: Path
) -> None:
    report = tmp_path / "report.html"
    done = zhiwen(stack, "eval", *files, "--kb", "measured", "--report", str(report), "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["passages"] == 5  # the distractor with a passage's text is no other passage
    assert set(figures["modes"]) == {"hybrid", "dense", "full_text"}
    assert figures["modes"]["hybrid"]["recall_at_1"] == 1.0
    assert figures["modes"]["hybrid"]["p99_ms"] >= figures["modes"]["hybrid"]["p50_ms"] > 0
    assert figures["refusal"] == {
        "answerable": 4,
        "unanswerable": 1,
        "rightly_refused": 1.0,
        "wrongly_refused": 0.0,
        "auroc": 1.0,
    }
    answers = figures["answers"]
    assert (answers["asked"], answers["answerable"], answers["with_gold"]) == (5, 4, 4)
    assert (answers["holds_gold"], answers["cites_right"], answers["falsely_refused"]) == (1.0, 1.0, 0.0)
    assert answers["rightly_unsure"] == 1.0
    assert sum(found["questions"] for found in answers["reliability"]) == 5
    html = report.read_text(encoding="utf-8")
    assert "<svg" in html
    assert "R@1" in html
    assert "measured" not in zhiwen(stack, "kb", "list").stdout


def test_eval_shows_a_table(stack: Stack, files: list[str]) -> None:
    done = zhiwen(stack, "eval", *files, "--kb", "shown", "--hold-out", "0.5")
    assert done.returncode == 0, done.stderr
    assert all(word in done.stdout for word in ("hybrid", "dense", "full_text", "R@1", "nDCG@10", "AUROC"))


def test_eval_asks_a_knowledge_base_that_is_there_and_leaves_it(stack: Stack, tmp_path: Path) -> None:
    folder = tmp_path / "documents"
    folder.mkdir()
    for name, text, _, _ in FACTS:
        (folder / f"{name}.md").write_text(text, encoding="utf-8")
    asked = [{"question": question, "document": f"{name}.md", "answers": [gold]} for name, _, question, gold in FACTS]
    questions = written(tmp_path / "own.jsonl", [*asked, {"question": NOWHERE, "answerable": False}])
    assert zhiwen(stack, "kb", "create", "own").returncode == 0
    assert zhiwen(stack, "add", str(folder), "--kb", "own").returncode == 0
    done = zhiwen(stack, "eval", "--kb", "own", "--questions", questions, "--json")
    assert done.returncode == 0, done.stderr
    loaded = zhiwen(stack, "eval", "--documents", str(folder), "--kb", "loaded", "--questions", questions, "--json")
    assert loaded.returncode == 0, loaded.stderr
    for output in (done.stdout, loaded.stdout):
        figures = json.loads(output)
        assert (figures["passages"], figures["modes"]["hybrid"]["recall_at_1"]) == (4, 1.0)
        assert figures["answers"]["holds_gold"] == 1.0
    names = zhiwen(stack, "kb", "list").stdout
    assert "own" in names
    assert "loaded" not in names
    assert zhiwen(stack, "kb", "delete", "own", "--yes").returncode == 0


def test_tuning_compares_stores_what_is_better_and_leaves_the_documents(stack: Stack, tmp_path: Path) -> None:
    files = {f"{n}.md": f"第{n}号仓库由{chr(0x4E00 + 7 * n)}师傅看管，钥匙在{n}号柜。" for n in range(10, 60)}
    folder = tmp_path / "documents"
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    asked = [{"question": f"{Path(name).stem}号仓库的钥匙在哪？", "document": name} for name in files]
    questions = written(tmp_path / "own.jsonl", [*asked, *({"question": NOWHERE, "answerable": False},) * 2])
    assert zhiwen(stack, "kb", "create", "tuned").returncode == 0
    assert zhiwen(stack, "add", str(folder), "--kb", "tuned").returncode == 0
    done = zhiwen(stack, "eval", "--kb", "tuned", "--questions", questions, "--tune", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["knowledge_base"], found["choosing"] + found["testing"]) == ("tuned", 52)
    changes = {name: found[name] for name in ("dense_weight", "min_confidence")}
    assert found["stored"] == {name: change["value"] for name, change in changes.items() if change["better"]}
    shown = json.loads(zhiwen(stack, "kb", "show", "tuned", "--json").stdout)
    assert {name: shown.get(name) for name in found["stored"]} == found["stored"]
    assert shown["documents"] == {"ready": 50}
    assert zhiwen(stack, "kb", "delete", "tuned", "--yes").returncode == 0


def test_recall_of_a_knowledge_base_is_reported(stack: Stack, files: list[str]) -> None:
    assert zhiwen(stack, "eval", *files, "--kb", "kept", "--keep").returncode == 0
    shown = json.loads(zhiwen(stack, "kb", "recall", "kept", "--json").stdout)
    assert (shown["chunks"], shown["queries"], shown["k"], shown["recall"]) == (5, 5, 10, 1.0)
    assert shown["index"]["type"] == "AUTOINDEX"
    table = zhiwen(stack, "kb", "recall", "kept", "--queries", "3")
    assert table.returncode == 0, table.stderr
    assert "1.0" in table.stdout
    wrong = zhiwen(stack, "kb", "recall", "kept", "--search-params", '{"ef": 8}')
    assert wrong.returncode != 0
    assert "ef" in wrong.stderr
    assert zhiwen(stack, "kb", "recall", "none").returncode != 0
    others = zhiwen(stack, "eval", *files, "--kb", "kept", "--keep", "--hold-out", "0.5")
    assert others.returncode != 0
    assert "kept holds other passages than these" in " ".join(others.stderr.split())
    assert zhiwen(stack, "eval", *files, "--kb", "kept", "--keep").returncode == 0
    assert zhiwen(stack, "kb", "delete", "kept", "--yes").returncode == 0
