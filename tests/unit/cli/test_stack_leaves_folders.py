"""Stopping what never started removes nothing: a refused `zhiwen up` once emptied the folder it was called from."""

from __future__ import annotations

from pathlib import Path

import pytest

from zhiwen.cli.stack import Stack
from zhiwen.cli.supervisor import lock_folder
from zhiwen.common.errors import ConfigurationError


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a file in it that must stay."""
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "precious").write_text("stays")
    monkeypatch.chdir(folder)
    assert Path.cwd() == folder
    return folder


def test_stopping_what_never_started_removes_nothing(here: Path, tmp_path: Path) -> None:
    Stack(tmp_path / "data").stop()
    assert (here / "precious").read_text() == "stays"


def test_refused_start_removes_nothing(here: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    stack = Stack(data)
    with lock_folder(data), pytest.raises(ConfigurationError, match="already runs"):
        stack.start()
    stack.stop()
    assert (here / "precious").read_text() == "stays"
