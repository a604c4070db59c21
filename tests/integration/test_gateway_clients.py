"""The gateway with usual clients, with the built-in answerer and embeddings, and as its own process."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from langchain_openai import ChatOpenAI

from tests.servers.gateways import gateway, upstream
from tests.servers.processes import FakeOpenAI, fake_openai, free_port, service, stop
from zhiwen.common.embedding.fake import HashEmbedder
from zhiwen.common.prompts import CHINESE_TEMPLATE, REFUSAL, fill

ANSWER = "根据已知信息,年假为 10 天。[1]"
MESSAGES: Any = [{"role": "user", "content": "年假有几天?"}]
TOOLS: Any = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}]
PROMPT = fill(CHINESE_TEMPLATE, context="\n[1] 年假为 10 天。\n[2] 报销须在 30 天内提交。", question="年假有几天?")


@pytest.fixture(scope="module")
def model_server() -> Iterator[FakeOpenAI]:
    with fake_openai() as server:
        yield server


@pytest.fixture
def fake(model_server: FakeOpenAI) -> FakeOpenAI:
    model_server.forget()
    return model_server


@pytest.fixture(scope="module")
def url(model_server: FakeOpenAI, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    config = {"upstreams": [upstream("fake", model_server.base_url, [{"name": "fake-model", "aliases": ["qwen"]}])]}
    with gateway(tmp_path_factory.mktemp("gateway"), config, embedder=HashEmbedder(dimension=8)) as address:
        yield address


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A gateway without any upstream."""
    with gateway(tmp_path_factory.mktemp("alone")) as address:
        yield address


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as opened:
        yield opened


def test_openai_plain_and_streamed(fake: FakeOpenAI, client: openai.OpenAI) -> None:
    done = client.chat.completions.create(model="qwen", messages=MESSAGES)
    assert (done.model, done.choices[0].message.content) == ("qwen", ANSWER)
    chunks = list(client.chat.completions.create(model="qwen", messages=MESSAGES, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == ANSWER
    assert client.completions.create(model="qwen", prompt="x").choices[0].text == ANSWER


def test_openai_tools(fake: FakeOpenAI, client: openai.OpenAI) -> None:
    fake.script("tools")
    done = client.chat.completions.create(model="qwen", messages=MESSAGES, tools=TOOLS)
    calls = done.choices[0].message.tool_calls
    assert calls is not None
    assert calls[0].type == "function"
    assert json.loads(calls[0].function.arguments) == {"tools": ["look_up"]}
    assert fake.requests()[0].json()["tools"] == TOOLS
    with client.chat.completions.stream(model="qwen", messages=MESSAGES, tools=TOOLS) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].finish_reason == "tool_calls"


def test_openai_sees_errors_as_its_own(fake: FakeOpenAI, client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="none", messages=MESSAGES)
    assert unknown.value.code == "model-not-found"
    fake.script("die-mid-stream")
    with pytest.raises(openai.APIError, match="broke off"):
        list(client.chat.completions.create(model="qwen", messages=MESSAGES, stream=True))


async def test_openai_async(fake: FakeOpenAI, url: str) -> None:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as client:
        stream = await client.chat.completions.create(
            model="qwen", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 18
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == ANSWER


def test_langchain(fake: FakeOpenAI, url: str) -> None:
    with httpx.Client() as http:
        model = ChatOpenAI(model="qwen", base_url=f"{url}/v1", api_key="none", http_client=http)
        assert model.invoke("年假有几天?").content == ANSWER
        assert "".join(str(chunk.content) for chunk in model.stream("年假有几天?")) == ANSWER


def test_curl(fake: FakeOpenAI, url: str) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed; on Debian: apt-get install curl")
    body = json.dumps({"model": "qwen", "messages": MESSAGES, "stream": True})
    command = [curl, "-sN", f"{url}/v1/chat/completions", "-H", "Content-Type: application/json", "-d", body]
    assert subprocess.run(command, capture_output=True, check=True, text=True).stdout.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_built_in_embeddings(client: openai.OpenAI, encoding: Any) -> None:
    embedder = HashEmbedder(dimension=8)
    texts = ["年假为 10 天。", "报销须在 30 天内提交。"]
    got = client.embeddings.create(model=embedder.model, input=texts, encoding_format=encoding)
    assert got.model == embedder.model
    assert got.usage.total_tokens > 0
    if encoding == "float":
        expected = embedder.embed_passages(texts)
        assert [item.embedding for item in got.data] == [pytest.approx(row.tolist()) for row in expected]
    assert embedder.model in [model.id for model in client.models.list()]


@pytest.mark.parametrize(
    "wrong", [{"input": []}, {"input": [""]}, {"input": [[1, 2]]}, {"input": "x", "dimensions": 3}]
)
def test_embeddings_that_cannot_be(url: str, wrong: dict[str, Any]) -> None:
    response = httpx.post(f"{url}/v1/embeddings", json=wrong)
    assert response.status_code == 400
    assert response.json()["error"]["param"] in ("input", "dimensions")


def test_the_default_embedder_of_the_openai_client(client: openai.OpenAI) -> None:
    vectors = client.embeddings.create(model=HashEmbedder(dimension=8).model, input="年假").data[0].embedding
    assert len(vectors) == 8


def test_without_a_model_server_the_built_in_answerer_quotes(alone: str) -> None:
    with openai.OpenAI(base_url=f"{alone}/v1", api_key="none") as client:
        messages: Any = [{"role": "user", "content": PROMPT}]
        done = client.chat.completions.create(model="default", messages=messages)
        assert done.model == "zhiwen-extractive"
        assert done.choices[0].message.content == "年假为 10 天。[1]"
        assert done.usage is not None
        assert done.usage.total_tokens > 20
        stream = client.chat.completions.create(
            model="zhiwen-extractive", messages=messages, stream=True, stream_options={"include_usage": True}
        )
        chunks = list(stream)
        assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "年假为 10 天。[1]"
        assert {chunk.model for chunk in chunks} == {"zhiwen-extractive"}
        assert chunks[-1].usage == done.usage
        assert client.completions.create(model="default", prompt=PROMPT).choices[0].text == "年假为 10 天。[1]"
        assert [model.id for model in client.models.list()] == ["zhiwen-extractive"]


def test_the_built_in_answerer_refuses_what_is_not_there(alone: str) -> None:
    prompt = PROMPT.replace("年假有几天", "公司的股票代码是多少")
    fields = {"messages": [{"role": "user", "content": prompt}]}
    answer = httpx.post(f"{alone}/v1/chat/completions", json=fields).json()
    assert answer["choices"][0]["message"]["content"] == REFUSAL


@pytest.mark.parametrize("fields", [{}, {"messages": []}, {"messages": [{"role": "system", "content": "x"}]}])
def test_the_built_in_answerer_needs_a_question(alone: str, fields: dict[str, Any]) -> None:
    response = httpx.post(f"{alone}/v1/chat/completions", json=fields)
    assert (response.status_code, response.json()["error"]["param"]) == (400, "messages")


@pytest.mark.parametrize("path", ["embeddings", "rerank"])
def test_the_built_in_answerer_only_answers(alone: str, path: str) -> None:
    assert httpx.post(f"{alone}/v1/{path}", json={"input": "x"}).status_code == 404


def gateway_command() -> list[str]:
    return [sys.executable, "-m", "zhiwen.llm_gateway.app"]


def test_a_process_pointed_at_a_model_server_by_three_variables(fake: FakeOpenAI, tmp_path: Path) -> None:
    port = free_port()
    env = {
        "ZHIWEN_GATEWAY_PORT": str(port),
        "ZHIWEN_DATA_DIR": str(tmp_path),
        "ZHIWEN_LLM_BASE_URL": fake.base_url,
        "ZHIWEN_LLM_API_KEY": "sk-1",
        "ZHIWEN_LLM_MODEL": "fake-model",
    }
    base = f"http://127.0.0.1:{port}"
    with service(gateway_command(), env, f"{base}/healthz", tmp_path / "log") as process:
        answer = httpx.post(f"{base}/v1/chat/completions", json={"messages": MESSAGES}).json()
        assert answer["choices"][0]["message"]["content"] == ANSWER
        assert httpx.get(f"{base}/readyz").json()["checks"] == {"upstreams": "ok", "ledger": "ok"}
        stop(process)
        assert process.returncode in (0, -signal.SIGTERM)  # uvicorn ends in order, then by the signal it got
    (received,) = fake.requests()
    assert received.headers["authorization"] == "Bearer sk-1"
    log = (tmp_path / "log").read_text()
    assert '"route":"/v1/chat/completions"' in log
    assert "sk-1" not in log
    assert "年假" not in log


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({"ZHIWEN_HOST": "0.0.0.0"}, "listens on loopback only"),
        ({"ZHIWEN_GATEWAY_CONFIG": "/nonexistent.yaml"}, "cannot be read"),
        ({"ZHIWEN_LLM_BASE_URL": "nonsense"}, "not an HTTP address"),
    ],
)
def test_wrong_settings_end_the_process_with_a_sentence(tmp_path: Path, env: dict[str, str], says: str) -> None:
    full = {"PATH": "/usr/bin:/bin", "ZHIWEN_DATA_DIR": str(tmp_path), **env}
    done = subprocess.run(gateway_command(), env=full, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
