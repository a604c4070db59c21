"""The stores that tests run against: real servers, each a process of its own, on 127.0.0.1 or a unix socket."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import psycopg
import pytest

from zhiwen.cli.stack import milvus_lite_binary, redis_binary
from zhiwen.cli.supervisor import answers_http, answers_on

READY_SECONDS = 60.0


@dataclass
class Server:
    """A server that tests may kill and start again; `url` stays."""

    url: str
    command: Sequence[str]
    ready: Callable[[], bool]
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    cleanup: Callable[[], None] = lambda: None
    process: subprocess.Popen[bytes] | None = None
    log: Path = Path(os.devnull)

    def start(self) -> None:
        """Start and wait until it answers."""
        self.launch()
        self.wait_ready()

    def launch(self) -> None:
        """Start without waiting."""
        self.cleanup()
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(self.command, env=dict(self.environment), stdout=output, stderr=output)

    def wait_ready(self) -> None:
        """Wait until it answers."""
        wait_until(self._ready_or_dead, READY_SECONDS, f"{self.command[0]} did not answer")

    def _ready_or_dead(self) -> bool:
        if self.process is not None and (code := self.process.poll()) is not None:
            pytest.fail(f"{self.command} ended with {code}; its log is {self.log}")
        return self.ready()

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def freeze(self) -> None:
        """SIGSTOP; returns once no thread of it runs any more."""
        os.kill(self.pid, signal.SIGSTOP)
        wait_until(lambda: psutil.Process(self.pid).status() == psutil.STATUS_STOPPED, 5, "it did not stop")

    def thaw(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End the process with SIGTERM or SIGKILL, and wait until it is gone."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def kill(self) -> None:
        """`kill -9`."""
        self.stop(signal.SIGKILL)


def wait_until(condition: Callable[[], bool], seconds: float, otherwise: str) -> None:
    """Return once `condition` holds; fail the test when it does not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"after {seconds:g} s: {otherwise}")
        time.sleep(0.05)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(server: Server) -> Iterator[Server]:
    """Run a server for the length of the block."""
    server.start()
    try:
        yield server
    finally:
        server.stop()


def socket_path(name: str) -> Path:
    """Return a path short enough for a unix socket."""
    return Path(tempfile.mkdtemp(prefix="zw-")) / name


def milvus_lite_server(folder: Path) -> Server:
    """Describe a Milvus Lite server with its data in `folder`."""
    path = socket_path("milvus.sock")
    binary = milvus_lite_binary()
    return Server(
        url=f"unix:{path}",
        command=[str(binary), str(folder / "milvus.db"), f"unix:{path}", "ERROR"],
        ready=lambda: answers_on(path),
        environment={**os.environ, "LD_LIBRARY_PATH": str(binary.parent), "GLOG_logtostderr": "1"},
        cleanup=lambda: path.unlink(missing_ok=True),
    )


def redis_server_in(folder: Path) -> Server:
    """Describe a Redis with its append-only file in `folder`."""
    path = socket_path("redis.sock")
    return Server(
        url=f"unix://{path}",
        command=[
            *(redis_binary(), "--port", "0", "--unixsocket", str(path), "--dir", str(folder)),
            *("--appendonly", "yes", "--save", ""),
        ],
        ready=lambda: answers_on(path),
        cleanup=lambda: path.unlink(missing_ok=True),
    )


@contextlib.contextmanager
def milvus_lite(folder: Path) -> Iterator[Server]:
    """Run Milvus Lite."""
    with running(milvus_lite_server(folder)) as server:
        yield server


@contextlib.contextmanager
def redis_server(folder: Path) -> Iterator[Server]:
    """Run Redis."""
    with running(redis_server_in(folder)) as server:
        yield server


def postgres_programs() -> Path:
    """Return the folder of PostgreSQL's programs; skips the test where there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or [
        Path(path) for path in [shutil.which("initdb")] if path
    ]
    if not found:
        pytest.skip("PostgreSQL is not installed; on Debian: apt-get install postgresql")
    return found[-1].parent


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[Server]:
    """Run PostgreSQL with a new cluster; as its own user when we are root, which it refuses to be."""
    programs = postgres_programs()
    port = free_port()
    as_user: list[str] = []
    if os.geteuid() == 0:
        folder = Path(tempfile.mkdtemp(prefix="zw-pg-"))
        shutil.chown(folder, "postgres")
        as_user = ["runuser", "-u", "postgres", "--"]
    data = folder / "data"
    initdb = [*as_user, str(programs / "initdb"), "-D", str(data), "-U", "zhiwen", "-A", "trust", "--no-sync"]
    subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")
    url = f"postgresql://zhiwen@127.0.0.1:{port}/postgres"
    server = Server(
        url=url,
        command=[
            *as_user,
            *(str(programs / "postgres"), "-D", str(data), "-p", str(port), "-k", str(folder)),
            *("-c", "listen_addresses=127.0.0.1", "-c", "max_connections=200"),
        ],
        ready=lambda: _postgres_answers(url),
    )
    with running(server):
        yield server


def _postgres_answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def new_database(server_url: str, name: str) -> str:
    """Create a database on a PostgreSQL server and return its URL."""
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
    return f"{server_url.rsplit('/', 1)[0]}/{name}"


@contextlib.contextmanager
def moto_s3() -> Iterator[Server]:
    """Run moto's S3 server."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    server = Server(
        url=url,
        command=[sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        ready=lambda: answers_http(f"{url}/moto-api/"),
    )
    with running(server):
        yield server
