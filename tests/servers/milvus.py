"""The engines beside the embedded default that the store's contract is held against, each installed in a venv of its
own: the real server of the PyPI package `milvus` 2.3.5, and Milvus Lite 3.2.2. Our own client talks to all of them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.servers.loopback_only import in_namespace
from tests.servers.stores import Server, free_port, socket_path
from zhiwen.cli.supervisor import answers_on

CACHE = Path(__file__).parents[2] / ".cache"
SERVER_VENV = CACHE / "milvus-2.3.5"
LITE_VENV = CACHE / "milvus-lite-3.2.2"
ENVIRONMENTS = {SERVER_VENV: ("milvus==2.3.5",), LITE_VENV: ("milvus-lite==3.2.2", "pymilvus==3.0.2")}
ROOT_TOKEN = "root:Milvus"
LITE_READY = "import socket,sys; socket.create_connection(('127.0.0.1', int(sys.argv[1])), 1)"

# Made for one small collection at a time: it looks more often than a production server has to, gives up its session
# soon after a kill, and builds the index of a segment that has 64 rows. Milvus reads its settings from these, too.
FAST = {
    "COMMON_SESSION_TTL": "5",
    "QUERYCOORD_CHECKINTERVAL": "50",
    "QUERYCOORD_CHECKCHANNELINTERVAL": "50",
    "QUERYCOORD_CHECKSEGMENTINTERVAL": "50",
    "QUERYCOORD_DISTPULLINTERVAL": "50",
    "PROXY_TIMETICKINTERVAL": "50",
    "ROOTCOORD_MINSEGMENTSIZETOENABLEINDEX": "64",
    "INDEXCOORD_SEGMENT_MINSEGMENTNUMROWSTOENABLEINDEX": "64",
}


def milvus_server(folder: Path) -> Server:
    """Describe a Milvus 2.3.5 with users and tokens on and its data in `folder`; skips where it cannot run.

    It binds every address, so it runs in a network namespace of its own, and a unix socket leads in.
    """
    _needs_namespaces()
    program = _installed(SERVER_VENV, "milvus-server")
    _share_unpacked(folder)
    path = socket_path("milvus.sock")
    return Server(
        url=f"unix:{path}",
        command=in_namespace(
            [
                *(sys.executable, "-m", "tests.servers.loopback_only", "--socket", str(path), "--port", "19530"),
                *("--health", "http://127.0.0.1:9091/healthz", "--", str(program), "--data", str(folder)),
                *("--authorization-enabled", "true"),
            ]
        ),
        ready=lambda: answers_on(path),
        environment={**os.environ, **FAST, "PYTHONPATH": str(CACHE.parent)},
        cleanup=lambda: path.unlink(missing_ok=True),
    )


def milvus_lite_3_server(folder: Path) -> Server:
    """Describe a Milvus Lite 3.2.2 with its data in `folder`.

    One worker thread: with several it lost acknowledged rows after `kill -9` in every trial.
    """
    port = free_port()
    program = _installed(LITE_VENV, "milvus-lite")
    return Server(
        url=f"http://127.0.0.1:{port}",
        command=[
            *(str(program), "server", "--data-dir", str(folder), "--host", "127.0.0.1", "--port", str(port)),
            *("--max-workers", "1"),
        ],
        ready=lambda: _succeeds([sys.executable, "-c", LITE_READY, str(port)]),
    )


def prepare(venv: Path) -> None:
    """Make the environment of an engine, once."""
    if (venv / "bin/python").exists() and (venv / "ready").exists():
        return
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    pip = [str(venv / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *ENVIRONMENTS[venv]], check=True)
    (venv / "ready").touch()


def _installed(venv: Path, program: str) -> Path:
    if not (venv / "ready").exists():
        pytest.skip(f"{venv.name} is not installed; run: {Path(sys.executable).name} -m tests.servers.milvus")
    return venv / "bin" / program


def _needs_namespaces() -> None:
    if not _succeeds(in_namespace(["true"])):
        pytest.skip("Milvus needs a network namespace: util-linux's unshare, and root or user namespaces")


def _succeeds(command: Sequence[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _share_unpacked(folder: Path) -> None:
    """Let the server unpack its 250 MB once into the cache, not once per data folder."""
    unpacked = SERVER_VENV / "unpacked"
    unpacked.mkdir(exist_ok=True)
    if not (folder / "bin").is_symlink():
        (folder / "bin").symlink_to(unpacked)


if __name__ == "__main__":
    for environment in ENVIRONMENTS:
        prepare(environment)
