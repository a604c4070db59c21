"""Where requests put what they receive: a folder for each, removed with it, or later if its process was killed."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from zhiwen.common.originals import storage_error


@asynccontextmanager
async def incoming_folder(root: Path) -> AsyncIterator[Path]:
    """A folder for one request, removed when it ends however it ends; locked, so that nobody takes it for left over."""
    folder, lock = await asyncio.to_thread(_new_folder, root)
    try:
        yield folder
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        os.close(lock)


def remove_leftovers(root: Path) -> None:
    """Remove the folders of requests whose process is gone; those of other processes that live are locked."""
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
