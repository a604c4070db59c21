"""A pool of parser children for the threads of a worker. It turns documents into blocks or a typed error."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zhiwen.common.errors import DocumentError, Unavailable
from zhiwen.common.models import Block
from zhiwen.ingest.parsing.runtime import wire
from zhiwen.ingest.parsing.runtime.process import (
    POLL_SECONDS,
    ChildCancelled,
    ChildGone,
    ChildTimeout,
    OversizedAnswer,
    ParserProcess,
    remove_stale_folders,
)

MEBIBYTE = 1024 * 1024
DOCUMENTS_PER_CHILD = 200
# A child may die for another reason, so a document gets a second child before it fails.
CHILDREN_PER_DOCUMENT = 2


class ParseCancelled(Exception):
    """The caller's `cancelled()` returned True. The child was killed, and nothing of its work is left."""


class MachineFailed(Exception):
    """The machine lacks memory, disk or processes. The text names the exception and its place."""


class ReaderFailed(Exception):
    """The cause of a DocumentError, for the log: the exception of a reader, and its place."""


@dataclass(frozen=True, slots=True)
class ParserLimits:
    """The limits for one document.

    `memory_bytes` is address space beyond that of an idle child. `cpu_seconds` and `wall_seconds` are times.
    `output_bytes` is the size of its text in UTF-8. A scan gets `wall_seconds` for each page, and at most 20 times that
    in all. A program that a reader runs has the same memory limit, and the remaining CPU time.
    """

    memory_bytes: int = 2048 * MEBIBYTE
    cpu_seconds: float = 120.0
    wall_seconds: float = 180.0
    output_bytes: int = 64 * MEBIBYTE


class ParserPool:
    """A pool of up to `processes` children. They are started when needed, and reused. Thread-safe.

    A child is replaced after a crash, a timeout, a cancelled document, or 200 documents.
    """

    def __init__(self, processes: int, limits: ParserLimits | None = None) -> None:
        self._limits = limits or ParserLimits()
        self._slots = threading.Semaphore(processes)
        self._lock = threading.Lock()
        self._idle: list[ParserProcess] = []
        self._busy: set[ParserProcess] = set()
        self._closed = False
        # The kernel kills a child when the thread that started it ends, so one permanent thread starts them all.
        self._starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="parser-starter")
        self._starter.submit(self._start_first)

    def parse(self, path: Path, name: str, cancelled: Callable[[], bool] = lambda: False) -> list[Block]:
        """Return the blocks of the document at `path`, in reading order. The suffix of `name` helps to detect its type.

        Waits until a child is free. `cancelled` is called about every 0.2 s. Raises DocumentError for a document that
        cannot be read or exceeds the limits, Unavailable (retryable) when the machine lacks memory, disk or processes,
        ParseCancelled, and RuntimeError when the pool is closed.
        """
        while not self._slots.acquire(timeout=POLL_SECONDS):
            if cancelled():
                raise ParseCancelled
        try:
            return self._parse(path, name, cancelled)
        finally:
            self._slots.release()

    def close(self) -> None:
        """Kill all children. Callers that wait for a busy child get RuntimeError. May be called twice."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            busy = list(self._busy)
        for child in idle:
            child.kill()
        for child in busy:
            child.interrupt()
        self._starter.shutdown(wait=True)

    def child_pids(self) -> list[int]:
        """Return the process ids of all children, for supervision and tests."""
        with self._lock:
            return [child.pid for child in (*self._idle, *self._busy)]

    def _parse(self, path: Path, name: str, cancelled: Callable[[], bool]) -> list[Block]:
        request = {
            "path": str(path.absolute()),
            "name": name,
            "cpu_seconds": self._limits.cpu_seconds,
            "output_bytes": self._limits.output_bytes,
        }
        machine: MachineFailed | None = None
        for _ in range(CHILDREN_PER_DOCUMENT):
            try:
                return _blocks_of(self._ask(request, cancelled))
            except MachineFailed as exc:
                machine = exc
            except ChildGone as exc:
                machine = None
                if self._closed:
                    raise RuntimeError("the parser pool is closed") from exc
                if exc.signal_number == signal.SIGXCPU:
                    raise self._timeout() from exc
            except ChildTimeout as exc:
                raise self._timeout() from exc
            except ChildCancelled:
                raise ParseCancelled from None
            except OversizedAnswer as exc:
                raise too_much_text(self._limits.output_bytes) from exc
        if machine is not None:
            raise Unavailable("parser-unavailable", "The parser lacks memory, disk or processes.") from machine
        raise DocumentError(
            "parser-crashed",
            "The parser crashed on this file twice. Open it in its own program, save it again, and retry.",
        )

    def _ask(self, request: dict[str, Any], cancelled: Callable[[], bool]) -> dict[str, Any]:
        child = self._take()
        answer: dict[str, Any] = {"retire": True}
        try:
            answer = child.ask(request, wall_seconds=self._limits.wall_seconds, cancelled=cancelled)
        finally:
            self._give_back(child, retire=bool(answer.get("retire")))
        return answer

    def _take(self) -> ParserProcess:
        while True:
            with self._lock:
                if self._closed:
                    raise RuntimeError("the parser pool is closed")
                child = self._idle.pop() if self._idle else None
                if child is not None:
                    self._busy.add(child)
            if child is None:
                return self._starter.submit(self._start_busy).result()
            if child.alive():
                return child
            self._give_back(child, retire=True)

    def _start_busy(self) -> ParserProcess:
        with self._lock:  # the first child may have become ready meanwhile
            child = self._idle.pop() if self._idle else None
        child = child or self._start()
        with self._lock:
            self._busy.add(child)
        return child

    def _start_first(self) -> None:
        remove_stale_folders()
        child = self._start()
        with self._lock:
            keep = not self._closed
            if keep:
                self._idle.append(child)
        if not keep:
            child.kill()

    def _start(self) -> ParserProcess:
        return ParserProcess(self._limits.memory_bytes, self._limits.output_bytes + MEBIBYTE)

    def _give_back(self, child: ParserProcess, *, retire: bool) -> None:
        with self._lock:
            self._busy.discard(child)
            retire = retire or self._closed or child.documents >= DOCUMENTS_PER_CHILD
            if not retire:
                self._idle.append(child)
        if retire:
            child.kill()

    def _timeout(self) -> DocumentError:
        limits = self._limits
        return DocumentError(
            "parse-timeout",
            f"Reading this file takes longer than {limits.wall_seconds:g} s (or {limits.cpu_seconds:g} s of CPU time). "
            "Split it into smaller files.",
        )


def too_much_text(output_bytes: int) -> DocumentError:
    """Return the error for a document with more text than is allowed."""
    return DocumentError(
        "too-much-text",
        f"This file holds more than {output_bytes // MEBIBYTE} MiB of text. Split it into smaller files.",
    )


def _blocks_of(answer: dict[str, Any]) -> list[Block]:
    if "machine" in answer:
        raise MachineFailed(str(answer["machine"]))
    error = answer.get("error")
    if error is not None:
        raise DocumentError(str(error["code"]), str(error["detail"])) from ReaderFailed(str(answer.get("cause", "")))
    return wire.blocks_from_lists(answer["blocks"])
