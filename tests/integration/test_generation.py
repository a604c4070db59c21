"""What a failing model server's own words become."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.servers.processes import FakeOpenAI, fake_openai
from zhiwen.common.errors import ServiceError
from zhiwen.query.answer.generation import ChatRequest, Delta, Generator

REQUEST = ChatRequest([{"role": "user", "content": "年假有几天?"}], "fake-model")
TOLD = {"error": {"message": "输入太长 {too long}", "type": "invalid_request_error", "param": None, "code": None}}


@pytest.fixture(scope="module")
def server() -> Iterator[FakeOpenAI]:
    with fake_openai() as running:
        yield running


@pytest.fixture
async def generator(server: FakeOpenAI) -> AsyncIterator[Generator]:
    server.forget()
    generator = Generator(server.base_url.removesuffix("/v1"), api_key="", timeout=10)
    yield generator
    await generator.close()


async def streamed(generator: Generator) -> list[Delta]:
    return [delta async for delta in generator.stream(REQUEST)]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("status", "body", "code", "detail"),
    [
        (400, TOLD, "model-error", "The language model answered with an error: 输入太长 {too long}"),
        (429, TOLD, "model-busy", "The language model is busy: 输入太长 {too long}"),
        (502, {"x": 1}, "model-error", "The language model answered with an error: status 502, without a message."),
        (502, "<html>", "model-error", "The language model answered with an error: status 502, without a message."),
    ],
)
async def test_an_error_says_what_the_model_server_said_and_no_more(
    server: FakeOpenAI, generator: Generator, stream: bool, status: int, body: Any, code: str, detail: str
) -> None:
    server.script({"behaviour": "status", "status": status, "body": body})
    with pytest.raises(ServiceError) as error:
        await (streamed(generator) if stream else generator.complete(REQUEST))
    assert (error.value.code, error.value.detail) == (code, detail)


async def test_an_error_within_a_stream_says_the_same(server: FakeOpenAI, generator: Generator) -> None:
    server.script({"behaviour": "error-event", "event": TOLD, "after": 1})
    with pytest.raises(ServiceError, match=r"answered with an error: 输入太长 \{too long\}"):
        await streamed(generator)
