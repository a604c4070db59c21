"""Conversations as JSON Lines in a folder, a new file per interval: written by a thread, never in an answer's way.

Off unless a folder is set. When the disk cannot keep up, conversations are left out and counted, answers are not held.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import orjson
import structlog

from zhiwen.llm_gateway.metrics import EXPORT_DROPPED

log = structlog.get_logger(__name__)

QUEUE = 1000  # conversations that may wait for the disk
CLOSE_SECONDS = 10.0


class Exporter:
    """Writes to `folder`; a file is closed `interval` seconds after it was begun. `clock` is seconds since 1970."""

    def __init__(self, folder: Path, interval: float, *, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._interval = interval
        self._clock = clock
        self._queue: queue.Queue[dict[str, Any] | None] = queue.Queue(QUEUE)
        self._file: IO[bytes] | None = None
        self._begun = 0.0
        self._number = 0
        folder.mkdir(parents=True, exist_ok=True)
        self._thread = threading.Thread(target=self._run, name="export", daemon=True)
        self._thread.start()

    def put(self, record: dict[str, Any]) -> None:
        """Hand over one conversation; returns at once."""
        try:
            self._queue.put_nowait(record)
        except queue.Full:
            EXPORT_DROPPED.inc()

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Write what waits and end the thread, or leave it behind after `seconds`. Blocking."""
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=seconds)
        self._thread.join(seconds)
        if self._thread.is_alive():
            log.error("export_not_finished", waiting=self._queue.qsize())

    def _run(self) -> None:
        ended = False
        while not ended:
            batch = self._next_batch()
            ended = None in batch
            self._rotate()
            lines = [line for record in batch if record is not None and (line := _line_of(record))]
            try:
                self._write(lines)
            except OSError as exc:
                EXPORT_DROPPED.inc(len(lines))
                log.error("export_failed", error=str(exc))
                self._close_file()
        self._close_file()

    def _next_batch(self) -> list[dict[str, Any] | None]:
        try:
            batch = [self._queue.get(timeout=min(1.0, self._interval))]
        except queue.Empty:
            return []
        while len(batch) < 100 and batch[-1] is not None:
            try:
                batch.append(self._queue.get_nowait())
            except queue.Empty:
                break
        return batch

    def _write(self, lines: list[bytes]) -> None:
        if not lines:
            return
        if self._file is None:
            self._begun = self._clock()
            self._file = self._new_path().open("xb")
        self._file.write(b"".join(lines))
        self._file.flush()

    def _new_path(self) -> Path:
        self._number += 1
        stamp = datetime.fromtimestamp(self._begun, UTC).strftime("%Y%m%dT%H%M%SZ")
        return self._folder / f"conversations-{stamp}-{os.getpid()}-{self._number}.jsonl"

    def _rotate(self) -> None:
        if self._file is not None and self._clock() >= self._begun + self._interval:
            self._close_file()

    def _close_file(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):  # it tries once more to write what a full disk did not take
                file.close()


def _line_of(record: dict[str, Any]) -> bytes:
    """Return a conversation as a line; nothing, and count it, where it is nested deeper than orjson writes."""
    try:
        return orjson.dumps(record) + b"\n"
    except orjson.JSONEncodeError as exc:
        EXPORT_DROPPED.inc()
        log.warning("export_refused", error=str(exc))
        return b""
