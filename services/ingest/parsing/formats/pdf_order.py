"""Characters of a PDF line back into the order in which they stand on the page.

Many writers draw the quotation marks of a Chinese line with another font, in a run of their own; pdfium gives the
text in drawing order, so that `“主要官员”` comes out as `“”主要官员`. To ask for the place of every character is slow:
only pages that show the symptom (an empty pair of quotation marks or brackets) are asked.
"""

from __future__ import annotations

import ctypes
import re
import unicodedata
from collections.abc import Sequence

import pypdfium2
from pypdfium2 import raw

from zhiwen.ingest.parsing.text.normalise import close_wide_gaps

EMPTY_PAIR = re.compile(r"“\s?”|‘\s?’|「\s?」|『\s?』|《\s?》|（\s?）|【\s?】|”\s?“")
# (character code, x, y) of each character in drawing order; x and y in points from the page's lower left corner.
Placed = tuple[int, float, float]


def ordered_text(text_page: pypdfium2.PdfTextPage) -> str:
    """Return the text of a page, its lines put in visual order where they seem to be out of it."""
    text = str(text_page.get_text_bounded(errors="ignore"))
    if not EMPTY_PAIR.search(text):
        return text
    return "\n".join(_line_text(line) for line in _lines(text_page))


def _lines(text_page: pypdfium2.PdfTextPage) -> list[list[Placed]]:
    x, y = ctypes.c_double(), ctypes.c_double()
    lines: list[list[Placed]] = [[]]
    for index in range(text_page.count_chars()):
        code = raw.FPDFText_GetUnicode(text_page.raw, index)
        if code == 0x0A:
            lines.append([])
        elif code != 0x0D:
            # A space that pdfium has put in has no place of its own: it stays behind the character before it.
            if raw.FPDFText_IsGenerated(text_page.raw, index) != 1:
                raw.FPDFText_GetCharOrigin(text_page.raw, index, x, y)
            lines[-1].append((code, x.value, y.value))
    return lines


def _line_text(line: Sequence[Placed]) -> str:
    placed = [(chr(code) if code <= 0x10FFFF else "", x, y) for code, x, y in line]
    if _is_level(line) and not any(unicodedata.bidirectional(c) in {"R", "AL"} for c, _, _ in placed if c):
        placed.sort(key=lambda character: character[1])
    text = close_wide_gaps("".join(character for character, _, _ in placed))
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _is_level(line: Sequence[Placed]) -> bool:
    heights = [y for _, _, y in line]
    return bool(heights) and max(heights) - min(heights) < 3.0
