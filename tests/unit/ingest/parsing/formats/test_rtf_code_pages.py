"""RTF in Chinese code pages as UTF-8: the bytes of each font, escapes with their replacements, what is left alone."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiwen.ingest.parsing.formats.rtf_code_pages import as_utf8

FONTS = (
    rb"{\fonttbl{\f0\fcharset0 A;}{\f1\fcharset134 S;}{\f2\fcharset136 M;}{\f3\fnil\fcharset128\fprq2{\*\panose 0}J;}}"
)
WESTERN = rb"{\rtf1\ansi\ansicpg1252" + FONTS
CHINESE = rb"{\rtf1\ansi\ansicpg936" + FONTS


def hexed(text: str, encoding: str) -> bytes:
    return "".join(f"\\'{byte:02x}" for byte in text.encode(encoding)).encode()


def translated(body: bytes, head: bytes = CHINESE) -> str:
    data = as_utf8(head + body + b"}").decode("utf-8")
    return data.removeprefix(head.decode()).removesuffix("}")


def test_bytes_follow_the_font_of_their_group() -> None:
    body = rb"\f0 \'e9{\f1 " + hexed("中", "gbk") + rb"}\'e9"
    assert translated(body, WESTERN) == r"\f0 \'e9{\f1 中}\'e9"


@pytest.mark.parametrize(
    ("font", "encoding", "text"),
    [(1, "gbk", "春眠不觉晓"), (1, "gb18030", "㐀𠀀"), (2, "big5", "許功蓋一"), (3, "cp932", "表示する")],
)
def test_code_pages(font: int, encoding: str, text: str) -> None:
    select = f"\\f{font} "
    for written in (hexed(text, encoding), text.encode(encoding), lead_as_hex(text.encode(encoding))):
        assert translated(select.encode() + written + b"\\par", WESTERN) == f"{select}{text}\\par"


def lead_as_hex(data: bytes) -> bytes:
    """Bytes as Word writes them: ASCII as it is (a special character escaped), others as `\'xx`."""
    parts = ((b"\\" if byte in b"\\{}" else b"") + bytes([byte]) if byte < 0x80 else b"\\'%02x" % byte for byte in data)
    return b"".join(parts)


def test_the_code_page_of_the_file_holds_where_the_font_names_none() -> None:
    assert translated(rb"\f0 " + hexed("中", "gbk") + b" x") == r"\f0 中 x"


def test_a_western_letter_before_an_ascii_one_stays_in_a_western_font() -> None:
    assert translated(rb"\f0 \'e9t\'e9 ") == r"\f0 \'e9t\'e9 "


def test_a_byte_that_is_no_character_stays_a_byte_and_harms_no_other() -> None:
    assert translated(rb"\f1 " + hexed("中", "gbk") + rb"\'ff\'ff" + hexed("文", "gbk")) == r"\f1 中\'ff\'ff文"


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (rb"\uc2 \u20013\'d6\'d0\'ce\'c4", r"\uc2 中文"),
        (rb"\uc1 \u20013?\u25991 ?.", r"\uc1 中文."),
        (rb"\uc0 \u20013\u25991 ?", r"\uc0 中文?"),
        (rb"{\uc2 \u20013\'d6\'d0}\u25991 ??", r"{\uc2 中}文?"),
        (rb"\u20013\par", r"中\par"),
        (rb"\u-10179?\u-8704?", "😀"),
        (rb"\u55357 ?\u56832 ?", "😀"),
        (rb"\u20013\~x", "中x"),
    ],
)
def test_replacements_after_unicode_escapes_are_skipped(source: bytes, text: str) -> None:
    assert translated(source) == text


def test_specials_stay_escaped() -> None:
    assert translated(rb"\f1 \'d6\'d0\{\}\\") == r"\f1 中\{\}\\"
    assert translated(rb"\u92?\u123?") == r"\\\{"


def test_binary_data_is_left_out() -> None:
    assert translated(b"{\\pict\\bin5 \xff{}\\\x80}" + hexed("中", "gbk")) == r"{\pict}中"


def test_a_file_without_chinese_code_pages_and_escapes_is_left_alone() -> None:
    source = rb"{\rtf1\ansi\ansicpg1252 caf\'e9 \ul x}"
    assert as_utf8(source) is source


def test_escapes_of_a_western_file_are_written_out() -> None:
    source = b"{\\rtf1\\ansi\\ansicpg1252 1990\\u8212-1993 caf\\'e9 na\xefve}"
    assert as_utf8(source).decode() == r"{\rtf1\ansi\ansicpg1252 1990—1993 caf\'e9 na\'efve}"


@given(st.binary(max_size=300))
def test_any_bytes_become_utf8(data: bytes) -> None:
    as_utf8(CHINESE + data).decode("utf-8")


@given(st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=30).filter(lambda t: t.isprintable()))
def test_text_in_gb18030_comes_back(text: str) -> None:
    body = rb"\f1 " + lead_as_hex(text.encode("gb18030"))
    expected = text.replace("\\", "\\\\").replace("{", "\\{").replace("}", "\\}")
    assert translated(body) == rf"\f1 {expected}"


@pytest.mark.parametrize("odd", [b"\\\xc4\xe3", b"\\'zz", b"\\\x80", b"\\u", b"\\uc", b"\\\n", b"\\'"], ids=repr)
def test_nothing_after_odd_bytes_is_lost(odd: bytes) -> None:
    assert translated(b"before " + odd + rb"\par after", CHINESE).endswith(r"\par after")


def test_backslash_at_the_end_is_left_out() -> None:
    assert as_utf8(CHINESE + b"text\\") == CHINESE + b"text"


def test_many_fonts_without_a_charset_are_passed_in_linear_time() -> None:
    data = CHINESE + rb"\f0" * 60_000 + b"}"
    started = time.process_time()
    assert as_utf8(data) == data
    assert time.process_time() - started < 10  # their square took minutes
