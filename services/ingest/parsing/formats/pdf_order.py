"""Puts the characters of a PDF line into the order in which they are seen on the page.

Many programs draw the quotation marks of a Chinese line with another font, in a separate run. pdfium gives the text in
drawing order, so `“主要官员”` becomes `“”主要官员`. To read the place of every character is slow, so it is done only
for pages that show the symptom: an empty pair of quotation marks or brackets.

Lines and columns stay in the order in which they are drawn, which is the order of reading in most files.
"""

from __future__ import annotations

import ctypes
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import pypdfium2
from pypdfium2 import raw

from zhiwen.ingest.parsing.text.normalise import close_wide_gaps

EMPTY_PAIR = re.compile(r"“\s?”|‘\s?’|「\s?」|『\s?』|《\s?》|（\s?）|【\s?】|”\s?“")
LEVEL_POINTS = 3.0
LINE_FEED, CARRIAGE_RETURN = 0x0A, 0x0D
MAX_CODE_POINT = 0x10FFFF


class Placed(NamedTuple):
    """A character and its origin, in points from the page's lower left corner."""

    code: int
    x: float
    y: float


def ordered_text(text_page: pypdfium2.PdfTextPage) -> str:
    """Return the text of a page. If its characters seem to be out of order, its lines are put into visual order."""
    text = str(text_page.get_text_bounded(errors="ignore"))
    if not seems_disordered(text):
        return text
    return "\n".join(line_text(line) for line in _lines(text_page))


def seems_disordered(text: str) -> bool:
    """Return whether a text has an empty pair of quotation marks or brackets, or a closing mark before an opening."""
    return EMPTY_PAIR.search(text) is not None


def line_text(line: Sequence[Placed]) -> str:
    """Return the text of a line from left to right.

    A line that is not level (rotated text, a formula) or that is written from right to left keeps its drawing order.
    """
    placed = [(chr(code) if code <= MAX_CODE_POINT else "", x) for code, x, _ in line]
    if _is_level(line) and not _is_right_to_left(character for character, _ in placed):
        placed.sort(key=lambda character: character[1])
    text = close_wide_gaps("".join(character for character, _ in placed))
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _is_level(line: Sequence[Placed]) -> bool:
    heights = [y for _, _, y in line]
    return bool(heights) and max(heights) - min(heights) < LEVEL_POINTS


def _is_right_to_left(characters: Iterable[str]) -> bool:
    return any(unicodedata.bidirectional(character) in {"R", "AL"} for character in characters if character)


def _lines(text_page: pypdfium2.PdfTextPage) -> list[list[Placed]]:
    x, y = ctypes.c_double(), ctypes.c_double()
    lines: list[list[Placed]] = [[]]
    for index in range(text_page.count_chars()):
        code = raw.FPDFText_GetUnicode(text_page.raw, index)
        if code == LINE_FEED:
            lines.append([])
        elif code != CARRIAGE_RETURN:
            # A space that pdfium has inserted has no place: it stays after the character before it.
            if raw.FPDFText_IsGenerated(text_page.raw, index) != 1:
                raw.FPDFText_GetCharOrigin(text_page.raw, index, x, y)
            lines[-1].append(Placed(code, x.value, y.value))
    return lines
