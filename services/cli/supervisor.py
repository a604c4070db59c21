"""Runs programs on this machine: starts them in groups, restarts those that end, and stops them.

`zhiwen.cli.stack` says which programs these are.
"""

from __future__ import annotations

import ctypes
import fcntl
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import structlog

from zhiwen.common.errors import ConfigurationError

log = structlog.get_logger(__name__)

READY_SECONDS = 120.0
STOP_SECONDS = 20.0
MAX_RESTART_SECONDS = 30.0
WELL_SECONDS = 60.0
"""A program that ran this long counts as healthy: its count of restarts begins again."""
LOG_BYTES = 10 * 1024 * 1024
PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


@dataclass(slots=True)
class Program:
    """One supervised process: how to start it, and how to check that it is ready."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    ready: Callable[[], bool]
    process: subprocess.Popen[bytes] | None = None
    launched_at: float = 0.0
    restarts: int = 0
    restart_at: float = 0.0


@dataclass(slots=True)
class Supervisor:
    """Runs groups of programs in one folder, which also keeps their logs.

    `groups` are started in this order and stopped in the reverse order.
    """

    folder: Path
    groups: list[list[Program]] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _watcher: threading.Thread | None = None

    @property
    def programs(self) -> list[Program]:
        """All programs, in the order in which they were started."""
        return [program for group in self.groups for program in group]

    def start(self, group: list[Program], on_ready: Callable[[str], None]) -> None:
        """Start a group, and return when all its programs are ready. `on_ready` is called with the name of each.

        Raises `ConfigurationError` when a program ends meanwhile, or is not ready in time.
        """
        self.groups.append(group)
        for program in group:
            self._launch(program)
        waiting = list(group)
        deadline = time.monotonic() + READY_SECONDS
        while waiting:
            for program in list(waiting):
                if program.process is None or program.process.poll() is not None:
                    raise self._failure(program, "ended while it was starting")
                if program.ready():
                    waiting.remove(program)
                    on_ready(program.name)
            if time.monotonic() > deadline:
                raise self._failure(waiting[0], f"was not ready after {READY_SECONDS:.0f} s")
            if waiting:
                time.sleep(0.05)

    def keep_running(self) -> None:
        """Restart programs that end, from now on, in a thread."""
        self._watcher = threading.Thread(target=self.watch, name="watcher", daemon=True)
        self._watcher.start()

    def watch(self) -> None:
        """Restart programs that end, until somebody calls `stop`."""
        while not self._stopping.wait(0.5):
            for program in self.programs:
                try:
                    self._revive(program, time.monotonic())
                except Exception:  # for example no memory or no space for its log: the next round tries again
                    log.exception("restart_failed", program=program.name)

    def stop(self) -> None:
        """Stop the groups, the last one first."""
        self._stopping.set()
        if self._watcher:
            self._watcher.join()
        for group in reversed(self.groups):
            stop_programs(group)

    def wait(self) -> None:
        """Wait until somebody calls `stop`."""
        self._stopping.wait()

    def _failure(self, program: Program, what: str) -> ConfigurationError:
        path = self._log_path(program.name)
        lines = path.read_text("utf-8", "replace").splitlines() if path.exists() else []
        last = f" Its last words: {_message(lines[-1])[:300]}" if lines else ""
        return ConfigurationError(f"{program.name} {what}; see {path}.{last}")

    def _log_path(self, name: str) -> Path:
        return self.folder / "logs" / f"{name}.log"

    def _launch(self, program: Program) -> None:
        path = self._log_path(program.name)
        path.parent.mkdir(exist_ok=True)
        if path.exists() and path.stat().st_size > LOG_BYTES:
            path.replace(path.with_suffix(".log.1"))
        with path.open("ab") as output:
            program.launched_at = time.monotonic()
            program.process = subprocess.Popen(
                program.command,
                env=dict(program.environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.folder,
                start_new_session=True,  # Ctrl-C is for the supervisor, which passes it on
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509 (safe, see it)
            )

    def _revive(self, program: Program, now: float) -> None:
        if program.process is None or program.process.poll() is None:
            return
        if program.restart_at == 0.0:
            if now - program.launched_at >= WELL_SECONDS:
                program.restarts = 0
            pause = restart_pause(program.restarts)
            log.warning("program_ended", program=program.name, code=program.process.returncode, restart_in=pause)
            program.restart_at = now + pause
        if now >= program.restart_at:
            program.restarts += 1
            program.restart_at = 0.0
            self._launch(program)


def restart_pause(restarts: int) -> float:
    """Return the seconds to wait before a program is restarted, after so many restarts."""
    return min(0.2 * 2.0 ** min(restarts, 10), MAX_RESTART_SECONDS)


def _message(line: str) -> str:
    """Return the message of a log line. For a JSON line it is the last line of the traceback, or the event."""
    try:
        entry = json.loads(line)
        return str(entry.get("exception") or entry["event"]).strip().splitlines()[-1]
    except (ValueError, KeyError, AttributeError, IndexError):
        return line


def _die_with_parent() -> None:
    """Ask the kernel to end this process when the supervisor dies. Runs between fork and exec.

    It is one system call without a lock, so it is safe although the supervisor has other threads.
    """
    _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def stop_programs(programs: Sequence[Program]) -> None:
    """Stop processes with SIGTERM, and those that still run after `STOP_SECONDS` with SIGKILL."""
    running = [p.process for p in programs if p.process is not None and p.process.poll() is None]
    for process in running:
        process.terminate()
    deadline = time.monotonic() + STOP_SECONDS
    for process in running:
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            log.warning("killed", pid=process.pid)
            process.kill()
            process.wait()


def lock_folder(folder: Path) -> IO[str]:
    """Lock a data folder until the returned file is closed. Raises `ConfigurationError` if it is locked."""
    path = folder / "zhiwen.lock"
    lock = path.open("a+", encoding="ascii")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        lock.seek(0)
        holder = lock.read().strip() or "unknown"
        lock.close()
        raise ConfigurationError(f"Another Zhiwen (process {holder}) already runs on {folder}.") from exc
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def answers_on(path: Path) -> bool:
    """Return True when something accepts connections on a unix socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def answers_http(url: str) -> bool:
    """Return True when a GET of `url`, an address on loopback, answers 200."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback never goes through a proxy
    try:
        with direct.open(url, timeout=5) as response:
            return bool(response.status == 200)
    except (http.client.HTTPException, OSError):  # also from a socket that is connected to itself
        return False
