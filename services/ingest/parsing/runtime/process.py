"""A parser child, seen from its parent: start it, send it a document, wait for the answer, kill it."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zhiwen.ingest.parsing.runtime import wire

POLL_SECONDS = 0.2
MAX_PATIENCE = 20
ENVIRONMENT_KEPT = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "TESSDATA_PREFIX", "VIRTUAL_ENV")
PACKAGE_ROOT = str(Path(__file__).resolve().parents[4])


class ChildGone(Exception):
    """The child ended without an answer. `signal_number` is the signal that killed it; 0: it exited."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"parser child ended by signal {signal_number}")
        self.signal_number = signal_number


class ChildTimeout(Exception):
    """The child gave no answer before the deadline."""


class ChildCancelled(Exception):
    """The caller no longer wants the answer."""


class OversizedAnswer(Exception):
    """The answer of the child has more bytes than allowed."""


def remove_stale_folders() -> None:
    """Remove the folders of children whose parent process is dead."""
    for folder in Path(tempfile.gettempdir()).glob(f"{wire.FOLDER_PREFIX}*"):
        owner = folder.name.removeprefix(wire.FOLDER_PREFIX).partition("-")[0]
        if owner.isdigit() and not _exists(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


class ParserProcess:
    """A child process with its own process group and its own temporary folder. Programs that it starts die with it.

    Start it in a thread that outlives it: the kernel kills it when that thread ends.
    """

    def __init__(self, memory_bytes: int, max_answer_bytes: int) -> None:
        self.documents = 0
        self._max_answer_bytes = max_answer_bytes
        self._folder = tempfile.mkdtemp(prefix=f"{wire.FOLDER_PREFIX}{os.getpid()}-")
        self._answers, answers_end = os.pipe()
        try:
            self._process = self._start(answers_end, memory_bytes)
        except BaseException:
            os.close(self._answers)
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        finally:
            os.close(answers_end)

    def _start(self, answers_end: int, memory_bytes: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-P", "-W", "ignore", "-m", "zhiwen.ingest.parsing.runtime.child"]
        return subprocess.Popen(
            [*command, str(os.getpid()), str(answers_end), str(memory_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(answers_end,),
            cwd=self._folder,
            env=self._environment(),
            start_new_session=True,
        )

    def _environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ENVIRONMENT_KEPT if name in os.environ}
        search_path = os.pathsep.join(filter(None, (PACKAGE_ROOT, os.environ.get("PYTHONPATH", ""))))
        # One thread for each library: the pool decides how many documents are parsed at once.
        threads = {"OMP_NUM_THREADS": "1", "OMP_THREAD_LIMIT": "1", "OPENBLAS_NUM_THREADS": "1"}
        private = {"TMPDIR": self._folder, "HOME": self._folder, "PYTHONPATH": search_path, "PYTHONUTF8": "1"}
        return {**kept, **threads, **private, "DO_NOT_TRACK": "true", "SCARF_NO_ANALYTICS": "true"}

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, request: dict[str, Any], *, wall_seconds: float, cancelled: Callable[[], bool]) -> dict[str, Any]:
        """Send one request and return its answer.

        The child may take `wall_seconds`, and the same time again after each sign of life, but at most 20 times that in
        all. `cancelled` is called about every 0.2 s. Raises ChildGone, ChildTimeout, ChildCancelled or OversizedAnswer.
        After each of them the child must be killed.
        """
        self.documents += 1
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(wire.pack(request))
            stdin.flush()
        except OSError:
            raise ChildGone(self._signal_number()) from None
        end = time.monotonic() + wall_seconds * MAX_PATIENCE
        while True:
            message = self._message(min(end, time.monotonic() + wall_seconds), cancelled)
            if message != wire.BEAT:
                return message

    def _message(self, deadline: float, cancelled: Callable[[], bool]) -> dict[str, Any]:
        (length,) = wire.LENGTH.unpack(self._receive(wire.LENGTH.size, deadline, cancelled))
        if length > self._max_answer_bytes:
            raise OversizedAnswer
        try:
            return wire.unpack(self._receive(length, deadline, cancelled))
        except ValueError:
            raise ChildGone(0) from None

    def _receive(self, size: int, deadline: float, cancelled: Callable[[], bool]) -> bytearray:
        received = bytearray()
        poller = select.poll()
        poller.register(self._answers, select.POLLIN)
        while len(received) < size:
            if cancelled():
                raise ChildCancelled
            if time.monotonic() > deadline:
                raise ChildTimeout
            if not poller.poll(POLL_SECONDS * 1000):
                continue
            data = os.read(self._answers, min(size - len(received), 1 << 20))
            if not data:
                raise ChildGone(self._signal_number())
            received += data
        return received

    def _signal_number(self) -> int:
        try:
            return max(0, -self._process.wait(timeout=5))
        except subprocess.TimeoutExpired:
            return 0

    def alive(self) -> bool:
        """Return whether the child still runs."""
        return self._process.poll() is None

    def interrupt(self) -> None:
        """Send SIGKILL to the child and its programs. This is safe while another thread waits in `ask`."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def kill(self) -> None:
        """Kill the child and its programs, and remove its folder. Raises nothing for a child that is dead."""
        self.interrupt()
        self._process.kill()
        self._process.wait()
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        os.close(self._answers)
        shutil.rmtree(self._folder, ignore_errors=True)
