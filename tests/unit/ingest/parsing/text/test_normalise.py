"""Text is normalised in one way, and the outline gives the titles above a place."""

from __future__ import annotations

import unicodedata

from hypothesis import given, settings
from hypothesis import strategies as st

from zhiwen.ingest.parsing.text.normalise import Outline, clean_text, unwrap_lines


@settings(deadline=None)
@given(st.text(max_size=500))
def test_clean_text_is_normal_and_stays_so(text: str) -> None:
    cleaned = clean_text(text)
    assert unicodedata.is_normalized("NFC", cleaned)
    assert not any(unicodedata.category(c) in {"Cc", "Cs"} and c not in "\t\n" for c in cleaned)
    assert clean_text(cleaned) == cleaned
    cleaned.encode()


def test_clean_text() -> None:
    assert clean_text("\ufeffa\0b \r\n\x1b[31m红\x1b[0m\u202e\n\n\n\nc\u200b") == "ab\n红\n\nc"


def test_unwrapped_chinese_lines_have_no_space_and_english_ones_do() -> None:
    assert unwrap_lines("中文的\n一行\nand an\nEnglish one\n结束") == "中文的一行and an English one结束"


def test_outline_closes_what_a_title_ends() -> None:
    outline = Outline()
    assert outline.enter(1, "A") == ()
    assert outline.enter(3, "B") == ("A",)
    assert outline.enter(2, "C") == ("A",)
    assert outline.path == ("A", "C")
    assert outline.enter(1, "D") == ()
