"""Writes conversations as JSON Lines to a folder, a new file per interval, in a thread so that no answer waits.

The log is off unless a folder is set. When the disk cannot keep up, conversations are left out and counted.
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

from zhiwen.llm_gateway.metrics import CONVERSATIONS_DROPPED

log = structlog.get_logger(__name__)

QUEUE = 1000  # most conversations that wait to be written
CLOSE_SECONDS = 10.0

Conversation = dict[str, Any]
"""One line of the log."""


class ConversationLog:
    """Writes conversations to `folder`.

    A file is closed `interval` seconds after it was opened. `clock` returns seconds since the epoch.
    """

    def __init__(self, folder: Path, interval: float, *, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._interval = interval
        self._clock = clock
        self._queue: queue.Queue[Conversation | None] = queue.Queue(QUEUE)
        self._file: IO[bytes] | None = None
        self._begun = 0.0
        self._number = 0
        folder.mkdir(parents=True, exist_ok=True)
        self._thread = threading.Thread(target=self._run, name="conversation-log", daemon=True)
        self._thread.start()

    def put(self, conversation: Conversation) -> None:
        """Hand over one conversation. Returns at once."""
        try:
            self._queue.put_nowait(conversation)
        except queue.Full:
            CONVERSATIONS_DROPPED.inc()

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Write what waits and end the thread. Blocking.

        It waits up to `seconds` for room in the queue, and up to `seconds` for the thread to end. A thread that runs
        longer is left behind.
        """
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
            lines = [line for conversation in batch if conversation is not None and (line := _line_of(conversation))]
            try:
                self._write(lines)
            except OSError as exc:
                CONVERSATIONS_DROPPED.inc(len(lines))
                log.error("export_failed", error=str(exc))
                self._close_file()
        self._close_file()

    def _next_batch(self) -> list[Conversation | None]:
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
            with contextlib.suppress(OSError):  # closing writes the buffer again, which a full disk refuses again
                file.close()


def _line_of(conversation: Conversation) -> bytes:
    """Return a conversation as a line, or `b""` for one that is too deeply nested to write, which is counted."""
    try:
        return orjson.dumps(conversation) + b"\n"
    except orjson.JSONEncodeError as exc:
        CONVERSATIONS_DROPPED.inc()
        log.warning("export_refused", error=str(exc))
        return b""
