"""What a parser child gives up before it reads a document: network, memory, CPU time, disk, and life after its parent.

At its strongest on Linux. Other systems get the limits that they know, and the guard on sockets.
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
    """Ask the kernel to kill this process when the thread that started it ends; exit now if it has ended already."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(1)


def cut_network() -> bool:
    """Move into an empty network namespace where that is permitted; refuse sockets in Python in any case.

    Returns True when the kernel enforces it. Must be called while the process has one thread.
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
    """Allow `memory_bytes` of address space beyond what is mapped now; programs started from here get the same sum."""
    _set_soft_limit(resource.RLIMIT_AS, _mapped_bytes() + memory_bytes)


def limit_files() -> None:
    """No core dumps, no file over 512 MiB, at most 256 open files."""
    _set_soft_limit(resource.RLIMIT_CORE, 0)
    _set_soft_limit(resource.RLIMIT_FSIZE, MAX_FILE_BYTES)
    _set_soft_limit(resource.RLIMIT_NOFILE, MAX_OPEN_FILES)


def limit_cpu(cpu_seconds: float) -> None:
    """Allow `cpu_seconds` more of CPU time from now; past it the kernel sends SIGXCPU, which kills."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _set_soft_limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime + cpu_seconds) + 1)


def cpu_seconds_left() -> float | None:
    """Return how much CPU time this process may still use; None where it has no limit."""
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
