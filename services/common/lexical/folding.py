"""One spelling for texts that mean the same: what both halves of retrieval do before they look at words.

Documents and questions pass through `fold_text`, so that 「後裡」 finds 「后里」, "Ｍｉｌｖｕｓ" finds "milvus" and
"Skłodowska-Curie née" finds "nee". Folding is for matching only: stored and shown text stays as it was.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from pathlib import Path
from typing import Final

FOLDING_TABLE: Final = Path(__file__).parents[1] / "data" / "folding" / "traditional_to_simplified.txt"

_COMBINING_MARKS: Final = re.compile("[\u0300-\u036f]+")


@lru_cache(maxsize=1)
def traditional_to_simplified() -> dict[int, int]:
    """Return the code-point table {Traditional: Simplified} for `str.translate`.

    The file has two lines of equal length, made from OpenCC's `TSCharacters` (Apache-2.0): a character that is
    also good Simplified text (乾, 著, 瞭) stays as it is.
    """
    traditional, simplified = FOLDING_TABLE.read_text(encoding="utf-8").splitlines()
    return {ord(old): ord(new) for old, new in zip(traditional, simplified, strict=True)}


def fold_text(text: str) -> str:
    """Return `text` in lower case, compatibility-normalised, without Latin accents, Traditional as Simplified.

    Idempotent. Hangul and kana keep their parts: only combining marks U+0300-036F are dropped (Unicode NFKD, then NFC).
    """
    if text.isascii():
        return text.lower()
    decomposed = unicodedata.normalize("NFKD", text)
    bare = unicodedata.normalize("NFC", _COMBINING_MARKS.sub("", decomposed))
    return bare.translate(traditional_to_simplified()).lower()
