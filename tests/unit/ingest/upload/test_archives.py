"""Zip archives: right names, nothing outside of the folder, limits that hold."""

from __future__ import annotations

import hashlib
import io
import stat
import zipfile
from pathlib import Path

import pytest

from zhiwen.common.errors import DocumentError
from zhiwen.ingest.upload.archives import ArchiveLimits, RefusedMember, unpack

MEBIBYTE = 1024 * 1024


def archive(folder: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    path = folder / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members:
            file.writestr(name, content, zipfile.ZIP_DEFLATED)
    return path


def unpacked(
    path: Path, *, max_files: int = 10, max_bytes: int = 10 * MEBIBYTE
) -> tuple[dict[str, bytes], dict[str, str]]:
    """Return what came out, and the codes of what was refused."""
    into = path.parent / "into"
    into.mkdir()
    refused: dict[str, str] = {}
    found = {}
    for member in unpack(path, into, ArchiveLimits(max_files, max_bytes, ratio=100)):
        if isinstance(member, RefusedMember):
            refused[member.name] = member.error.code
            continue
        assert member.path.parent == into
        found[member.name] = content = member.path.read_bytes()
        assert (member.bytes, member.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    return found, refused


def raw_name(path: Path, placeholder: bytes, name: bytes) -> Path:
    """Replace a member's name by bytes that zipfile itself would not write."""
    assert len(placeholder) == len(name)
    path.write_bytes(path.read_bytes().replace(placeholder, name))
    return path


def test_files_keep_folders_and_names(tmp_path: Path) -> None:
    path = archive(tmp_path, ("文档/甲.txt", b"1"), ("b.md", b"2"), ("empty/", b""))
    assert unpacked(path) == ({"文档/甲.txt": b"1", "b.md": b"2"}, {})


def test_folders_of_systems_and_dot_files_are_left_out(tmp_path: Path) -> None:
    path = archive(tmp_path, ("__MACOSX/._a.txt", b"x"), (".DS_Store", b"x"), ("a/.git/config", b"x"), ("a.txt", b"1"))
    assert unpacked(path) == ({"a.txt": b"1"}, {})


@pytest.mark.parametrize("encoding", ["gbk", "utf-8"])
def test_unflagged_chinese_names_are_decoded(tmp_path: Path, encoding: str) -> None:
    name = "季度报告（终稿）.txt"
    raw = name.encode(encoding)
    path = raw_name(archive(tmp_path, ("x" * len(raw), b"1")), b"x" * len(raw), raw)
    assert unpacked(path) == ({name: b"1"}, {})


def test_unflagged_western_names_stay_western(tmp_path: Path) -> None:
    raw = "résumé.txt".encode("cp437")
    path = raw_name(archive(tmp_path, ("x" * len(raw), b"1")), b"x" * len(raw), raw)
    assert unpacked(path)[0] == {"résumé.txt": b"1"}


@pytest.mark.parametrize("name", ["../evil.txt", "/etc/evil.txt", "a/../../evil.txt", "C:/evil.txt", "..\\evil.txt"])
def test_names_that_lead_outside_are_refused_and_others_go_on(tmp_path: Path, name: str) -> None:
    path = archive(tmp_path, (name, b"x"), ("a.txt", b"1"))
    found, refused = unpacked(path)
    assert found == {"a.txt": b"1"}
    assert list(refused.values()) == ["archive-unsafe-path"]
    assert {file.name for file in tmp_path.iterdir()} == {"a.zip", "into"}


def test_links_are_not_followed(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link.txt")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    assert unpacked(archive(tmp_path, (link, b"/etc/passwd"))) == ({}, {"link.txt": "archive-unsafe-path"})


def test_archives_inside_are_files_and_stay_closed(tmp_path: Path) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as file:
        file.writestr("deep.txt", "x")
    path = archive(tmp_path, ("inner.zip", inner.getvalue()), ("a.txt", b"1"))
    assert unpacked(path) == ({"inner.zip": inner.getvalue(), "a.txt": b"1"}, {})


def test_same_names_are_numbered(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = archive(tmp_path, ("a.txt", b"1"), ("a.txt", b"2"), ("b/a.txt", b"3"))
    assert unpacked(path)[0] == {"a.txt": b"1", "a (2).txt": b"2", "b/a.txt": b"3"}


def test_encrypted_and_damaged_members_do_not_fail_the_others(tmp_path: Path) -> None:
    path = archive(tmp_path, ("secret.txt", b"x"), ("broken.txt", bytes(range(256)) * 8), ("a.txt", b"1"))
    content = bytearray(path.read_bytes())
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    middle = content.index(b"broken.txt") + 40
    content[middle : middle + 20] = b"\xff" * 20
    path.write_bytes(content)
    assert unpacked(path) == ({"a.txt": b"1"}, {"secret.txt": "encrypted", "broken.txt": "corrupt"})


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("damage", [slice(0, 12), slice(40, 80)])
def test_damage_in_any_compression_is_the_members_own(tmp_path: Path, method: int, damage: slice) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("broken.txt", bytes(range(256)) * 8, method)
        file.writestr("a.txt", b"1")
    content = bytearray(path.read_bytes())
    begin = 30 + len("broken.txt")
    length = damage.stop - damage.start
    content[begin + damage.start : begin + damage.stop] = b"\xff" * length
    path.write_bytes(content)
    assert unpacked(path) == ({"a.txt": b"1"}, {"broken.txt": "corrupt"})


def test_errors_of_the_disk_are_not_the_members_fault(tmp_path: Path) -> None:
    path = archive(tmp_path, ("a.txt", b"1"))
    with pytest.raises(FileNotFoundError):
        list(unpack(path, tmp_path / "gone", ArchiveLimits(files=9, bytes=9, ratio=9)))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("x" + "/." * 100 + "/" + "/." * 60, "x"),
        ("a/" * 40 + "b" * 240 + "/" + "c" * 235 + ".txt", "c" * 235 + ".txt"),
        ("a/" * 40 + "b" * 239 + "/c", "c"),
        ("a/" * 40 + "b" * 100 + "../" + "c" * 130 + "/" + "d" * 104 + ".txt", "c" * 130 + "/" + "d" * 104 + ".txt"),
        ("a/" * 40 + "字" * 100 + ".txt", "字" * 78 + ".txt"),
    ],
)
def test_long_names_keep_their_end(tmp_path: Path, name: str, shown: str) -> None:
    assert unpacked(archive(tmp_path, (name, b"1"))) == ({shown: b"1"}, {})


def test_long_names_that_lead_outside_are_refused_for_their_beginning(tmp_path: Path) -> None:
    path = archive(tmp_path, ("../" + "a/" * 200 + "x.txt", b"1"), ("/" + "a/" * 200 + "y.txt", b"1"))
    found, refused = unpacked(path)
    assert found == {}
    assert list(refused.values()) == ["archive-unsafe-path"] * 2


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ([(f"{n}.txt", b"x") for n in range(11)], "archive-too-many-files"),
        ([("big.txt", bytes(range(256)) * 45_000)], "archive-too-large"),
        ([("bomb.txt", b"\0" * (9 * MEBIBYTE))], "archive-bomb"),
        ([(".hidden", b"x")], "empty-file"),
    ],
)
def test_limits(tmp_path: Path, members: list[tuple[str | zipfile.ZipInfo, bytes]], code: str) -> None:
    path = archive(tmp_path, *members)
    with pytest.raises(DocumentError) as caught:
        unpacked(path)
    assert caught.value.code == code
    assert list((tmp_path / "into").iterdir()) == []


def test_a_lie_about_the_size_does_not_pass_the_limits(tmp_path: Path) -> None:
    path = archive(tmp_path, ("bomb.txt", b"\0" * (9 * MEBIBYTE)))
    size = (9 * MEBIBYTE).to_bytes(4, "little")
    path.write_bytes(path.read_bytes().replace(size, (1000).to_bytes(4, "little")))
    found, refused = unpacked(path)
    assert all(len(content) <= 1000 for content in found.values())
    assert refused in ({}, {"bomb.txt": "corrupt"})


def test_what_is_no_archive_is_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(b"PK\x03\x04 but no more")
    with pytest.raises(DocumentError) as caught:
        unpacked(path)
    assert caught.value.code == "corrupt"
