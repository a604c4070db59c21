"""A request is read just far enough to route it, and its bytes stay unchanged."""

from __future__ import annotations

import json

import orjson
import pytest

from zhiwen.common.errors import InvalidRequest
from zhiwen.llm_gateway.request import Endpoint, body_for, prompt_text, read_request

ODD = (
    b'{ "model" : "qwen", "messages":[{"role":"user","content":"\\u4f60"}], "temperature":1.50e0, "vendor":{"a":[1,]} }'
)
BODY = ODD.replace(b"[1,]", b"[ 1 ]")


def test_the_body_is_untouched_when_the_model_has_the_same_name() -> None:
    assert body_for(read_request(Endpoint.CHAT, BODY), "qwen", ask_usage=True) is BODY


def test_only_the_model_is_changed_for_an_alias() -> None:
    sent = body_for(read_request(Endpoint.CHAT, BODY), "Qwen2.5-7B", ask_usage=True)
    assert sent == BODY.replace(b'"qwen"', b'"Qwen2.5-7B"')


def test_usage_is_asked_for_in_a_stream_and_other_options_are_kept() -> None:
    stream = BODY.replace(b"{ ", b'{"stream":true,"stream_options":{"x":1},', 1)
    sent = body_for(read_request(Endpoint.CHAT, stream), "qwen", ask_usage=True)
    assert json.loads(sent)["stream_options"] == {"x": 1, "include_usage": True}
    assert sent.endswith(BODY[2:])
    assert body_for(read_request(Endpoint.CHAT, stream), "qwen", ask_usage=False) is stream


@pytest.mark.parametrize("field", ["stream_options", "vendor"])
def test_what_is_nested_deeper_than_can_be_written_again_passes_as_it_came(field: str) -> None:
    deep = b'{"x":' + b"[" * 1000 + b"]" * 1000 + b"}"
    body = b'{"model":"qwen","stream":true,"' + field.encode() + b'":' + deep + b"}"
    sent = body_for(read_request(Endpoint.CHAT, body), "Qwen2.5-7B", ask_usage=True)
    assert deep[1:-1] in sent
    assert orjson.loads(sent)["stream_options"]["include_usage"] is True


def test_a_body_nested_deeper_than_can_be_read_says_so() -> None:
    with pytest.raises(InvalidRequest, match="depth") as error:
        read_request(Endpoint.CHAT, b'{"vendor":' + b"[" * 2000 + b"]" * 2000 + b"}")
    assert (error.value.status, error.value.code) == (400, "invalid-json")


def test_a_client_that_asks_for_usage_itself_is_left_alone() -> None:
    stream = BODY.replace(b"{ ", b'{"stream":true,"stream_options":{"include_usage":true},', 1)
    request = read_request(Endpoint.CHAT, stream)
    assert request.shows_usage
    assert body_for(request, "qwen", ask_usage=True) is stream


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid-json"),
        (b"[]", "invalid-json"),
        (b'{"model":', "invalid-json"),
        (b'{"model":7}', "invalid-request"),
        (b'{"stream":"yes"}', "invalid-request"),
        (b'{"model":"a","model":"b"}', "repeated-field"),
        (b'{"model":"a","mod\\u0065l":"b"}', "repeated-field"),
        (b'{"stream":true,"stream":false}', "repeated-field"),
    ],
)
def test_what_is_unclear_is_refused_with_400(body: bytes, code: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        read_request(Endpoint.CHAT, body)
    assert (error.value.status, error.value.code) == (400, code)


def test_a_missing_model_is_no_model() -> None:
    assert read_request(Endpoint.CHAT, b"{}").model == ""
    assert read_request(Endpoint.CHAT, b'{"model":null}').model == ""


def test_text_of_messages_and_prompts() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {}}]
    chat = {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": parts}, "junk"]}
    assert prompt_text(read_request(Endpoint.CHAT, json.dumps(chat).encode())) == "s\na"
    assert prompt_text(read_request(Endpoint.COMPLETIONS, b'{"prompt":["a","b"]}')) == "a\nb"


def test_the_longest_answer() -> None:
    assert read_request(Endpoint.CHAT, b'{"max_tokens":5}').max_tokens == 5
    assert read_request(Endpoint.CHAT, b'{"max_tokens":5,"max_completion_tokens":7}').max_tokens == 7
    assert read_request(Endpoint.CHAT, b"{}").max_tokens is None
