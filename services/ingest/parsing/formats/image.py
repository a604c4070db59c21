"""Reads pictures of text (PNG, JPEG, TIFF with any number of pages) by OCR."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageSequence

from zhiwen.common.errors import DocumentError
from zhiwen.common.models import Block
from zhiwen.ingest.parsing.formats.ocr import MAX_PIXELS, recognise
from zhiwen.ingest.parsing.formats.pdf import paragraphs
from zhiwen.ingest.parsing.text.normalise import clean_text

MAX_FRAMES = 500
REFUSED_PIXELS = 4 * MAX_PIXELS
# Tesseract reads letters of 20 to 40 pixels best, so a small screenshot is doubled in size.
SMALL_SIDE = 1_000


def read_image(path: Path) -> Iterator[Block]:
    """Yield the paragraphs of each page; raises DocumentError `no-text`, `corrupt`, `image-too-large`."""
    Image.MAX_IMAGE_PIXELS = None
    with Image.open(path, formats=("PNG", "JPEG", "TIFF")) as image:
        for number, frame in enumerate(ImageSequence.Iterator(image), start=1):
            if frame.width * frame.height > REFUSED_PIXELS:
                raise DocumentError(
                    "image-too-large", "This image has more than 160 million pixels. Save it with fewer pixels."
                )
            for paragraph in paragraphs(clean_text(_text(frame))):
                yield Block(paragraph, page=number)
            if number >= MAX_FRAMES:
                return


def _text(frame: Image.Image) -> str:
    picture = frame.convert("RGBA").convert("L") if frame.mode in {"P", "LA", "PA"} else frame.convert("L")
    scale = 2.0 if max(picture.size) < SMALL_SIDE else min(1.0, (MAX_PIXELS / (picture.width * picture.height)) ** 0.5)
    if scale != 1.0:
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    with tempfile.NamedTemporaryFile(suffix=".png", dir=".") as file:
        picture.save(file, "png")
        file.flush()
        return recognise(Path(file.name))
