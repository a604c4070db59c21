"""Start and stop the servers of the tests, each a process of its own on a free port of 127.0.0.1."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class ReceivedRequest:
    """A request as the fake server got it; `body` are the exact bytes."""

    method: str
    path: str
    headers: Mapping[str, str]  # names in lower case
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class FakeOpenAI:
    """A running fake model server: `base_url` ends in /v1."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.base_url = f"http://127.0.0.1:{port}/v1"
        self._control = f"http://127.0.0.1:{port}"
        self._http = httpx.Client(timeout=10)

    def script(self, *steps: Mapping[str, Any] | str) -> None:
        """Say what to do next: names or full steps, one per request, the last one for good."""
        full = [{"behaviour": step} if isinstance(step, str) else dict(step) for step in steps]
        self._http.post(f"{self._control}/_script", json=full).raise_for_status()

    def requests(self) -> list[ReceivedRequest]:
        """Return the model calls received so far (health checks do not count)."""
        return [
            ReceivedRequest(
                item["method"],
                item["path"],
                {name.lower(): value for name, value in item["headers"]},
                base64.b64decode(item["body_base64"]),
            )
            for item in self.state()["items"]
        ]

    def state(self) -> dict[str, Any]:
        """Return what `GET /_requests` says: items, cancelled, open, most_open."""
        response = self._http.get(f"{self._control}/_requests")
        return dict(response.raise_for_status().json())

    def forget(self) -> None:
        """Back to the default behaviour, nothing received."""
        self._http.delete(f"{self._control}/_requests").raise_for_status()

    def close(self) -> None:
        self._http.close()


@contextlib.contextmanager
def fake_openai(name: str = "fake", port: int = 0) -> Iterator[FakeOpenAI]:
    """Run a fake model server for the length of the block."""
    command = [sys.executable, "-m", "tests.servers.fake_openai", "--name", name, "--port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    server: FakeOpenAI | None = None
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, "the fake server did not start"
        server = FakeOpenAI(json.loads(line)["port"])
        yield server
    finally:
        if server is not None:
            server.close()
        stop(process)


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def service(
    command: Sequence[str], env: Mapping[str, str], ready_url: str, log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a service until the end of the block; it has started once `ready_url` answers. Its log goes to `log`."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("ZHIWEN_")}
    with log.open("wb") as out:
        process = subprocess.Popen(list(command), cwd=ROOT, env={**clean, **env}, stdout=out, stderr=out)
        try:
            wait_until_answers(ready_url, process, log)
            yield process
        finally:
            stop(process)


def wait_until_answers(url: str, process: subprocess.Popen[bytes], log: Path, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AssertionError(f"the service ended with {process.returncode}:\n{log.read_text()[-2000:]}")
        with contextlib.suppress(httpx.HTTPError):
            httpx.get(url, timeout=2.0)
            return
        time.sleep(0.05)
    raise AssertionError(f"no answer from {url}:\n{log.read_text()[-2000:]}")


def stop(process: subprocess.Popen[Any]) -> None:
    """End a process that we started: SIGTERM, and SIGKILL for one that does not listen."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdout is not None:
        process.stdout.close()
