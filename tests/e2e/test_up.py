"""`zhiwen up`: one command, one folder, nothing left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.servers.stores import wait_until
from zhiwen.cli.stack import OFFSETS
from zhiwen.cli.supervisor import answers_http
from zhiwen.common.ledger import open_ledger

UP = [sys.executable, "-c", "from zhiwen.cli.main import main; main()", "up", "--no-webui"]
READY_SECONDS = 120


def free_base() -> int:
    """Return a port base whose ports are all free now."""
    taken = {c.laddr.port for c in psutil.net_connections("tcp") if c.laddr}
    start = 20_000 + os.getpid() % 300 * 100
    return next(b for b in range(start, 60_000, 100) if not taken & {b + offset for offset in OFFSETS.values()})


class Up:
    """A running `zhiwen up`, called from a folder of its own: never from that of the tests."""

    def __init__(self, folder: Path, base: int, here: Path) -> None:
        self.folder, self.base = folder, base
        clean = {key: value for key, value in os.environ.items() if not key.startswith("ZHIWEN_")}
        self.process = subprocess.Popen(
            [*UP, "--data-dir", str(folder), "--port-base", str(base)],
            env=clean,
            cwd=here,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def url(self, service: str) -> str:
        return f"http://127.0.0.1:{self.base + OFFSETS[service]}"

    def wait_ready(self) -> None:
        def ready() -> bool:
            assert self.process.poll() is None, self.process.communicate()[0]
            return answers_http(f"{self.url('worker')}/metrics") and answers_http(f"{self.url('query')}/readyz")

        wait_until(ready, READY_SECONDS, "zhiwen up was not ready")

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self, how: signal.Signals = signal.SIGTERM) -> tuple[int, float]:
        """Send a signal; return the exit status and the seconds until it ended."""
        started = time.monotonic()
        self.process.send_signal(how)
        self.process.communicate(timeout=60)
        return self.process.returncode, time.monotonic() - started


@contextlib.contextmanager
def up(folder: Path, base: int, here: Path) -> Iterator[Up]:
    running = Up(folder, base, here)
    try:
        running.wait_ready()
        yield running
    finally:
        if running.process.poll() is None:
            running.end()


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def ready(client: httpx.Client, path: str) -> bool:
    return bool(client.get(path).json()["status"] == "ready")


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_up_stops_clean_and_starts_again_with_nothing_lost(tmp_path: Path) -> None:
    base = free_base()
    folder, here = tmp_path / "数据 folder", tmp_path / "here"
    here.mkdir()
    (here / "precious").write_text("stays")
    with up(folder, base, here) as first, httpx.Client(base_url=first.url("ingest"), timeout=60) as ingest:
        ingest.post("/v1/knowledge-bases", json={"name": "手册"}).raise_for_status()
        item: dict[str, Any] = ingest.put(
            "/v1/knowledge-bases/手册/documents/by-name/年假.txt", content="每名员工每年有十天带薪年假。".encode()
        ).json()
        path = f"/v1/knowledge-bases/手册/documents/{item['id']}"
        wait_until(lambda: ready(ingest, path), 60, "the document was never ready")
        # refused, for the folder is in use: and then nothing is touched
        second = subprocess.run(
            [*UP, "--data-dir", str(folder), "--port-base", str(base + 200)],
            capture_output=True,
            cwd=here,
            text=True,
            timeout=60,
            check=False,
        )
        assert second.returncode != 0
        assert "already runs on" in " ".join((second.stdout + second.stderr).split())
        assert (here / "precious").read_text() == "stays"
        assert ingest.get("/readyz").status_code == 200
        # an upload whose indexing may not have begun when it all stops
        late: dict[str, Any] = ingest.put(
            "/v1/knowledge-bases/手册/documents/by-name/病假.txt", content="病假需要医院证明。".encode()
        ).json()
        family = first.family()
        assert len(family) >= 6
        status, seconds = first.end()
    assert status == 0
    assert seconds < 30
    wait_until(lambda: alive(family) == [], 5, f"left behind: {alive(family)}")
    with up(folder, base, here) as again:
        with httpx.Client(base_url=again.url("ingest"), timeout=60) as ingest:
            path = f"/v1/knowledge-bases/手册/documents/{late['id']}"
            wait_until(lambda: ready(ingest, path), 60, "the late document was never ready")
        with httpx.Client(base_url=again.url("query"), timeout=60) as query:
            for question, words in (("每年有几天带薪年假？", "十天"), ("病假需要什么证明？", "医院证明")):
                body = query.post("/v1/knowledge-bases/手册/ask", json={"question": question}).json()
                assert words in body["answer"], body
                assert body["sources"][0]["n"] == 1
        family = again.family()
        # the launcher itself dies without a word: all it started go with it
        again.end(signal.SIGKILL)
        wait_until(lambda: alive(family) == [], 30, f"left behind: {alive(family)}")
    assert (here / "precious").read_text() == "stays"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_up_gets_ready_and_answers_once_a_key_was_made(tmp_path: Path) -> None:
    ledger = open_ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    ledger.database.migrate()
    _, secret = ledger.keys.create(name="first", scope="admin", knowledge_base=None)
    ledger.close()
    headers = {"Authorization": f"Bearer {secret}"}
    with up(tmp_path, free_base(), tmp_path) as running, httpx.Client(headers=headers, timeout=60) as http:
        bases = f"{running.url('ingest')}/v1/knowledge-bases"
        http.post(bases, json={"name": "手册"}).raise_for_status()
        item: dict[str, Any] = http.put(
            f"{bases}/手册/documents/by-name/年假.txt", content="每名员工每年有十天带薪年假。".encode()
        ).json()
        wait_until(lambda: ready(http, f"{bases}/手册/documents/{item['id']}"), 60, "the document was never ready")
        asked = {"question": "每年有几天带薪年假？"}
        address = f"{running.url('query')}/v1/knowledge-bases/手册/ask"
        assert "十天" in http.post(address, json=asked).json()["answer"]
        assert httpx.post(address, json=asked).status_code == 401
