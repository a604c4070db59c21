"""Unpacks zip archives: file by file, with the right names, and never outside the target folder.

Limits are checked while bytes are written, because an archive may declare wrong sizes.
Source: APPNOTE.TXT 6.3.10 (general purpose bit 11: the name is UTF-8; otherwise its encoding is unknown).
"""

from __future__ import annotations

import contextlib
import errno
import stat
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from zhiwen.common.errors import DocumentError
from zhiwen.common.names import is_plain
from zhiwen.ingest.upload.staging import StagedFile, StagingFile

FLAG_ENCRYPTED, FLAG_UTF8 = 0x1, 0x800
COPY_BYTES = 1 << 16
MAX_NAME_BYTES = 240
RATIO_FROM_BYTES = 1 << 20
"""The ratio applies to larger files only: a small file of zeros packs 1000:1 and does no harm."""


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """The limits of an archive: the number of files, the unpacked bytes, and each file's unpacked to packed `ratio`."""

    files: int
    bytes: int
    ratio: float


@dataclass(frozen=True, slots=True)
class RefusedMember:
    """A file of an archive that is refused, and why."""

    name: str
    error: DocumentError


def unpack(path: Path, into: Path, limits: ArchiveLimits) -> Iterator[StagedFile | RefusedMember]:
    """Yield each file of a zip archive. Each is written to the existing folder `into`, named by a number.

    The yielded names keep their folders (`a/b.txt`) and are unique. Folders, `__MACOSX` and dot files are left out. An
    archive inside the archive is yielded like any file, and is never opened. A `RefusedMember` stands for a file that
    is `encrypted`, `corrupt`, or has an `archive-unsafe-path` (a link, or a name that leads outside).

    Raises `DocumentError` for the whole archive: `corrupt`, `empty-file`, `archive-too-many-files`,
    `archive-too-large`, `archive-bomb` (a file is over the ratio). The files that were already yielded stay valid.
    Raises OSError when the disk is full.
    """
    with _open(path) as archive:
        members = [(name, info) for info in archive.infolist() if _is_wanted(name := member_name(info), info)]
        _check(members, limits)
        left = limits.bytes
        seen: set[str] = set()
        for number, (name, info) in enumerate(members):
            unique = _unique(_shortened(name), seen)
            if refusal := _refusal(name, info):
                yield RefusedMember(unique, refusal)
                continue
            target = into / f"{number:06d}{_suffix(name)}"
            try:
                staged = _write(archive, info, StagingFile(unique, target), left, limits.ratio)
            except _Damaged:
                target.unlink(missing_ok=True)
                yield RefusedMember(unique, _damaged())
            else:
                left -= staged.bytes
                yield staged


def _open(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as exc:  # the last: zipfile lacks the zip's version
        raise DocumentError("corrupt", "This archive is damaged. Pack its files again.") from exc


def member_name(info: zipfile.ZipInfo) -> str:
    """Return the name of a member: UTF-8 if its flag says so, else UTF-8 or GB18030 if the bytes fit, else cp437."""
    name = info.filename
    if not info.flag_bits & FLAG_UTF8 and not name.isascii():
        raw = name.encode("cp437", "replace")
        name = next((text for encoding in ("utf-8", "gb18030") if (text := _sensible(raw, encoding))), name)
    return name.replace("\\", "/")


def _sensible(raw: bytes, encoding: str) -> str | None:
    """Return `raw` decoded; None if the text is no plausible name: private or control characters, or few letters."""
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError:
        return None
    strange = not is_plain(text) or any("\ue000" <= c <= "\uf8ff" for c in text)
    foreign = [c for c in text if c > "\x7f"]
    letters = sum("\u4e00" <= c <= "\u9fff" or c.isalnum() or c in "（）《》【】“”、，。·—－＋" for c in foreign)
    return text if not strange and letters * 2 >= len(foreign) else None


def _is_wanted(name: str, info: zipfile.ZipInfo) -> bool:
    parts = PurePosixPath(name).parts
    if info.is_dir() or name.endswith("/") or not parts:
        return False
    return "__MACOSX" not in parts and not any(part.startswith(".") and part != ".." for part in parts)


def _check(members: list[tuple[str, zipfile.ZipInfo]], limits: ArchiveLimits) -> None:
    if not members:
        raise DocumentError("empty-file", "This archive holds no files.")
    if len(members) > limits.files:
        raise DocumentError(
            "archive-too-many-files", f"This archive holds {len(members)} files; {limits.files} are allowed. Split it."
        )
    if sum(info.file_size for _, info in members) > limits.bytes:
        raise _too_large(limits.bytes)
    for _, info in members:
        if info.file_size > _ceiling(info, limits.ratio):
            raise _bomb()


def _ceiling(info: zipfile.ZipInfo, ratio: float) -> float:
    return max(RATIO_FROM_BYTES, info.compress_size * ratio)


def _refusal(name: str, info: zipfile.ZipInfo) -> DocumentError | None:
    parts = PurePosixPath(name).parts
    mode = info.external_attr >> 16
    if name.startswith("/") or ".." in parts or ":" in parts[0] or "\0" in name:
        return DocumentError("archive-unsafe-path", "The name of this file leads outside of the archive.")
    if stat.S_IFMT(mode) not in {0, stat.S_IFREG}:
        return DocumentError("archive-unsafe-path", "Links and devices inside an archive are not followed.")
    if info.flag_bits & FLAG_ENCRYPTED:
        return DocumentError("encrypted", "This file is protected by a password. Pack it without one.")
    return None


def _shortened(name: str) -> str:
    """Return `name`. If it is too long, return its end: the last folders that fit, or the end of the file name."""
    if len(name.encode()) <= MAX_NAME_BYTES:
        return name
    end = str(PurePosixPath("/", name)).encode()[-MAX_NAME_BYTES:].decode(errors="ignore")
    return end.partition("/")[2] or end


def _unique(name: str, seen: set[str]) -> str:
    """Return `name`, with a number if an earlier member has the same name."""
    suffix = PurePosixPath(name).suffix
    candidate, number = name, 2
    while candidate in seen:
        candidate = f"{name.removesuffix(suffix)} ({number}){suffix}"
        number += 1
    seen.add(candidate)
    return candidate


def _suffix(name: str) -> str:
    suffix = PurePosixPath(name).suffix.lower()
    return suffix if suffix[1:].isalnum() and suffix.isascii() and len(suffix) <= 10 else ""


def _write(archive: zipfile.ZipFile, info: zipfile.ZipInfo, file: StagingFile, left: int, ratio: float) -> StagedFile:
    """Write a member of `archive` to `file`.

    Raises DocumentError over `left` bytes or over the ratio, `_Damaged` for damaged bytes, and OSError.
    """
    ceiling = _ceiling(info, ratio)
    with contextlib.closing(file):
        with _damage_of_the_member():
            source = archive.open(info)
        with source:
            while data := _read(source):
                if file.bytes + len(data) > left:
                    raise _too_large(left)
                if file.bytes + len(data) > ceiling:
                    raise _bomb()
                file.write(data)
        return file.finish()


def _read(source: IO[bytes]) -> bytes:
    with _damage_of_the_member():
        return source.read(COPY_BYTES)


class _Damaged(Exception):
    """A member is damaged and cannot be read."""


@contextlib.contextmanager
def _damage_of_the_member() -> Iterator[None]:
    """Turn every error of zipfile and the decompressors for damaged bytes into `_Damaged`.

    There are many: bz2 raises OSError without a number, a wrong offset gives EINVAL or OverflowError, and LZMA has its
    own error. Errors of the disk pass.
    """
    try:
        yield
    except Exception as exc:
        if isinstance(exc, OSError) and exc.errno not in (None, errno.EINVAL):
            raise
        raise _Damaged from exc


def _damaged() -> DocumentError:
    return DocumentError("corrupt", "This file is damaged inside the archive. Pack it again.")


def _too_large(max_bytes: int) -> DocumentError:
    return DocumentError("archive-too-large", f"This archive unpacks to more than {max_bytes} bytes. Split it.")


def _bomb() -> DocumentError:
    return DocumentError("archive-bomb", "This archive unpacks to far more than its size. It is not opened.")
