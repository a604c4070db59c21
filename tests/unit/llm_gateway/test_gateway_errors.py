"""Foreign errors, translated into OpenAI's object with a fitting status."""

from __future__ import annotations

import json
from typing import Any

import pytest

from zhiwen.common.errors import InvalidRequest, TooMany
from zhiwen.llm_gateway.errors import error_body, error_event, error_object, translate


@pytest.mark.parametrize(
    ("status", "body", "shown", "message"),
    [
        (400, {"object": "error", "message": "too long", "code": 40303}, 400, "too long"),
        (400, {"object": "error", "message": "no such model", "code": 40301}, 404, "no such model"),
        (400, {"object": "error", "message": "busy", "code": 42903}, 429, "busy"),
        (400, {"object": "error", "message": "no worker", "code": 50005}, 503, "no worker"),
        (
            400,
            {"object": "error", "message": "vllm", "type": "BadRequestError", "param": None, "code": 400},
            400,
            "vllm",
        ),
        (
            422,
            {"detail": [{"loc": ["body", "messages"], "msg": "Field required"}]},
            422,
            "body.messages: Field required",
        ),
        (400, {"object": "error", "message": "odd param", "param": ["n", 1], "code": 40303}, 400, "odd param"),
        (422, {"detail": [{"loc": 7, "msg": "odd place"}]}, 422, "odd place"),
        (404, {"detail": "Not Found"}, 404, "Not Found"),
        (404, {"error": "model 'x' not found"}, 404, "model 'x' not found"),
        (500, {"error": {"message": "boom", "code": None}}, 502, "boom"),
    ],
)
def test_known_shapes(status: int, body: dict[str, Any], shown: int, message: str) -> None:
    error = translate(status, json.dumps(body).encode(), upstream="gpu-1")
    told = json.loads(error_body(error))["error"]
    assert (error.status, told["message"]) == (shown, message)
    assert {"message", "type", "param", "code"} <= told.keys()


def test_openais_own_object_passes_as_it_is() -> None:
    body = b'{"error": {"message": "x", "type": "invalid_request_error", "param": "n", "code": "bad", "vendor": 1.0}}'
    error = translate(400, body, upstream="gpu-1")
    assert error_body(error) == body
    assert error.status == 400


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_the_gateways_and_not_the_clients(status: int) -> None:
    error = translate(status, b'{"error":{"message":"key sk-123 is wrong","type":"x"}}', upstream="gpu-1")
    assert (error.status, error.code) == (502, "upstream-refused-key")
    assert b"sk-123" not in error_body(error)


def test_text_that_is_no_json_is_not_repeated() -> None:
    error = translate(503, b"<html>secret host name</html>", upstream="gpu-1")
    assert error.status == 503
    assert b"secret" not in error_body(error)


@pytest.mark.parametrize(
    "body",
    [
        b'{"error":{"message":"x","code":%s}}',
        b'{"error":{"message":"x","type":%s}}',
        b'{"detail":[{"msg":"x","loc":[%s]}]}',
    ],
)
def test_what_is_nested_deeper_than_python_writes_is_left_out(body: bytes) -> None:
    error = translate(400, body % (b"[" * 1000 + b"]" * 1000), upstream="gpu-1")
    assert (error.code, error.detail.lstrip(": ")) == ("upstream-error", "x")


def test_an_event_is_one_line() -> None:
    body = b'{\r\n  "error": {"message": "x", "type": "y", "deep": ' + b"[" * 300 + b"]" * 300 + b"}\n}"
    event = error_event(translate(400, body, upstream="gpu-1"))
    assert event.count(b"\n") == 2
    assert json.loads(event[6:])["error"]["message"] == "x"


def test_own_errors() -> None:
    wrong = InvalidRequest("invalid-request", "no", errors=[{"field": "body.model", "message": "no"}])
    assert error_object(wrong)["error"] == {
        "message": "no",
        "type": "invalid_request_error",
        "param": "model",
        "code": "invalid-request",
    }
    assert error_object(TooMany("queue-full", "full", retry_after=1))["error"]["type"] == "rate_limit_error"
