"""Adding files on the command line: which files are meant, their progress, and the messages."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.unit.client.fake_api import document
from zhiwen.cli.adding import Stages, collect, counts
from zhiwen.cli.output import Output, Silent
from zhiwen.cli.values import Usage
from zhiwen.client import AddedDocument, DocumentEvent, DocumentOut, DocumentStatus


def seen(id: str, status: str, **progress: Any) -> DocumentEvent:
    shown = document(id, f"{id}.txt", status=status) | ({"progress": progress} if progress else {})
    return DocumentEvent.of(DocumentOut.model_validate(shown))


def test_collect_walks_folders_and_leaves_hidden_files_out(tmp_path: Path) -> None:
    for name in ("b.txt", "子/a.txt", ".git/config", "子/.DS_Store"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    assert [file.name for file in collect([tmp_path])] == ["b.txt", "子/a.txt"]
    assert [file.name for file in collect([tmp_path / "子" / "a.txt"])] == ["a.txt"]


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text(name)
    with pytest.raises(Usage, match=r"would both be the document a\.txt"):
        collect([tmp_path / "x", tmp_path / "y"])


def test_path_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Usage, match="does not exist"):
        collect([tmp_path / "nope"])


def test_document_in_the_middle_of_a_stage_counts_for_its_part() -> None:
    stages = Stages()
    stages.note(seen("d1", "embedding", stage="embedding", done=5, total=10))
    stages.note(seen("d2", "failed", stage="parsing", done=0, total=0))
    assert stages.passed == {"parsing": 2, "embedding": 1.5, "indexing": 1}


def test_document_counts_once_however_often_it_changes() -> None:
    stages = Stages()
    for status in ("queued", "parsing", "embedding"):
        stages.note(seen("d1", status))
    assert stages.passed == {"parsing": 1, "embedding": 0, "indexing": 0}
    stages.note(DocumentEvent("d1", DocumentStatus.DELETED))
    assert stages.passed == {"parsing": 1, "embedding": 1, "indexing": 1}


def test_counts_name_every_outcome() -> None:
    assert counts([]) == {"created": 0, "replaced": 0, "unchanged": 0, "duplicate": 0, "failed": 0, "rejected": 0}
    assert counts([AddedDocument(name="a", outcome="cancelled")])["cancelled"] == 1


def test_waiting_and_standing_still_are_said_in_a_sentence() -> None:
    said = io.StringIO()
    watcher = Silent(Output(err=Console(file=said, width=200)))
    watcher.waiting("Too many documents are waiting.", 30.0)
    watcher.stalled(30.0)
    assert said.getvalue().splitlines() == [
        "Too many documents are waiting. Trying again in 30 s.",
        "No document made progress for 30 s: is the worker running?",
    ]
