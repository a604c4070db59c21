"""Inspects zip and OLE containers before a reader opens them: their true type, encryption, and archive bombs.

Sources: [MS-OFFCRYPTO] 2.3 (EncryptedPackage), ODF 1.2 part 3 (manifest encryption), [MS-OXMSG] 2.2.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

from zhiwen.common.errors import DocumentError
from zhiwen.ingest.parsing.detect import media
from zhiwen.ingest.parsing.registry import BY_MEDIA_TYPE, formats_in

MAX_MEMBERS = 20_000
MAX_UNPACKED_BYTES = 1 << 30
MAX_RATIO = 200
RATIO_FROM_BYTES = 32 << 20
FLAG_ENCRYPTED = 0x1


def encrypted() -> DocumentError:
    """Return the error for a file that needs a password."""
    return DocumentError("encrypted", "This file is protected by a password. Save it without one and upload it again.")


def inspect_container(path: Path, media_type: str) -> str:
    """Return the true media type of a zip or OLE file.

    Raises DocumentError: `encrypted`, `archive-bomb`, `corrupt`, `unsupported-type`.
    """
    with path.open("rb") as file:
        is_ole = file.read(2) == b"\xd0\xcf"
    return _inspect_ole(path, media_type) if is_ole else _inspect_zip(path, media_type)


def _inspect_zip(path: Path, media_type: str) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            check_members(members, path.stat().st_size)
            return _zip_media_type(archive, media_type)
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as exc:
        raise DocumentError("corrupt", "This file is damaged. Open it in its own program and save it again.") from exc


def check_members(members: list[zipfile.ZipInfo], packed_bytes: int) -> None:
    """Raise DocumentError when an office file is encrypted or unpacks to more than 1 GiB or 200 times its size."""
    if any(member.flag_bits & FLAG_ENCRYPTED for member in members):
        raise encrypted()
    unpacked = sum(member.file_size for member in members)
    bomb = unpacked > max(RATIO_FROM_BYTES, packed_bytes * MAX_RATIO)
    if bomb or unpacked > MAX_UNPACKED_BYTES or len(members) > MAX_MEMBERS:
        raise DocumentError("archive-bomb", "This file unpacks to far more than its size. It is not opened.")


def _zip_media_type(archive: zipfile.ZipFile, media_type: str) -> str:
    names = set(archive.namelist())
    if "mimetype" in names and archive.getinfo("mimetype").file_size < 200:
        declared = archive.read("mimetype").decode("ascii", "replace").strip()
        declared = declared.removesuffix("-template")
        if declared in {known.media_type for known in formats_in("zip")}:
            _refuse_encrypted_parts(archive, names)
            return declared
    for prefix, found in _main_parts():
        if any(name.lower().startswith(prefix) for name in names):
            return found
    if "[Content_Types].xml" in names and media_type == media.ZIP:
        raise media.unsupported("")
    return media_type


def _main_parts() -> list[tuple[str, str]]:
    """Return pairs of a member name's beginning and its media type; the surest mark of each format comes first."""
    parts = [(place, mark, known.media_type) for known in formats_in("zip") for place, mark in enumerate(known.marks)]
    return [(mark, media_type) for _, mark, media_type in sorted(parts, key=lambda part: part[0])]


def _refuse_encrypted_parts(archive: zipfile.ZipFile, names: set[str]) -> None:
    for name in names & {"META-INF/manifest.xml", "META-INF/encryption.xml"}:
        text = archive.read(name)
        # In an EPUB, fonts may be obfuscated while the text is not. Only encrypted content counts.
        if b"encryption-data" in text or (b"EncryptedData" in text and b"xhtml" in text):
            raise encrypted()


def _inspect_ole(path: Path, media_type: str) -> str:
    import olefile

    try:
        with olefile.OleFileIO(path) as container:
            streams = {entry[0].lower() for entry in container.listdir(streams=True, storages=True) if entry}
    except Exception as exc:  # olefile raises many kinds for damaged directories
        raise DocumentError("corrupt", "This file is damaged. Open it in its own program and save it again.") from exc
    if streams & {"encryptedpackage", "encryptioninfo", "\tdrmcontent"}:
        raise encrypted()
    for known in formats_in("ole"):
        if streams.intersection(known.marks):
            return known.media_type
    if BY_MEDIA_TYPE[media_type].container == "ole":
        raise DocumentError("corrupt", "This file does not hold a document of the type in its name. Save it again.")
    raise media.unsupported("")
