"""Runs the programs that readers use (pandoc, tesseract, LibreOffice) inside the limits of the parser child.

A program inherits the child's limits on memory and files, its network namespace, its folder and its process group. It
gets the remaining CPU time of the child, and the kernel kills it when the child dies.
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
    """Run a program with `data` as its standard input, and wait until it ends.

    Raises DocumentError `parse-timeout` when the CPU time of the document is used up. The pool watches the wall time
    and kills the whole process group of the child.
    """
    parent = os.getpid()
    cpu_seconds = sandbox.cpu_seconds_left()

    def limit() -> None:  # runs between fork and exec, which is safe because a parser child has one thread
        sandbox.die_with_parent(parent)
        if cpu_seconds is not None:
            sandbox.limit_cpu(cpu_seconds)

    done = subprocess.run(command, input=data, capture_output=True, check=False, preexec_fn=limit)
    if done.returncode == -signal.SIGXCPU:
        raise DocumentError("parse-timeout", "Reading this file takes too much CPU time. Split it into smaller files.")
    return Finished(done.returncode, done.stdout, done.stderr)
