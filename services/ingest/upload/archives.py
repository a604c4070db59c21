"""Zip archives: their files one by one, with the right names, never outside the folder they are unpacked into.

Limits are checked while bytes are written, for what an archive says about itself may be a lie.
Source: APPNOTE.TXT 6.3.10 (general purpose bit 11: the name is UTF-8; otherwise its encoding is not told).
"""

from __future__ import annotations

import contextlib
import errno
import stat
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from zhiwen.common.errors import DocumentError
from zhiwen.common.names import is_plain

FLAG_ENCRYPTED, FLAG_UTF8 = 0x1, 0x800
COPY_BYTES = 1 << 16
MAX_NAME_BYTES = 240
# A small file of zeros packs 1000:1 and harms nobody: the ratio counts from here on.
RATIO_FROM_BYTES = 1 << 20


Refused = Callable[[str, DocumentError], None]


def unpack(
    path: Path, into: Path, *, max_files: int, max_bytes: int, max_ratio: float, refused: Refused | None = None
) -> Iterator[tuple[str, Path]]:
    """Yield (name, file) for each file of a zip archive, written below `into` (which exists) under a number.

    Names keep their folders (`a/b.txt`) and are unique. Folders, `__MACOSX` and dot files are left out; an archive
    inside the archive comes as the file that it is and is never opened. A member that cannot be had (`encrypted`,
    `corrupt`, `archive-unsafe-path` for links and names that lead outside) is told to `refused` and the others go on;
    without `refused` its error is raised.

    Raises DocumentError for the whole archive: `corrupt`, `empty-file`, `archive-too-many-files`, `archive-too-large`
    (over `max_bytes` unpacked), `archive-bomb` (a member unpacks to over `max_ratio` times its size); what was yielded
    before stands. Raises OSError when `into` is full.
    """
    archive = _open(path)
    with archive:
        members = [(name, info) for info in archive.infolist() if _is_wanted(name := member_name(info), info)]
        _check(members, max_files, max_bytes, max_ratio)
        left = max_bytes
        seen: set[str] = set()
        for number, (name, info) in enumerate(members):
            unique = _unique(_shortened(name), seen)
            target = into / f"{number:06d}{_suffix(name)}"
            refusal = _refusal(name, info) or _extract(archive, info, target, left, max_ratio)
            if refusal is None:
                left -= info.file_size
                yield unique, target
            elif refused is None:
                raise refusal
            else:
                refused(unique, refusal)


def _open(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as exc:
        raise DocumentError("corrupt", "This archive is damaged. Pack its files again.") from exc


def _extract(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path, left: int, max_ratio: float
) -> DocumentError | None:
    """Write a member to `target`; return the error of one that is damaged."""
    try:
        _write(archive, info, target, left, max_ratio)
    except _Damaged:
        target.unlink(missing_ok=True)
        return DocumentError("corrupt", "This file is damaged inside the archive. Pack it again.")
    return None


def member_name(info: zipfile.ZipInfo) -> str:
    """Return a member's name as it was meant: UTF-8 where flagged, else UTF-8 or GBK where it is that, else cp437."""
    name = info.filename
    if not info.flag_bits & FLAG_UTF8 and not name.isascii():
        raw = name.encode("cp437", "replace")
        name = next((text for encoding in ("utf-8", "gb18030") if (text := _sensible(raw, encoding))), name)
    return name.replace("\\", "/")


def _sensible(raw: bytes, encoding: str) -> str | None:
    """Return `raw` decoded where that gives a name a person would write: letters, no private or control characters."""
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


def _check(members: list[tuple[str, zipfile.ZipInfo]], max_files: int, max_bytes: int, max_ratio: float) -> None:
    if not members:
        raise DocumentError("empty-file", "This archive holds no files.")
    if len(members) > max_files:
        raise DocumentError(
            "archive-too-many-files", f"This archive holds {len(members)} files, {max_files} are allowed. Split it."
        )
    if sum(info.file_size for _, info in members) > max_bytes:
        raise _too_large(max_bytes)
    for _, info in members:
        if info.file_size > max(RATIO_FROM_BYTES, info.compress_size * max_ratio):
            raise _bomb()


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
    """Return `name`, of a too long one its end: the whole folders that fit, or the end of the file's own name."""
    if len(name.encode()) <= MAX_NAME_BYTES:
        return name
    end = str(PurePosixPath("/", name)).encode()[-MAX_NAME_BYTES:].decode(errors="ignore")
    return end.partition("/")[2] or end


def _unique(name: str, seen: set[str]) -> str:
    """Return `name`, numbered where an earlier member has it."""
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


def _write(archive: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path, left: int, max_ratio: float) -> None:
    """Write a member to `target`; raises DocumentError past what is left or the ratio, `_Damaged`, and OSError."""
    written = 0
    ceiling = max(RATIO_FROM_BYTES, info.compress_size * max_ratio)
    with _damage_of_the_member():
        source = archive.open(info)
    with source, target.open("xb") as sink:
        while data := _read(source):
            written += len(data)
            if written > left:
                raise _too_large(left)
            if written > ceiling:
                raise _bomb()
            sink.write(data)


def _read(source: IO[bytes]) -> bytes:
    with _damage_of_the_member():
        return source.read(COPY_BYTES)


class _Damaged(Exception):
    """A member cannot be read."""


@contextlib.contextmanager
def _damage_of_the_member() -> Iterator[None]:
    """Turn what zipfile and the decompressors raise for damaged bytes into `_Damaged`; that has no end: bz2 raises
    OSError without a number, a wrong offset gives EINVAL or OverflowError, LZMA has an error of its own.
    """
    try:
        yield
    except Exception as exc:
        if isinstance(exc, OSError) and exc.errno not in (None, errno.EINVAL):
            raise  # the disk's
        raise _Damaged from exc


def _too_large(max_bytes: int) -> DocumentError:
    return DocumentError("archive-too-large", f"This archive unpacks to more than {max_bytes} bytes. Split it.")


def _bomb() -> DocumentError:
    return DocumentError("archive-bomb", "This archive unpacks to far more than its size. It is not opened.")
