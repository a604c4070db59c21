"""The limits of a parser child: network, memory, CPU time, disk, and no life after its parent.

They are strongest on Linux. Other systems get the limits that they support, and the guard on sockets.
Sources: prctl(2), unshare(2), setrlimit(2).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import socket
import sys
from typing import Any, NoReturn

PR_SET_PDEATHSIG = 1
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
MAX_FILE_BYTES = 512 * 1024 * 1024
MAX_OPEN_FILES = 256


def die_with_parent(parent_pid: int) -> None:
    """Ask the kernel to kill this process when the parent's thread ends. If the parent is dead already, exit now."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(1)


def cut_network() -> bool:
    """Move into an empty network namespace if that is permitted. In any case, refuse sockets in Python.

    Returns whether the kernel enforces it. Call this while the process has one thread.
    """
    _guard_sockets()
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    return any(libc.unshare(flags) == 0 for flags in (CLONE_NEWNET, CLONE_NEWUSER | CLONE_NEWNET))


def _guard_sockets() -> None:
    def refuse(*_args: Any, **_kwargs: Any) -> NoReturn:
        raise PermissionError("a parser has no network")

    for name in ("connect", "connect_ex", "bind", "sendto"):
        setattr(socket.socket, name, refuse)
    socket.create_connection = refuse
    socket.getaddrinfo = refuse


def limit_memory(memory_bytes: int) -> None:
    """Allow `memory_bytes` of address space beyond what is mapped now. Programs inherit the limit."""
    _set_soft_limit(resource.RLIMIT_AS, _mapped_bytes() + memory_bytes)


def limit_files() -> None:
    """Forbid core dumps, files over 512 MiB, and more than 256 open files."""
    _set_soft_limit(resource.RLIMIT_CORE, 0)
    _set_soft_limit(resource.RLIMIT_FSIZE, MAX_FILE_BYTES)
    _set_soft_limit(resource.RLIMIT_NOFILE, MAX_OPEN_FILES)


def limit_cpu(cpu_seconds: float) -> None:
    """Allow `cpu_seconds` of CPU time from now. After that the kernel kills the process with SIGXCPU."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _set_soft_limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime + cpu_seconds) + 1)


def cpu_seconds_left() -> float | None:
    """Return the CPU time in seconds that this process may still use; None if it has no limit."""
    limit = resource.getrlimit(resource.RLIMIT_CPU)[0]
    if limit == resource.RLIM_INFINITY:
        return None
    used = resource.getrusage(resource.RUSAGE_SELF)
    return max(0.0, limit - used.ru_utime - used.ru_stime)


def _set_soft_limit(which: int, value: int) -> None:
    hard = resource.getrlimit(which)[1]
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(which, (value, hard))


def _mapped_bytes() -> int:
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:
            return int(statm.read().split()[0]) * resource.getpagesize()
    except OSError:
        return 0
