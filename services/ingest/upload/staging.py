"""Staging: the files of a request are kept here from their first byte until the store of originals has them.

Each request has its own folder, which is removed when the request ends. If the process is killed, the next start
removes the folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from fastapi import Request
from starlette.requests import ClientDisconnect

from zhiwen.common.errors import InvalidRequest, TooLarge
from zhiwen.common.originals import storage_error


@dataclass(frozen=True, slots=True)
class StagedFile:
    """A complete file: its bytes are at `path`. `name` is the name that the client sent, not yet checked."""

    name: str
    path: Path
    bytes: int
    sha256: str


class StagingFile:
    """A file that is being received. It writes, counts and hashes its bytes."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self.bytes = 0
        self._path = path
        self._digest = hashlib.sha256()
        self._sink = path.open("xb")

    def write(self, data: bytes, *, max_bytes: int | None = None) -> None:
        """Append `data`. Raises `TooLarge` (`file-too-large`) once the file is larger than `max_bytes`."""
        self.bytes += len(data)
        if max_bytes is not None and self.bytes > max_bytes:
            raise TooLarge("file-too-large", f"{self.name} is larger than {max_bytes} bytes; nothing of it was stored.")
        self._digest.update(data)
        self._sink.write(data)

    def finish(self) -> StagedFile:
        """Close the file, and return it as a complete one."""
        self.close()
        return StagedFile(self.name, self._path, self.bytes, self._digest.hexdigest())

    def close(self) -> None:
        """Close the file, complete or not."""
        self._sink.close()


async def stage_body(request: Request, folder: Path, name: str, *, max_bytes: int) -> StagedFile:
    """Write the raw body of a request to a file in `folder`. Raises what `StagingFile` and `receiving` raise."""
    with receiving(), contextlib.closing(StagingFile(name, folder / "0")) as file:
        async for data in request.stream():
            file.write(data, max_bytes=max_bytes)
        return file.finish()


@contextmanager
def receiving() -> Iterator[None]:
    """Translate errors while a body is received: `client-disconnected`, and what `storage_error` returns."""
    try:
        yield
    except ClientDisconnect as exc:
        raise InvalidRequest(
            "client-disconnected", "The client disconnected during the upload; nothing was stored."
        ) from exc
    except OSError as exc:
        raise storage_error(exc) from exc


@asynccontextmanager
async def staging_folder(root: Path) -> AsyncIterator[Path]:
    """Yield a folder for one request below `root`, and remove it when the request ends or fails.

    The folder is locked meanwhile, so `remove_leftovers` in another process leaves it alone.
    """
    folder, lock = await asyncio.to_thread(_new_folder, root)
    try:
        yield folder
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        os.close(lock)


def remove_leftovers(root: Path) -> None:
    """Remove the folders of requests whose process is dead. A living process holds a lock on each of its folders."""
    with contextlib.suppress(OSError), _locked(root, fcntl.LOCK_EX):
        for folder in root.iterdir():
            with contextlib.suppress(OSError), _locked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
                shutil.rmtree(folder, ignore_errors=True)


def _new_folder(root: Path) -> tuple[Path, int]:
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _locked(root, fcntl.LOCK_SH):  # remove_leftovers waits until the new folder is locked
            folder = Path(tempfile.mkdtemp(dir=root))
            return folder, _lock(folder, fcntl.LOCK_EX)
    except OSError as exc:
        raise storage_error(exc) from exc


@contextmanager
def _locked(folder: Path, how: int) -> Iterator[None]:
    descriptor = _lock(folder, how)
    try:
        yield
    finally:
        os.close(descriptor)


def _lock(folder: Path, how: int) -> int:
    """Return an open descriptor. It holds the lock until it is closed or its process dies."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, how)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
