"""Programs that end are restarted, however often, also when a restart fails."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from zhiwen.cli.supervisor import MAX_RESTART_SECONDS, WELL_SECONDS, Program, Supervisor, restart_pause


def program(name: str, code: str) -> Program:
    """Return a Python program that has ended already."""
    made = Program(name, [sys.executable, "-c", code], dict(os.environ), ready=lambda: True)
    made.process = subprocess.Popen([sys.executable, "-c", ""])
    made.process.wait(20)
    return made


@contextmanager
def watched(folder: Path, *programs: Program) -> Iterator[None]:
    supervisor = Supervisor(folder, [list(programs)])
    watcher = threading.Thread(target=supervisor.watch)
    watcher.start()
    try:
        yield
    finally:
        supervisor.stop()
        watcher.join(10)
        assert not watcher.is_alive()
        supervisor.stop()  # also what it started meanwhile


def wait_for_file(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("restarts", [8, 1022, 5000])
def test_pause_has_an_end_however_often_a_program_ended(restarts: int) -> None:
    assert [restart_pause(number) for number in range(3)] == [0.2, 0.4, 0.8]
    assert restart_pause(restarts) == MAX_RESTART_SECONDS


def test_program_that_cannot_be_started_does_not_keep_others_from_restarting(tmp_path: Path) -> None:
    broken = program("broken", "")
    broken.command = [str(tmp_path / "missing")]
    with watched(tmp_path, broken, program("well", "open('started', 'w'); import time; time.sleep(60)")):
        wait_for_file(tmp_path / "started")


def test_program_that_ran_well_for_a_while_is_started_again_at_once(tmp_path: Path) -> None:
    revived = program("well", "open('started', 'w'); import time; time.sleep(60)")
    revived.restarts = 100
    revived.launched_at = time.monotonic() - WELL_SECONDS
    with watched(tmp_path, revived):
        wait_for_file(tmp_path / "started")
    assert revived.restarts == 1
