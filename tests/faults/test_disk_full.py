"""A full disk: a clear error, nothing half-written acknowledged, and the services work again once there is space."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.process_stack import ProcessStack, prose

MEBIBYTE = 1024 * 1024


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessStack]:
    """A stack whose data folder (ledger, originals and what arrives) is a small disk of its own."""
    folder = tmp_path_factory.mktemp("full")
    data = folder / "data"
    data.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(data)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here, which takes root: {mounted.stderr.strip()}")
    try:
        with ProcessStack(folder).running() as stack:
            yield stack
    finally:
        subprocess.run(["umount", str(data)], check=True)


@pytest.fixture
def ballast(stack: ProcessStack) -> Iterator[Path]:
    path = stack.data / "ballast"
    yield path
    path.unlink(missing_ok=True)


def leave(ballast: Path, free: int) -> None:
    """Fill the disk up to `free` bytes."""
    ballast.unlink(missing_ok=True)
    room = os.statvfs(ballast.parent)
    ballast.write_bytes(b"\0" * (room.f_bavail * room.f_frsize - free))


def test_no_room_for_a_file_is_507_and_nothing_of_it_stays(stack: ProcessStack, ballast: Path) -> None:
    kb = stack.base()
    stack.upload(kb, {"before.txt": prose(20)})
    stack.all_ready(kb)
    before = stack.originals()
    leave(ballast, 2 * MEBIBYTE)
    big = {"big.txt": prose(60_000)[: 3 * MEBIBYTE]}
    for url, how in (("documents", "POST"), ("documents/by-name/big.txt", "PUT")):
        path = f"/v1/knowledge-bases/{kb}/{url}"
        refused = (
            stack.http.post(path, files={"file": ("big.txt", big["big.txt"])})
            if how == "POST"
            else stack.http.put(path, content=big["big.txt"])
        )
        assert (refused.status_code, refused.json()["code"]) == (507, "disk-full"), refused.text
    assert set(stack.documents(kb)) == {"before.txt"}
    assert stack.originals() == before
    stack.wait_for(lambda: not list((stack.data / "incoming").iterdir()), "what had arrived removed")
    stack.clean()
    ballast.unlink()
    stack.upload(kb, {"after.txt": prose(20, "after")})
    stack.all_ready(kb)
    stack.clean()


def test_no_room_for_the_second_copy_is_507(stack: ProcessStack, ballast: Path) -> None:
    """The file arrives, but cannot be kept among the originals."""
    kb = stack.base()
    before = stack.originals()
    leave(ballast, 5 * MEBIBYTE)
    path = f"/v1/knowledge-bases/{kb}/documents/by-name/big.txt"
    refused = stack.http.put(path, content=prose(60_000, "copy")[: 3 * MEBIBYTE])
    assert (refused.status_code, refused.json()["code"]) == (507, "disk-full"), refused.text
    assert stack.documents(kb) == {}
    assert stack.originals() == before
    stack.clean()


def test_no_room_at_all_loses_nothing_that_was_acknowledged(stack: ProcessStack, ballast: Path) -> None:
    kb = stack.base()
    stack.freeze_worker()
    stack.upload(kb, {f"{number}.txt": prose(5, str(number)) for number in range(10)})
    acknowledged = set(stack.documents(kb))
    leave(ballast, 0)
    stack.worker.thaw()
    refused = 0
    for number in range(30):
        response = stack.http.put(
            f"/v1/knowledge-bases/{kb}/documents/by-name/late-{number}.txt", content=prose(40, f"late {number}")
        )
        if response.status_code == 202:
            acknowledged.add(f"late-{number}.txt")
        else:
            refused += 1
            assert (response.status_code, response.json()["code"]) == (507, "disk-full"), response.text
    assert refused > 0
    ballast.unlink()
    documents = stack.all_ready(kb)
    assert set(documents) == acknowledged
    stack.clean()
