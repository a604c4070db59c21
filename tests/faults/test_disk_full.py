"""A full disk: a clear error, nothing half-written acknowledged, and the services work again once there is space."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.process_stack import Rig, prose

MEBIBYTE = 1024 * 1024


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A rig whose data folder (ledger, originals and what arrives) is a small disk of its own."""
    folder = tmp_path_factory.mktemp("full")
    data = folder / "data"
    data.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(data)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here, which takes root: {mounted.stderr.strip()}")
    try:
        with Rig(folder).running() as rig:
            yield rig
    finally:
        subprocess.run(["umount", str(data)], check=True)


@pytest.fixture
def ballast(rig: Rig) -> Iterator[Path]:
    path = rig.data / "ballast"
    yield path
    path.unlink(missing_ok=True)


def leave(ballast: Path, free: int) -> None:
    """Fill the disk up to `free` bytes."""
    ballast.unlink(missing_ok=True)
    room = os.statvfs(ballast.parent)
    ballast.write_bytes(b"\0" * (room.f_bavail * room.f_frsize - free))


def test_no_room_for_a_file_is_507_and_nothing_of_it_stays(rig: Rig, ballast: Path) -> None:
    kb = rig.base()
    rig.upload(kb, {"before.txt": prose(20)})
    rig.all_ready(kb)
    before = rig.originals()
    leave(ballast, 2 * MEBIBYTE)
    big = {"big.txt": prose(60_000)[: 3 * MEBIBYTE]}
    for url, how in (("documents", "POST"), ("documents/by-name/big.txt", "PUT")):
        path = f"/v1/knowledge-bases/{kb}/{url}"
        refused = (
            rig.http.post(path, files={"file": ("big.txt", big["big.txt"])})
            if how == "POST"
            else rig.http.put(path, content=big["big.txt"])
        )
        assert (refused.status_code, refused.json()["code"]) == (507, "disk-full"), refused.text
    assert set(rig.documents(kb)) == {"before.txt"}
    assert rig.originals() == before
    rig.wait_for(lambda: not list((rig.data / "incoming").iterdir()), "what had arrived removed")
    rig.clean()
    ballast.unlink()
    rig.upload(kb, {"after.txt": prose(20, "after")})
    rig.all_ready(kb)
    rig.clean()


def test_no_room_for_the_second_copy_is_507(rig: Rig, ballast: Path) -> None:
    """The file arrives, but cannot be kept among the originals."""
    kb = rig.base()
    before = rig.originals()
    leave(ballast, 5 * MEBIBYTE)
    path = f"/v1/knowledge-bases/{kb}/documents/by-name/big.txt"
    refused = rig.http.put(path, content=prose(60_000, "copy")[: 3 * MEBIBYTE])
    assert (refused.status_code, refused.json()["code"]) == (507, "disk-full"), refused.text
    assert rig.documents(kb) == {}
    assert rig.originals() == before
    rig.clean()


def test_no_room_at_all_loses_nothing_that_was_acknowledged(rig: Rig, ballast: Path) -> None:
    kb = rig.base()
    rig.freeze_worker()
    rig.upload(kb, {f"{number}.txt": prose(5, str(number)) for number in range(10)})
    acknowledged = set(rig.documents(kb))
    leave(ballast, 0)
    rig.worker.thaw()
    refused = 0
    for number in range(30):
        response = rig.http.put(
            f"/v1/knowledge-bases/{kb}/documents/by-name/late-{number}.txt", content=prose(40, f"late {number}")
        )
        if response.status_code == 202:
            acknowledged.add(f"late-{number}.txt")
        else:
            refused += 1
            assert (response.status_code, response.json()["code"]) == (507, "disk-full"), response.text
    assert refused > 0
    ballast.unlink()
    documents = rig.all_ready(kb)
    assert set(documents) == acknowledged
    rig.clean()
