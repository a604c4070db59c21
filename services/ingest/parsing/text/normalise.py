"""Normalises text, and tracks the path of headings that every block carries."""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise

MAX_HEADING_CHARACTERS = 200
MAX_HEADING_LEVELS = 9

_LINE_ENDS = re.compile(r"\r\n?|[\x0b\x0c\x85\u2028\u2029]")
# C0 and C1 controls but for tab and newline; zero-width no-break space (a stray BOM); soft hyphen; word joiner;
# bidirectional overrides; lone surrogates; noncharacters. U+200C and U+200D stay: some scripts and emoji need them.
_UNWANTED = re.compile(
    "\x1b\\[[0-9;]*[A-Za-z]|[\x00-\x08\x0e-\x1f\x7f-\x9f\ufeff\u00ad\u200b\u2060"
    "\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]"
)
# A match begins only at the first space of a run. A try at each space would take quadratic time.
_TRAILING_SPACE = re.compile(r"(?<![ \t\u00a0\u3000])[ \t\u00a0\u3000]++(?=\n|\Z)")
_WIDE_GAP = re.compile("(?<=[\u2e80-\uffee]) | (?=[\u2e80-\uffee])")
_BLANK_LINES = re.compile(r"\n{3,}")


def clean_text(text: str) -> str:
    """Return `text` in NFC, with `\\n` as line end, without controls, trailing spaces and repeated blank lines."""
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    text = _LINE_ENDS.sub("\n", text)
    text = _UNWANTED.sub("", text)
    text = _TRAILING_SPACE.sub("", text)
    return _BLANK_LINES.sub("\n\n", text).strip("\n")


def one_line(text: str) -> str:
    """Return `text` with one space for each run of white space."""
    return " ".join(text.split())


def unwrap_lines(text: str) -> str:
    """Return `text` without its hard line breaks: joined at Chinese characters, with a space elsewhere."""
    lines = [stripped for line in text.split("\n") if (stripped := line.strip())]
    joined = lines[:1]
    for before, line in pairwise(lines):
        glue = "" if _is_wide(before[-1]) or _is_wide(line[0]) else " "
        joined.append(glue + line)
    return "".join(joined)


def close_wide_gaps(text: str) -> str:
    """Return `text` without single spaces next to Chinese characters. OCR and PDF readers insert such spaces."""
    return _WIDE_GAP.sub("", text)


def _is_wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in "WF"


class Outline:
    """The titles above the current place of a document."""

    def __init__(self) -> None:
        self._open: list[tuple[int, str]] = []

    @property
    def path(self) -> tuple[str, ...]:
        """The open titles, outermost first."""
        return tuple(title for _, title in self._open)

    def enter(self, level: int, title: str) -> tuple[str, ...]:
        """Open `title` at `level` (1 is the highest) after closing this level and below; return the path above it."""
        while self._open and self._open[-1][0] >= level:
            self._open.pop()
        above = self.path
        title = one_line(title)[:MAX_HEADING_CHARACTERS]
        if title and len(self._open) < MAX_HEADING_LEVELS:
            self._open.append((level, title))
        return above
