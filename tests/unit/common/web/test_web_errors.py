"""How errors leave a service: one shape, always a request id, never the text of a defect."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from typing import Annotated, Any

import httpx
import pytest
from fastapi import FastAPI, Request
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AfterValidator, BaseModel, ConfigDict
from structlog.testing import capture_logs

from zhiwen.common.errors import (
    Conflict,
    DocumentError,
    Forbidden,
    InvalidRequest,
    NotFound,
    ServiceError,
    TooLarge,
    TooMany,
    Unauthorized,
    Unavailable,
    Unsupported,
)
from zhiwen.common.telemetry import request_id_from
from zhiwen.common.web import MAX_BODY_BYTES, add_operations_routes, install

SECRET = "password=hunter2"


def _even(number: int) -> int:
    if number % 2:
        raise ValueError("must be even")
    return number


class Body(BaseModel):
    number: int


class StrictBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    even: Annotated[int, AfterValidator(_even)] = 0


def application() -> FastAPI:
    app = FastAPI()
    install(app, "test")

    @app.get("/known")
    async def known() -> None:
        raise TooMany("queue-full", "Later.", retry_after=30)

    @app.get("/unknown")
    async def unknown() -> None:
        raise RuntimeError(SECRET)

    @app.get("/thread")
    def thread() -> None:
        raise KeyError(SECRET)

    @app.post("/body")
    async def body(sent: Body) -> Body:
        return sent

    @app.post("/strict")
    async def strict(sent: StrictBody) -> StrictBody:
        return sent

    @app.get("/quote")
    async def quote() -> None:
        raise InvalidRequest("bad-filter", "There is no \ud800 here.", errors=[{"field": "half \udfff"}])

    @app.get("/gone")
    async def gone() -> None:
        raise ServiceError("answer-timeout", "Too slow.", status=504)

    async def fine() -> None:
        return None

    async def away() -> None:
        raise Unavailable("milvus-unavailable", "The vector store (Milvus) does not answer.")

    async def broken() -> None:
        raise RuntimeError(SECRET)

    add_operations_routes(app, lambda _: {"ledger": fine, "milvus": away, "other": broken})
    return app


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(application(), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


def problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    body: dict[str, Any] = response.json()
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["x-request-id"]
    assert set(body) - {"errors"} == {"type", "title", "status", "detail", "code", "instance"}
    assert (body["code"], body["status"], body["type"]) == (code, status, "about:blank")
    return body


async def test_known_error_keeps_its_words_and_headers(client: httpx.AsyncClient) -> None:
    response = await client.get("/known")
    body = problem(response, 429, "queue-full")
    assert (body["title"], body["detail"], body["instance"]) == ("Too many requests", "Later.", "/known")
    assert response.headers["retry-after"] == "30"


@pytest.mark.parametrize("path", ["/unknown", "/thread"])
async def test_unknown_error_says_nothing_but_its_request_id(client: httpx.AsyncClient, path: str) -> None:
    with capture_logs() as logs:
        response = await client.get(path, headers={"X-Request-ID": "find-me"})
    problem(response, 500, "internal-error")
    assert "find-me" in response.json()["detail"]
    assert SECRET not in response.text
    assert response.headers["x-request-id"] == "find-me"
    assert any(entry["event"] == "unexpected_error" for entry in logs)


async def test_missing_route_and_wrong_method_are_problems(client: httpx.AsyncClient) -> None:
    problem(await client.get("/nothing"), 404, "route-not-found")
    response = await client.delete("/known")
    problem(response, 405, "method-not-allowed")
    assert response.headers["allow"] == "GET"


@pytest.mark.parametrize(
    ("sent", "code", "field"),
    [
        (b"{", "invalid-json", "body.1"),
        (b"{}", "invalid-request", "body.number"),
        (b'{"number": "x"}', "invalid-request", "body.number"),
    ],
)
async def test_invalid_bodies_name_the_field(client: httpx.AsyncClient, sent: bytes, code: str, field: str) -> None:
    response = await client.post("/body", content=sent, headers={"Content-Type": "application/json"})
    body = problem(response, 422, code)
    assert body["errors"][0]["field"] == field


async def test_invalid_fields_are_named_in_plain_words(client: httpx.AsyncClient) -> None:
    response = await client.post("/strict", json={"even": 3, "evven": 1})
    messages = {error["field"]: error["message"] for error in problem(response, 422, "invalid-request")["errors"]}
    assert messages == {"body.even": "must be even", "body.evven": "There is no such field"}


async def test_error_that_quotes_half_a_character_is_still_an_answer(client: httpx.AsyncClient) -> None:
    body = problem(await client.get("/quote"), 422, "bad-filter")
    assert body["detail"] == "There is no ? here."


async def test_title_fits_a_status_of_its_own(client: httpx.AsyncClient) -> None:
    assert problem(await client.get("/gone"), 504, "answer-timeout")["title"] == "Gateway Timeout"


@pytest.mark.parametrize("path", ["/known%00", "/known?a=%00"])
async def test_nul_in_an_address_is_refused(client: httpx.AsyncClient, path: str) -> None:
    problem(await client.get(path), 422, "invalid-request")


async def test_readiness_names_each_dependency_and_leaks_nothing(client: httpx.AsyncClient) -> None:
    response = await client.get("/readyz")
    assert response.status_code == 503
    assert response.json() == {
        "status": "not-ready",
        "checks": {
            "ledger": "ok",
            "milvus": "The vector store (Milvus) does not answer.",
            "other": "failed (RuntimeError)",
        },
    }
    assert (await client.get("/healthz")).status_code == 200


async def test_metrics_count_by_route_and_not_by_address(client: httpx.AsyncClient) -> None:
    await client.get("/nothing/abcdef")
    metrics = (await client.get("/metrics")).text
    assert 'route="unmatched",service="test",status="404"' in metrics
    assert "abcdef" not in metrics


@pytest.mark.parametrize(
    ("kind", "status", "retryable"),
    [
        (InvalidRequest, 422, False),
        (Unauthorized, 401, False),
        (Forbidden, 403, False),
        (NotFound, 404, False),
        (Conflict, 409, False),
        (TooLarge, 413, False),
        (Unsupported, 415, False),
        (Unavailable, 503, True),
        (DocumentError, 422, False),
        (ServiceError, 500, False),
    ],
)
def test_each_kind_has_its_status(kind: type[ServiceError], status: int, retryable: bool) -> None:
    error = kind("some-code", "Some detail.")
    assert (error.status, error.retryable, str(error)) == (status, retryable, "some-code: Some detail.")


@given(st.text(max_size=200))
def test_request_id_is_always_safe_to_log_and_send(header: str) -> None:
    made = request_id_from(header)
    assert made.isascii()
    assert 1 <= len(made) <= 128
    assert json.dumps(made) == f'"{made}"'
    assert made == header or len(made) == 16


async def in_pieces(size: int, asked: list[int]) -> AsyncIterator[bytes]:
    """Yield a body without a Content-Length, and note what was asked for."""
    for start in range(0, size, 2**16):
        asked.append(start)
        yield b" " * 2**16


async def test_too_large_a_body_is_refused_unread(client: httpx.AsyncClient) -> None:
    response = await client.post("/body", content=b" " * (MAX_BODY_BYTES + 1))
    problem(response, 413, "request-too-large")
    asked: list[int] = []
    response = await client.post("/body", content=in_pieces(8 * MAX_BODY_BYTES, asked))
    problem(response, 413, "request-too-large")
    assert asked[-1] <= MAX_BODY_BYTES


async def test_body_in_pieces_up_to_the_limit_arrives_whole(client: httpx.AsyncClient) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b" " * (MAX_BODY_BYTES - 13)
        yield b'{"number"'
        yield b": 7}"

    assert (await client.post("/body", content=pieces(), headers={"Content-Type": "application/json"})).json() == {
        "number": 7
    }


async def test_routes_with_limits_of_their_own_get_the_body_as_it_comes() -> None:
    app = FastAPI()
    install(app, "test", unlimited_paths=re.compile("/upload"))

    @app.post("/upload")
    async def upload(request: Request) -> int:
        return sum([len(part) async for part in request.stream()])

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        response = await client.post("/upload", content=b"x" * (2 * MAX_BODY_BYTES))
    assert response.json() == 2 * MAX_BODY_BYTES
