"""The encoding of a file is found from its bytes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhiwen.ingest.parsing.detect.decode import decode_text, find_encoding

SIMPLIFIED = "中国的发展是世界的机会。我们要坚持以人民为中心的思想，2024年的工作有新的进步。\n"
TRADITIONAL = "這是一個繁體中文的文件，說明我們的工作與計畫。請問這個問題要怎麼處理？\n"


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "gbk", "gb18030"]
)
@pytest.mark.parametrize("repeat", [1, 2000])
def test_simplified_chinese(encoding: str, repeat: int) -> None:
    assert decode_text((SIMPLIFIED * repeat).encode(encoding)) == SIMPLIFIED * repeat


@pytest.mark.parametrize("encoding", ["big5", "utf-8", "utf-16", "gb18030"])
def test_traditional_chinese(encoding: str) -> None:
    assert decode_text(TRADITIONAL.encode(encoding)) == TRADITIONAL


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("名前,年齢,住所\n佐藤太郎,30,東京\nこれはテストです。", "cp932"),
        ("한국어 문서입니다. 시험 자료입니다.", "euc_kr"),
    ],
)
def test_neighbours(text: str, encoding: str) -> None:
    assert decode_text(text.encode(encoding)) == text


def test_a_lying_declaration_loses_to_the_bytes() -> None:
    html = f'<meta charset="{{}}"><p>{SIMPLIFIED}</p>'
    assert SIMPLIFIED in decode_text(html.format("utf-8").encode("gbk"))
    assert SIMPLIFIED in decode_text(html.format("iso-8859-1").encode("utf-8"))
    assert SIMPLIFIED in decode_text(html.format("big5").encode("gb18030"))


def test_a_true_declaration_decides_where_the_bytes_do_not() -> None:
    text = "<meta charset=windows-1251><p>Съешь ещё этих мягких французских булок</p>"
    assert decode_text(text.encode("cp1251")) == text


def test_some_broken_bytes_do_not_change_the_encoding() -> None:
    data = SIMPLIFIED.encode() + b"\xff\xfe\x80bad\n" + SIMPLIFIED.encode()
    assert find_encoding(data) == "utf-8"
    assert decode_text(data).count(SIMPLIFIED) == 2


@settings(deadline=None)
@given(st.binary(max_size=2000))
def test_any_bytes_decode(data: bytes) -> None:
    assert isinstance(decode_text(data), str)
