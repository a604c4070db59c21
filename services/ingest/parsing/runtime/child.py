"""The program of a parser child: for each request, it reads a document and writes its blocks or its error.

Started by `process.ParserProcess` as
`python -m zhiwen.ingest.parsing.runtime.child PARENT_PID ANSWERS_FD MEMORY_BYTES`.
"""

from __future__ import annotations

import errno
import gc
import logging
import os
import shutil
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any, BinaryIO

from zhiwen.common.errors import DocumentError
from zhiwen.common.models import Block
from zhiwen.ingest.parsing.runtime import heartbeat, sandbox, wire

BLOCK_OVERHEAD_BYTES = 64
MAX_RECURSION = 3000
DOCUMENTS_PER_COLLECTION = 16
# Errors of the machine, not of a document.
MACHINE_ERRORS = frozenset(
    {errno.EAGAIN, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EIO, errno.EACCES}
)


def main(parent_pid: int, answers_fd: int, memory_bytes: int) -> None:
    """Serve requests from standard input until it ends.

    Raises SystemExit unless the current folder was made for a child, because everything in it is removed after each
    document.
    """
    if not Path.cwd().name.startswith(wire.FOLDER_PREFIX):
        raise SystemExit("a parser child works only in its own folder")
    sandbox.die_with_parent(parent_pid)
    sandbox.cut_network()
    sandbox.limit_files()
    sandbox.limit_memory(memory_bytes)
    sys.setrecursionlimit(MAX_RECURSION)
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    with os.fdopen(answers_fd, "wb") as answers:
        heartbeat.listen(lambda: _send(answers, wire.BEAT))
        number = 0
        while (request := _next_request(sys.stdin.buffer)) is not None:
            number += 1
            _send(answers, _answer(request))
            _forget_document(number)


def _send(answers: BinaryIO, message: dict[str, Any]) -> None:
    answers.write(wire.pack(message))
    answers.flush()


def _next_request(stream: BinaryIO) -> dict[str, Any] | None:
    head = stream.read(wire.LENGTH.size)
    if len(head) < wire.LENGTH.size:
        return None
    (length,) = wire.LENGTH.unpack(head)
    return wire.unpack(stream.read(length))


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    try:
        sandbox.limit_cpu(float(request["cpu_seconds"]))
        blocks = _read(Path(request["path"]), str(request["name"]), int(request["output_bytes"]))
        return {"blocks": wire.blocks_to_lists(blocks)}
    except DocumentError as exc:
        return {**_error(exc.code, exc.detail), "cause": _where(exc.__cause__ or exc)}
    except MemoryError:
        return _error("parse-memory", "Reading this file takes too much memory. Split it into smaller files.", True)
    except RecursionError:
        return _error("too-deep", "This file is nested too deeply to be read. Save it in a flatter form.", True)
    except Exception as exc:  # whatever a reader's library raises: the file is at fault
        if isinstance(exc, OSError) and exc.errno in MACHINE_ERRORS:
            return {"machine": _where(exc), "retire": True}
        answer = _error(
            "corrupt", "This file is damaged or does not match its name. Open it, save it again, and retry."
        )
        return {**answer, "cause": _where(exc)}


def _where(exc: BaseException) -> str:
    """Return the type and the place of an exception, for the log. Its text may quote the document and is left out."""
    frames = [frame for frame, _ in traceback.walk_tb(exc.__traceback__)]
    place = f"{Path(frames[-1].f_code.co_filename).name}:{frames[-1].f_lineno}" if frames else "?"
    return f"{type(exc).__module__}.{type(exc).__qualname__} at {place}"


def _error(code: str, detail: str, retire: bool = False) -> dict[str, Any]:
    return {"error": {"code": code, "detail": detail}, "retire": retire}


def _read(path: Path, name: str, output_bytes: int) -> list[Block]:
    from zhiwen.ingest.parsing.reading import read_document

    blocks: list[Block] = []
    size = 0
    for block in read_document(path, name):
        size += len(block.text.encode()) + sum(map(len, block.heading)) + len(block.header or "") + BLOCK_OVERHEAD_BYTES
        if size > output_bytes:
            raise DocumentError(
                "too-much-text",
                f"This file holds more than {output_bytes / 2**20:.3g} MiB of text. Split it into smaller files.",
            )
        blocks.append(block)
    if not any(block.text for block in blocks):
        raise DocumentError("no-text", "No text was found in this file.")
    return blocks


def _forget_document(number: int) -> None:
    if number % DOCUMENTS_PER_COLLECTION == 0:
        gc.collect()
    for entry in os.scandir("."):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            os.unlink(entry.path)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]))
