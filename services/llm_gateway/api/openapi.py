"""What `/docs` says of the doors, which are plain ASGI and tell FastAPI nothing about themselves."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import orjson
from fastapi.responses import Response

from zhiwen.common.prompts import EXTRACTIVE_MODEL
from zhiwen.llm_gateway.request import Door

_QUESTION = {"role": "user", "content": "已知信息:\n[1] 年假为 10 天。\n问题是:年假有几天?"}
_USAGE = {"prompt_tokens": 18, "completion_tokens": 7, "total_tokens": 25}
_STREAMED = (
    'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1760000000,"model":"qwen",'
    '"choices":[{"index":0,"delta":{"content":"年假"},"finish_reason":null}]}\n\ndata: [DONE]\n\n'
)
_COMMON = {
    "model": {"type": "string", "description": "A name of `/v1/models`; none or `default`: the default model."},
    "stream": {"type": "boolean", "default": False, "description": "Answer with server-sent events."},
}

_EXAMPLE_MODEL = {"id": EXTRACTIVE_MODEL, "object": "model", "created": 0, "owned_by": "zhiwen"}


def _example(payload: Any) -> dict[int | str, dict[str, Any]]:
    return {200: {"content": {"application/json": {"example": payload}}}}


_LIST = {"object": "list", "data": [_EXAMPLE_MODEL]}
MODELS = _example(_LIST)
ONE_MODEL = _example(_EXAMPLE_MODEL)


def models_response(names: list[str]) -> Response:
    """OpenAI's list of models."""
    payload = {"object": "list", "data": [_model(name) for name in names]}
    return Response(orjson.dumps(payload), media_type="application/json")


def model_response(name: str) -> Response:
    """OpenAI's description of one model."""
    return Response(orjson.dumps(_model(name)), media_type="application/json")


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "zhiwen"}


def with_doors(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the OpenAPI document with the doors and OpenAI's error object added."""
    schema.setdefault("components", {}).setdefault("schemas", {})["Error"] = {
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
    for door, (summary, properties, required, example, answer) in _DOORS.items():
        schema["paths"][f"/v1{door.value}"] = {"post": _operation(door, summary, properties, required, example, answer)}
    return schema


def _operation(
    door: Door, summary: str, properties: dict[str, Any], required: list[str], example: Any, answer: Any
) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": {"type": "object"}, "example": answer}}
    if door.streams:
        content["text/event-stream"] = {"schema": {"type": "string"}, "example": _STREAMED}
    body = {"type": "object", "properties": _COMMON | properties, "required": required, "additionalProperties": True}
    return {
        "tags": ["models"],
        "summary": summary,
        "operationId": door.name.lower(),
        "description": "Fields that are not listed reach the model server byte for byte.",
        "requestBody": {"required": True, "content": {"application/json": {"schema": body, "example": example}}},
        "responses": {"200": {"description": "The answer", "content": content}} | _errors(),
    }


def _errors() -> dict[str, Any]:
    example = {
        "error": {
            "message": "There is no model gpt; GET /v1/models lists them.",
            "type": "invalid_request_error",
            "param": "model",
            "code": "model-not-found",
        }
    }
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}, "example": example}}
    return {
        str(status): {"description": HTTPStatus(status).phrase, "content": content}
        for status in (400, 401, 403, 404, 413, 429, 502, 503, 504)
    }


def _answer(kind: str, content: dict[str, Any]) -> dict[str, Any]:
    choice = {"index": 0, **content, "finish_reason": "stop"}
    frame = {"id": "chatcmpl-1", "object": kind, "created": 1760000000, "model": "qwen"}
    return {**frame, "choices": [choice], "usage": _USAGE}


_DOORS: dict[Door, tuple[str, dict[str, Any], list[str], Any, Any]] = {
    Door.CHAT: (
        "Answer a conversation",
        {"messages": {"type": "array", "items": {"type": "object"}}},
        ["messages"],
        {"model": "default", "messages": [_QUESTION], "stream": False},
        _answer("chat.completion", {"message": {"role": "assistant", "content": "年假为 10 天。[1]"}}),
    ),
    Door.COMPLETIONS: (
        "Continue a text",
        {"prompt": {"type": ["string", "array"]}},
        ["prompt"],
        {"model": "default", "prompt": _QUESTION["content"], "max_tokens": 256},
        _answer("text_completion", {"text": "年假为 10 天。[1]"}),
    ),
    Door.EMBEDDINGS: (
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
    Door.RERANK: (
        "Order texts by how well they fit a query",
        {"query": {"type": "string"}, "documents": {"type": "array"}, "top_n": {"type": "integer"}},
        ["query", "documents"],
        {"model": "bge-reranker", "query": "年假", "documents": ["年假为 10 天。", "报销需发票。"]},
        {"results": [{"index": 0, "relevance_score": 0.98}, {"index": 1, "relevance_score": 0.02}]},
    ),
}
