"""Reads a document: detects its type, inspects its container, reads it, and normalises its text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

from zhiwen.common.errors import DocumentError
from zhiwen.common.models import Block
from zhiwen.ingest.parsing.detect import media
from zhiwen.ingest.parsing.registry import Reader, find_reader
from zhiwen.ingest.parsing.text.normalise import clean_text, one_line


def read_document(path: Path, name: str) -> Iterator[Block]:
    """Yield the blocks of a document with normalised text. Raises DocumentError, and any error of its reader."""
    with path.open("rb") as file:
        head = file.read(media.LOOK_BYTES)
    media_type = media.detect_media_type(head, name)
    if head.startswith((b"PK", b"\xd0\xcf")):
        from zhiwen.ingest.parsing.detect.containers import inspect_container

        media_type = inspect_container(path, media_type)
    for block in _reader(media_type, name)(path):
        cleaned = _clean(block)
        if cleaned.text.strip():
            yield cleaned


def _reader(media_type: str, name: str) -> Reader:
    if media_type == media.ZIP:
        raise DocumentError(
            "unsupported-type", "An archive inside an archive is not opened. Upload its files one by one."
        )
    reader = find_reader(media_type)
    if reader is None:
        raise media.unsupported(PurePosixPath(name).suffix.lower())
    return reader


def _clean(block: Block) -> Block:
    return replace(
        block,
        text=clean_text(block.text),
        heading=tuple(filter(None, (one_line(clean_text(title)) for title in block.heading))),
        header=clean_text(block.header) if block.header else None,
    )
