"""The files to upload: on disk or in memory, found in folders, and cut into batches."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeAlias

BATCH_FILES = 8
BATCH_BYTES = 64 * 1024 * 1024

OnBytes: TypeAlias = Callable[[int], None]
"""Called with the number of bytes of a file that were just read."""


def ignore(_count: int) -> None:
    """Do nothing with the number of bytes read."""


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file on disk, and the name that its document will have. `size` is in bytes."""

    path: Path
    name: str
    size: int

    @classmethod
    def at(cls, path: Path, name: str | None = None) -> LocalFile:
        """Return the file at a path, named like the file unless `name` is given.

        Raises `OSError` when the file cannot be looked at.
        """
        return cls(path, readable_name(name or path.name), path.stat().st_size)

    def open(self, on_bytes: OnBytes) -> BinaryIO:
        """Open it for reading. Raises `OSError`."""
        return _CountedFile(self.path, on_bytes)


@dataclass(frozen=True, slots=True)
class BytesFile:
    """The bytes of a file in memory, and the name that its document will have."""

    name: str
    content: bytes

    @property
    def size(self) -> int:
        """The size in bytes."""
        return len(self.content)

    def open(self, on_bytes: OnBytes) -> BinaryIO:
        """Open it for reading."""
        return _CountedBytes(self.content, on_bytes)


Source: TypeAlias = LocalFile | BytesFile
File: TypeAlias = str | os.PathLike[str] | tuple[str, bytes] | Source
"""What a client accepts as a file: the path of a file or folder, or a name with its bytes."""


class _CountedFile(io.FileIO):
    """A file that calls `on_bytes` when it is read."""

    def __init__(self, path: Path, on_bytes: OnBytes) -> None:
        super().__init__(path, "rb")
        self._on_bytes = on_bytes

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(-1 if size is None else size) or b""
        self._on_bytes(len(data))
        return data


class _CountedBytes(io.BytesIO):
    """Bytes in memory that call `on_bytes` when they are read."""

    def __init__(self, content: bytes, on_bytes: OnBytes) -> None:
        super().__init__(content)
        self._on_bytes = on_bytes

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self._on_bytes(len(data))
        return data


class Meter:
    """Tells `on_bytes` how many bytes were read for a request, and takes back those of a failed attempt."""

    def __init__(self, on_bytes: OnBytes) -> None:
        self._on_bytes = on_bytes
        self._read = 0

    def __call__(self, count: int) -> None:
        self._read += count
        self._on_bytes(count)

    def restart(self) -> None:
        """Take back what was counted, because the attempt failed."""
        if self._read:
            self._on_bytes(-self._read)
        self.keep()

    def keep(self) -> None:
        """Keep what was counted, because the attempt succeeded."""
        self._read = 0


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing. It appears at `path` when the block ends, and does not when the block raises."""
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def named_source(name: str, content: bytes | Path) -> Source:
    """Return the bytes, or the file at the path, under a name. Raises `OSError` for an unreadable path."""
    match content:
        case bytes():
            return BytesFile(name, content)
        case Path():
            return LocalFile.at(content, name)
        case _:
            raise TypeError("The content is bytes, or a Path of the file that holds them; str.encode() makes bytes.")


def readable_name(name: str) -> str:
    """Return a file name as text. Names of old Chinese systems are GB18030 bytes, which Python shows as surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return os.fsencode(name).decode("gb18030", "replace")
    return name


def sources(files: Iterable[File]) -> list[Source]:
    """Return the files to upload. A folder means all files below it but the hidden ones.

    The name of a file is its file name, and the name of a file in a folder is its path below that folder. Raises
    `ValueError` when a path does not exist or two files would have the same name, and `OSError` for an unreadable path.
    """
    if isinstance(files, str | bytes):
        raise TypeError("Pass the files in a list, also a single one.")
    found: dict[str, Source] = {}
    for file in files:
        for source in _sources_of(file):
            other = found.setdefault(source.name, source)
            if not _is_same(other, source):
                raise ValueError(
                    f"{_place(other)} and {_place(source)} would both be the document {source.name}; "
                    "add the folder above both, or give them different names."
                )
    return list(found.values())


def _sources_of(file: File) -> Iterator[Source]:
    match file:
        case LocalFile() | BytesFile():
            yield file
        case (str(name), bytes(content)):
            yield BytesFile(name, content)
        case str() | os.PathLike():
            yield from _files_at(Path(file))
        case _:
            raise TypeError(f"A file is a path, or a name with its bytes, not {file!r}.")


def _files_at(path: Path) -> Iterator[LocalFile]:
    if path.is_file():
        yield LocalFile.at(path)
    elif path.is_dir():
        for folder, folders, names in os.walk(path):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                file = Path(folder) / name
                if not name.startswith(".") and file.is_file():
                    yield LocalFile.at(file, file.relative_to(path).as_posix())
    else:
        raise ValueError(f"{path} does not exist." if not path.exists() else f"{path} is neither a file nor a folder.")


def _is_same(one: Source, other: Source) -> bool:
    if isinstance(one, LocalFile) and isinstance(other, LocalFile):
        return one is other or one.path.resolve() == other.path.resolve()
    return one is other


def _place(source: Source) -> str:
    return str(source.path) if isinstance(source, LocalFile) else f"{source.size} bytes"


def batches(files: Iterable[Source]) -> Iterator[list[Source]]:
    """Cut files into batches of at most `BATCH_FILES` files and `BATCH_BYTES`. A larger file is a batch alone."""
    batch: list[Source] = []
    size = 0
    for file in files:
        if batch and (len(batch) == BATCH_FILES or size + file.size > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(file)
        size += file.size
    if batch:
        yield batch
