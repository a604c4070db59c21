"""Recognises Chinese and English text in pictures with the program `tesseract`. PDF pages are rendered first."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from zhiwen.common.errors import DocumentError
from zhiwen.ingest.parsing.runtime import heartbeat
from zhiwen.ingest.parsing.runtime.programs import run_program
from zhiwen.ingest.parsing.text.normalise import close_wide_gaps

if TYPE_CHECKING:
    import pypdfium2

LANGUAGES = ("chi_sim", "eng")
DOTS_PER_INCH = 200
MAX_PIXELS = 40_000_000
POINTS_PER_INCH = 72


def recognise_page(page: pypdfium2.PdfPage) -> str:
    """Return the text of a PDF page, rendered at 200 dpi, or less for a huge page."""
    width, height = page.get_size()
    scale = DOTS_PER_INCH / POINTS_PER_INCH
    pixels = max(1.0, width * height * scale * scale)
    scale *= min(1.0, (MAX_PIXELS / pixels) ** 0.5)
    with tempfile.NamedTemporaryFile(suffix=".png", dir=".") as file:
        page.render(scale=scale, grayscale=True).to_pil().save(file, "png")
        file.flush()
        return recognise(Path(file.name))


def recognise(image: Path) -> str:
    """Return the text of an image file.

    Raises DocumentError: `no-text` if tesseract or its languages are missing, `corrupt`, `parse-timeout`.
    """
    program = shutil.which("tesseract")
    if program is None:
        raise ocr_missing()
    command = [program, str(image), "-", "-l", "+".join(LANGUAGES), "--psm", "3"]
    done = run_program(command)
    heartbeat.beat()
    if done.code and b"Error opening data file" in done.errors:
        raise ocr_missing()
    if done.code:
        raise DocumentError("corrupt", "This image cannot be read. Save it as PNG and upload it again.")
    return close_wide_gaps(done.output.decode("utf-8", "replace"))


def ocr_missing() -> DocumentError:
    """Return the error that names what to install."""
    return DocumentError(
        "no-text",
        "This document is an image without text, and no OCR is installed here. Install tesseract with its languages "
        "chi_sim and eng (Debian: tesseract-ocr tesseract-ocr-chi-sim), or upload a version with a text layer.",
    )
