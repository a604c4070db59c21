"""A list accepts its own cursors, and refuses all others."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiwen.common.api.cursors import decode_cursor, encode_cursor
from zhiwen.common.errors import InvalidRequest

positions = st.lists(st.one_of(st.integers(), st.floats(allow_nan=False), st.text(max_size=20)), min_size=1, max_size=3)


@given(positions)
def test_decoded_cursor_is_the_encoded_position(position: list[object]) -> None:
    cursor = encode_cursor(position)
    assert cursor.replace("-", "").replace("_", "").isalnum()
    assert decode_cursor(cursor, *(type(value) for value in position)) == position


@given(st.text(max_size=30))
def test_forged_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidRequest, match="bad-cursor"):
        decode_cursor(cursor, float, str)


@pytest.mark.parametrize("position", [[1, "a"], [1.0], [1.0, 2.0], [1.0, "a", 1], {"a": 1}, None, [True, "a"]])
def test_cursor_of_another_list_is_refused(position: object) -> None:
    cursor = base64.urlsafe_b64encode(json.dumps(position).encode()).decode()
    with pytest.raises(InvalidRequest, match="bad-cursor"):
        decode_cursor(cursor, float, str)
