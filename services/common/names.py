"""Tells which texts may be names. Pure."""

from __future__ import annotations

import unicodedata

# Control characters, halves of surrogate pairs, line and paragraph separators.
_REFUSED = frozenset({"Cc", "Cs", "Zl", "Zp"})


def is_plain(text: str) -> bool:
    """Return whether a text can be shown on one line, stored, and compared unchanged.

    `str.isprintable` refuses too much: joined emoji, and the full-width space of Chinese file names.
    """
    return not any(unicodedata.category(character) in _REFUSED for character in text)
