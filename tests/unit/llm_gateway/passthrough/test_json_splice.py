"""Changing members of a JSON object must leave every other byte alone."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiwen.llm_gateway.passthrough.json_splice import members, splice, without

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
OBJECTS = st.dictionaries(st.text(max_size=8) | st.sampled_from(["model", "usage"]), JSON, max_size=6)


def spell(value: Any, ascii_only: bool, indent: int | None) -> bytes:
    return json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "surrogatepass")


@given(OBJECTS, st.booleans(), st.sampled_from([None, 0, 2]))
def test_members_finds_every_key_and_the_bytes_of_its_value(
    value: dict[str, Any], ascii_only: bool, indent: int | None
) -> None:
    body = spell(value, True, indent)
    found = members(body)
    assert [member.key for member in found] == list(value)
    assert [json.loads(body[member.value : member.end]) for member in found] == list(value.values())


@given(OBJECTS, st.sampled_from([None, 2]))
def test_splice_sets_one_member_and_keeps_the_rest(value: dict[str, Any], indent: int | None) -> None:
    body = spell(value, True, indent)
    changed = splice(body, {"model": b'"other"'})
    assert json.loads(changed) == {**value, "model": "other"}
    if "model" in value:
        member = next(member for member in members(body) if member.key == "model")
        assert changed == body[: member.value] + b'"other"' + body[member.end :]


@given(OBJECTS, st.sampled_from([None, 2]))
def test_without_removes_one_member(value: dict[str, Any], indent: int | None) -> None:
    body = spell(value, True, indent)
    left = {key: item for key, item in value.items() if key != "usage"}
    assert json.loads(without(body, "usage")) == left


def test_a_repeated_key_is_replaced_everywhere() -> None:
    assert (
        splice(b'{"model":"a","x":1,"mod\\u0065l":"b"}', {"model": b'"c"'}) == b'{"model":"c","x":1,"mod\\u0065l":"c"}'
    )


def test_a_repeated_key_is_removed_everywhere() -> None:
    assert without(b'{"usage":1,"x":{"usage":2},"usage":3}', "usage") == b'{"x":{"usage":2}}'


def test_absent_members_are_put_first() -> None:
    assert splice(b"{}", {"a": b"1", "b": b"2"}) == b'{"a":1,"b":2}'
    assert splice(b' {"x": 1}', {"a": b"1"}) == b' {"a":1,"x": 1}'


def test_odd_spelling_survives() -> None:
    body = b'{ "n" : 1.50e+02 , "model":"a" , "s":"\\u4f60\\/\\"}{" }'
    assert splice(body, {"model": b'"bb"'}) == body.replace(b'"a"', b'"bb"')


def test_nested_members_of_the_same_name_are_left_alone() -> None:
    body = b'{"meta":{"model":"keep"},"list":[{"model":"keep"}],"model":"a"}'
    assert splice(body, {"model": b'"b"'}).count(b"keep") == 2


@pytest.mark.parametrize("body", [b"", b"[1]", b'{"a":', b'{"a":[1'])
def test_what_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match="JSON"):
        members(body)
