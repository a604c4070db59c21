"""Shared by the readers of .doc and .ppt: their error, and the conversion by LibreOffice if it is installed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from zhiwen.common.errors import DocumentError
from zhiwen.common.models import Block
from zhiwen.ingest.parsing.runtime.programs import run_program

Reader = Callable[[Path], Iterator[Block]]


def damaged() -> DocumentError:
    """Return the error for a file whose structure is broken."""
    return DocumentError(
        "corrupt", "This file is damaged or very old. Open it in Office and save it as .docx or .pptx."
    )


def read_or_convert(path: Path, kind: str, read: Reader, read_converted: Reader) -> Iterator[Block]:
    """Yield the blocks that `read` finds in the file.

    If `read` reports a damaged file and `soffice` is installed, LibreOffice converts the file of this `kind` (`doc` or
    `ppt`) to the newer format, and `read_converted` reads the result.
    """
    try:
        blocks = list(read(path))
    except DocumentError as exc:
        program = shutil.which("soffice")
        if exc.code != "corrupt" or program is None:
            raise
        blocks = list(read_converted(_converted(program, path, kind)))
    yield from blocks


def _converted(program: str, path: Path, kind: str) -> Path:
    source = Path(f"document.{kind}")
    shutil.copyfile(path, source)
    run_program([program, "--headless", "--convert-to", f"{kind}x", "--outdir", ".", str(source)])
    target = source.with_suffix(f".{kind}x")
    if not target.exists():
        raise damaged()
    return target
