"""Which files are uploaded for paths, folders and bytes, and under which names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from zhiwen.client import BytesFile, LocalFile
from zhiwen.client.files import named_source, sources


def test_folders_are_walked_and_hidden_files_left_out(tmp_path: Path) -> None:
    for name in ("b.txt", "子/a.txt", ".git/config", "子/.DS_Store"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    assert [file.name for file in sources([tmp_path])] == ["b.txt", "子/a.txt"]
    assert [file.name for file in sources([str(tmp_path / "子" / "a.txt")])] == ["a.txt"]


def test_bytes_have_the_name_that_is_given() -> None:
    assert sources([("目录/a.txt", b"12"), BytesFile("b.txt", b"")]) == [
        BytesFile("目录/a.txt", b"12"),
        BytesFile("b.txt", b""),
    ]


def test_same_file_named_twice_is_one(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("1")
    assert len(sources([tmp_path, tmp_path / "a.txt"])) == 1


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(ValueError, match=r"would both be the document a\.txt"):
        sources([tmp_path / "a.txt", ("a.txt", b"y")])


def test_path_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        sources([tmp_path / "nope"])


@pytest.mark.parametrize("wrong", [b"bytes", 1, ("a.txt", "text")], ids=repr)
def test_what_is_no_file_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match="A file is a path"):
        sources([wrong])


def test_text_is_no_content() -> None:
    content: Any = "text"
    with pytest.raises(TypeError, match=r"bytes, or a Path"):
        named_source("a.txt", content)


def test_name_of_an_old_chinese_system_becomes_text(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("x")
    assert LocalFile.at(path, "年假.txt".encode("gb18030").decode("utf-8", "surrogateescape")).name == "年假.txt"


def test_single_path_is_no_list_of_its_letters() -> None:
    with pytest.raises(TypeError, match="in a list"):
        sources("a.txt")
