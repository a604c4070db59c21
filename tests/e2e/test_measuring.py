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
    ("年假", "满十年的员工每年享有十五天年假。", "满十年的员工有几天年假？"),
    ("报销", "出差的报销单须在三十天内交给财务部。", "报销单要在多少天内交？"),
    ("penguins", "Emperor penguins breed on the sea ice of Antarctica in winter.", "Where do emperor penguins breed?"),
    ("bridge", "The bridge over the Tay was rebuilt in 1887 after its collapse.", "When was the Tay bridge rebuilt?"),
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
    passages = [{"id": id, "text": text} for id, text, _ in FACTS]
    questions = [{"question": question, "passage_id": [id], "answerable": True} for id, _, question in FACTS]
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
    html = report.read_text(encoding="utf-8")
    assert "<svg" in html
    assert "R@1" in html
    assert "measured" not in zhiwen(stack, "kb", "list").stdout


def test_eval_shows_a_table(stack: Stack, files: list[str]) -> None:
    done = zhiwen(stack, "eval", *files, "--kb", "shown", "--hold-out", "0.5")
    assert done.returncode == 0, done.stderr
    assert all(word in done.stdout for word in ("hybrid", "dense", "full_text", "R@1", "nDCG@10", "AUROC"))


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
