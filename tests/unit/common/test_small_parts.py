"""Prompts, cursors, names and the rule of loopback: pure functions."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiwen.common.api.cursors import decode_cursor, encode_cursor
from zhiwen.common.errors import ConfigurationError, InvalidRequest
from zhiwen.common.names import is_plain
from zhiwen.common.prompts import CHINESE_TEMPLATE, ENGLISH_TEMPLATE, REFUSAL, fill, validated_template
from zhiwen.common.settings import CommonSettings, require_loopback_or_key

# Prompts

DESIGNED = (
    "已知信息:{context}\n"
    "根据上述已知信息,简洁和专业的来回答用户的问题。如果无法从中得到答案,请说 “根据已知信息无法回答该问题” 或 "
    "“没有提供足够的相关信息”,不允许在答案中添加编造成分,答案请使用中文。\n"
    "问题是:{question}"
)


def test_default_template_is_the_designed_one_to_the_byte() -> None:
    assert CHINESE_TEMPLATE.encode() == DESIGNED.encode()
    digest = hashlib.sha256(CHINESE_TEMPLATE.encode()).hexdigest()
    assert digest == hashlib.sha256(DESIGNED.encode()).hexdigest()
    assert REFUSAL in CHINESE_TEMPLATE


def test_both_templates_are_valid() -> None:
    assert validated_template(CHINESE_TEMPLATE) == CHINESE_TEMPLATE
    assert validated_template(ENGLISH_TEMPLATE) == ENGLISH_TEMPLATE


@pytest.mark.parametrize(
    ("template", "missing"),
    [
        ("", "{context} and {question}"),
        ("{context}", "{question}"),
        ("{question} {Context}", "{context}"),
        ("{{context}", "{question}"),
    ],
)
def test_template_without_a_placeholder_is_refused_by_name(template: str, missing: str) -> None:
    with pytest.raises(InvalidRequest, match=f"bad-template.* lacks {missing}\\."):
        validated_template(template)


pieces = st.one_of(
    st.text(max_size=20), st.sampled_from(["{context}", "{question}", "{", "}", "{{", "{0}", "%s", "\\1", "\\g<0>"])
)
hostile = st.lists(pieces, max_size=8).map("".join)


@given(hostile, hostile)
def test_words_of_the_template_inside_texts_stay_text(context: str, question: str) -> None:
    before, _, rest = CHINESE_TEMPLATE.partition("{context}")
    middle, _, after = rest.partition("{question}")
    assert fill(CHINESE_TEMPLATE, context=context, question=question) == before + context + middle + question + after


@given(hostile, hostile, hostile)
def test_every_placeholder_is_filled_once_and_nothing_else_changes(template: str, context: str, question: str) -> None:
    parts = [part.split("{question}") for part in template.split("{context}")]
    expected = context.join(question.join(part) for part in parts)
    assert fill(template, context=context, question=question) == expected


# Cursors

positions = st.lists(st.one_of(st.integers(), st.floats(allow_nan=False), st.text(max_size=20)), min_size=1, max_size=3)


@given(positions)
def test_cursor_comes_back_as_it_went(position: list[object]) -> None:
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


# Names


@pytest.mark.parametrize("text", ["手册", "员工\u3000手册", "a b", "👨‍👩‍👧", "Skłodowska", "né\u0301", ""])
def test_plain_texts(text: str) -> None:
    assert is_plain(text)


@pytest.mark.parametrize("text", ["a\nb", "a\tb", "a\0", "\x7f", "\x85", "\ud800", "a\u2028b", "a\u2029b"])
def test_texts_that_are_not_plain(text: str) -> None:
    assert not is_plain(text)


# Loopback


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "::1", "[::1]"])
def test_loopback_needs_no_key(host: str) -> None:
    require_loopback_or_key(host, has_key=False)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "", "10.0.0.1", "192.168.1.5", "example.org", "localhost.example.org", "128.0.0.1"]
)
def test_anything_else_needs_a_key(host: str) -> None:
    with pytest.raises(ConfigurationError, match="loopback only"):
        require_loopback_or_key(host, has_key=False)
    require_loopback_or_key(host, has_key=True)


def test_settings_come_from_the_environment_and_hide_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZHIWEN_API_KEY", "hunter2")
    monkeypatch.setenv("ZHIWEN_DATA_DIR", "/somewhere")
    monkeypatch.setenv("ZHIWEN_ORIGINALS_URL", "")
    settings = CommonSettings()
    assert settings.api_key.get_secret_value() == "hunter2"
    assert "hunter2" not in repr(settings)
    assert settings.ledger_url == "sqlite:////somewhere/ledger.db"
    assert settings.originals_location == "/somewhere/originals"
