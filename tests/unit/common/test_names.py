"""Which texts may be names."""

from __future__ import annotations

import pytest

from zhiwen.common.names import is_plain


@pytest.mark.parametrize("text", ["手册", "员工\u3000手册", "a b", "👨‍👩‍👧", "Skłodowska", "né\u0301", ""])
def test_plain_texts(text: str) -> None:
    assert is_plain(text)


@pytest.mark.parametrize("text", ["a\nb", "a\tb", "a\0", "\x7f", "\x85", "\ud800", "a\u2028b", "a\u2029b"])
def test_texts_that_are_not_plain(text: str) -> None:
    assert not is_plain(text)
