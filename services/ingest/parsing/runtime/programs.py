"""Other programs that a reader runs (pandoc, tesseract, LibreOffice), inside the limits of the parser child.

A program inherits the child's limits on memory and files, its network namespace, its folder and its process group. It
gets the CPU time that the child has left, and the kernel kills it when the child dies.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from zhiwen.common.errors import DocumentError
from zhiwen.ingest.parsing.runtime import sandbox


@dataclass(frozen=True, slots=True)
class Finished:
    """How a program ended: its exit code (negative: the signal that killed it) and what it wrote."""

    code: int
    output: bytes
    errors: bytes


def run_program(command: Sequence[str], data: bytes = b"") -> Finished:
    """Run a program with `data` as its standard input, and wait for its end.

    Raises DocumentError `parse-timeout` when it has used up the CPU time of the document. The wall time is watched
    from outside: the pool kills the child's whole process group.
    """
    parent = os.getpid()
    cpu_seconds = sandbox.cpu_seconds_left()

    def limit() -> None:  # runs between fork and exec; safe, for a parser child has one thread
        sandbox.die_with_parent(parent)
        if cpu_seconds is not None:
            sandbox.limit_cpu(cpu_seconds)

    done = subprocess.run(command, input=data, capture_output=True, check=False, preexec_fn=limit)
    if done.returncode == -signal.SIGXCPU:
        raise DocumentError("parse-timeout", "Reading this file takes too much CPU time. Split it into smaller files.")
    return Finished(done.returncode, done.stdout, done.stderr)
