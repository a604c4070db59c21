"""Staging: where the files of a request lie, from their first byte until the originals hold them.

Each request has a folder, which is removed with it. When its process is killed, the next start removes it.
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
    """A file that has arrived whole: its bytes lie at `path`. `name` is what the client called it, not yet checked."""

    name: str
    path: Path
    bytes: int
    sha256: str


class StagingFile:
    """A file that is arriving: it writes, counts and hashes what comes."""

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
            raise TooLarge("file-too-large", f"{self.name} is larger than {max_bytes} bytes; nothing of it was kept.")
        self._digest.update(data)
        self._sink.write(data)

    def finish(self) -> StagedFile:
        """Close the file and return it as one that has arrived."""
        self.close()
        return StagedFile(self.name, self._path, self.bytes, self._digest.hexdigest())

    def close(self) -> None:
        """Close the file; it may not have arrived whole."""
        self._sink.close()


async def stage_body(request: Request, folder: Path, name: str, *, max_bytes: int) -> StagedFile:
    """Write the raw body of a request to a file in `folder`. Raises what `StagingFile` and `receiving` raise."""
    with receiving(), contextlib.closing(StagingFile(name, folder / "0")) as file:
        async for data in request.stream():
            file.write(data, max_bytes=max_bytes)
        return file.finish()


@contextmanager
def receiving() -> Iterator[None]:
    """Translate what goes wrong while bytes come in: `client-disconnected`, and a disk that cannot take them."""
    try:
        yield
    except ClientDisconnect as exc:
        raise InvalidRequest("client-disconnected", "The upload was broken off; nothing of it was kept.") from exc
    except OSError as exc:
        raise storage_error(exc) from exc


@asynccontextmanager
async def staging_folder(root: Path) -> AsyncIterator[Path]:
    """Give one request a folder below `root`, removed when the request ends, however it ends.

    The folder is locked meanwhile, so that `remove_leftovers` in another process leaves it alone.
    """
    folder, lock = await asyncio.to_thread(_new_folder, root)
    try:
        yield folder
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        os.close(lock)


def remove_leftovers(root: Path) -> None:
    """Remove the folders of requests whose process is gone. A living process holds a lock on each of its own."""
    with contextlib.suppress(OSError), _locked(root, fcntl.LOCK_EX):
        for folder in root.iterdir():
            with contextlib.suppress(OSError), _locked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
                shutil.rmtree(folder, ignore_errors=True)


def _new_folder(root: Path) -> tuple[Path, int]:
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _locked(root, fcntl.LOCK_SH):  # a removal of leftovers waits until the new folder is locked
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
    """Return an open descriptor that holds the lock until it is closed, or until its process dies."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, how)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
