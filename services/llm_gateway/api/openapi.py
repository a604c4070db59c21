"""The OpenAPI description of the endpoints that are plain ASGI, which FastAPI cannot describe itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from zhiwen.llm_gateway.request import Endpoint

_QUESTION = {"role": "user", "content": "已知信息:\n[1] 年假为 10 天。\n问题是:年假有几天?"}
_USAGE = {"prompt_tokens": 18, "completion_tokens": 7, "total_tokens": 25}
_STREAMED = (
    'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1760000000,"model":"qwen",'
    '"choices":[{"index":0,"delta":{"content":"年假"},"finish_reason":null}]}\n\ndata: [DONE]\n\n'
)
_COMMON = {
    "model": {"type": "string", "description": "A name of `/v1/models`; empty or `default`: the default model."},
    "stream": {"type": "boolean", "default": False, "description": "Answer with server-sent events."},
}
_ERROR_SCHEMA = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "integer", "null"]},
            },
        }
    },
}
_ERROR_EXAMPLE = {
    "error": {
        "message": "There is no model gpt; GET /v1/models lists them.",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model-not-found",
    }
}


@dataclass(frozen=True, slots=True)
class _Description:
    """The description of one endpoint: JSON schemas of its fields, the required fields, and two examples."""

    summary: str
    properties: Mapping[str, Any]
    required: list[str]
    request: Mapping[str, Any]
    answer: Mapping[str, Any]


def with_endpoints(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the OpenAPI document `schema` with the endpoints and OpenAI's error object added."""
    schema.setdefault("components", {}).setdefault("schemas", {})["Error"] = _ERROR_SCHEMA
    for endpoint, description in _DESCRIPTIONS.items():
        schema["paths"][f"/v1{endpoint.value}"] = {"post": _operation(endpoint, description)}
    return schema


def _operation(endpoint: Endpoint, description: _Description) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": {"type": "object"}, "example": description.answer}}
    if endpoint.generates_text:
        content["text/event-stream"] = {"schema": {"type": "string"}, "example": _STREAMED}
    body = {
        "type": "object",
        "properties": {**_COMMON, **description.properties},
        "required": description.required,
        "additionalProperties": True,
    }
    return {
        "tags": ["models"],
        "summary": description.summary,
        "operationId": endpoint.name.lower(),
        "description": "Fields that are not listed reach the model server byte for byte.",
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": body, "example": description.request}},
        },
        "responses": {"200": {"description": "The answer", "content": content}} | _errors(),
    }


def _errors() -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}, "example": _ERROR_EXAMPLE}}
    return {
        str(status): {"description": HTTPStatus(status).phrase, "content": content}
        for status in (400, 401, 403, 404, 413, 429, 502, 503, 504)
    }


def _answer(kind: str, content: dict[str, Any]) -> dict[str, Any]:
    choice = {"index": 0, **content, "finish_reason": "stop"}
    frame = {"id": "chatcmpl-1", "object": kind, "created": 1760000000, "model": "qwen"}
    return {**frame, "choices": [choice], "usage": _USAGE}


_DESCRIPTIONS = {
    Endpoint.CHAT: _Description(
        "Answer a conversation",
        {"messages": {"type": "array", "items": {"type": "object"}}},
        ["messages"],
        {"model": "default", "messages": [_QUESTION], "stream": False},
        _answer("chat.completion", {"message": {"role": "assistant", "content": "年假为 10 天。[1]"}}),
    ),
    Endpoint.COMPLETIONS: _Description(
        "Continue a text",
        {"prompt": {"type": ["string", "array"]}},
        ["prompt"],
        {"model": "default", "prompt": _QUESTION["content"], "max_tokens": 256},
        _answer("text_completion", {"text": "年假为 10 天。[1]"}),
    ),
    Endpoint.EMBEDDINGS: _Description(
        "Turn texts into vectors",
        {"input": {"type": ["string", "array"]}, "encoding_format": {"enum": ["float", "base64"]}},
        ["input"],
        {"model": "bge-small-zh", "input": ["年假有几天?"]},
        {
            "object": "list",
            "data": [{"object": "embedding", "index": 0, "embedding": [0.1, -0.2]}],
            "model": "bge-small-zh",
            "usage": {"prompt_tokens": 5, "total_tokens": 5},
        },
    ),
    Endpoint.RERANK: _Description(
        "Order texts by how well they fit a query",
        {"query": {"type": "string"}, "documents": {"type": "array"}, "top_n": {"type": "integer"}},
        ["query", "documents"],
        {"model": "bge-reranker", "query": "年假", "documents": ["年假为 10 天。", "报销需发票。"]},
        {"results": [{"index": 0, "relevance_score": 0.98}, {"index": 1, "relevance_score": 0.02}]},
    ),
}
