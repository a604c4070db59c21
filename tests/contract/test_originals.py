"""Where uploaded bytes live: the same promises on disk and in an S3 bucket."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

import pytest

from tests.servers.ledgers import unique
from tests.servers.stores import free_port
from zhiwen.common.errors import NotFound, ServiceError, Unavailable
from zhiwen.common.originals import DiskOriginals, Originals, S3Originals, open_originals
from zhiwen.common.settings import CommonSettings


def s3(url: str, endpoint: str) -> S3Originals:
    return S3Originals(url, endpoint_url=endpoint, access_key="key", secret_key="secret", region="us-east-1")


@pytest.fixture(params=["disk", "s3", "s3-prefix"])
def originals(request: pytest.FixtureRequest, tmp_path: Path) -> Originals:
    if request.param == "disk":
        return DiskOriginals(tmp_path / "originals")
    prefix = "/a/prefix" if request.param == "s3-prefix" else ""
    return s3(f"s3://{unique('bucket')}{prefix}", request.getfixturevalue("s3_url"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "上传 (1).txt"
    path.write_bytes("原件\x00\xff".encode("latin-1", "replace") + bytes(range(256)) * 4096)
    return path


def sha_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_bytes_come_back_as_they_were(originals: Originals, source: Path) -> None:
    sha = sha_of(source)
    assert not originals.exists(sha)
    for _ in range(2):
        originals.put(sha, source)
    assert originals.exists(sha)
    with originals.open_file(sha) as path:
        assert path.read_bytes() == source.read_bytes()
    assert source.exists()


def test_what_is_removed_is_gone_and_removing_nothing_is_fine(originals: Originals, source: Path) -> None:
    sha = sha_of(source)
    originals.put(sha, source)
    for _ in range(2):
        originals.remove(sha)
    assert not originals.exists(sha)
    with pytest.raises(NotFound, match="original-missing"), originals.open_file(sha):
        pass
    originals.put(sha, source)
    assert originals.exists(sha)


def test_list_names_everything_and_nothing_else(originals: Originals, tmp_path: Path) -> None:
    originals.ping()
    assert list(originals.list()) == []
    expected = set()
    for number in range(5):
        path = tmp_path / str(number)
        path.write_text(str(number))
        expected.add(sha_of(path))
        originals.put(sha_of(path), path)
    assert sorted(originals.list()) == sorted(expected)


def test_what_others_keep_beside_the_originals_is_not_listed(originals: Originals, source: Path) -> None:
    sha = sha_of(source)
    originals.put(sha, source)
    for name in ("backup.tar", "of/another/app", f"nested/{sha}", f"{sha}.bak", f"0{sha}", sha.upper(), "总" * 64):
        if isinstance(originals, S3Originals):
            originals.client.put_object(Bucket=originals.bucket, Key=originals.prefix + name, Body=b"not ours")
        else:
            assert isinstance(originals, DiskOriginals)
            path = originals.root / sha[:2] / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("not ours")
    assert list(originals.list()) == [sha]


def test_leftovers_of_a_put_that_died_are_removed_when_they_are_old(tmp_path: Path, source: Path) -> None:
    originals = DiskOriginals(tmp_path / "originals")
    originals.put(sha_of(source), source)
    original = originals.root / sha_of(source)[:2] / sha_of(source)
    old, new = original.parent / ".0f.part", original.parent / ".1f.part"
    for path, seconds in ((original, 1000), (old, 1000), (new, 2000)):
        path.touch()
        os.utime(path, (seconds, seconds))
    originals.remove_leftovers(before=2000)
    assert [path.exists() for path in (original, old, new)] == [True, False, True]


def test_same_bytes_from_several_threads_are_one_original(originals: Originals, source: Path) -> None:
    sha = sha_of(source)
    errors: list[Exception] = []

    def put() -> None:
        try:
            originals.put(sha, source)
        except ServiceError as exc:
            errors.append(exc)

    threads = [threading.Thread(target=put) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert list(originals.list()) == [sha]
    with originals.open_file(sha) as path:
        assert sha_of(path) == sha


def test_store_that_cannot_be_used_says_so(tmp_path: Path, source: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for originals in (DiskOriginals(tmp_path / "file" / "originals"), s3("s3://b", f"http://127.0.0.1:{free_port()}")):
        with pytest.raises(Unavailable, match="storage-unavailable"):
            originals.ping()
        with pytest.raises(Unavailable, match="storage-unavailable"):
            originals.put(sha_of(source), source)


def test_nothing_half_written_is_ever_an_original(tmp_path: Path) -> None:
    originals = DiskOriginals(tmp_path / "originals")
    missing = tmp_path / "missing"
    with pytest.raises(Unavailable):
        originals.put("ab" * 32, missing)
    assert list(originals.list()) == []
    assert [path for path in (tmp_path / "originals").rglob("*") if path.is_file()] == []


def test_settings_choose_the_store(tmp_path: Path) -> None:
    assert isinstance(open_originals(CommonSettings(data_dir=tmp_path)), DiskOriginals)
    chosen = open_originals(CommonSettings(originals_url="s3://bucket/a/b/"))
    assert isinstance(chosen, S3Originals)
    assert (chosen.bucket, chosen.prefix) == ("bucket", "a/b/")
