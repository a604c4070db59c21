"""Who may ask what and how much: keys, limits in process and in Redis, used tokens, and logged conversations."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from pydantic import SecretStr

from tests.servers.gateways import gateway, upstream, write_config
from tests.servers.processes import ROOT, FakeOpenAI, fake_openai, free_port, service
from zhiwen.common.errors import TooMany
from zhiwen.common.ledger import open_ledger
from zhiwen.common.models import UsageRow
from zhiwen.llm_gateway.accounting.limits import RedisLimiter
from zhiwen.llm_gateway.config import KeyLimits

MESSAGES = [{"role": "user", "content": "年假有几天?"}]
HTTP = httpx.Client(timeout=20, limits=httpx.Limits(max_connections=100))


@pytest.fixture(scope="module")
def model_server() -> Iterator[FakeOpenAI]:
    with fake_openai() as server:
        yield server
    HTTP.close()


@pytest.fixture
def fake(model_server: FakeOpenAI) -> FakeOpenAI:
    model_server.forget()
    return model_server


def ask(url: str, key: str | None = None, *, path: str = "/v1/chat/completions", **more: Any) -> httpx.Response:
    fields = {"model": "fake-model", "messages": MESSAGES, **more}
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return HTTP.post(f"{url}{path}", json=fields, headers=headers)


def config(fake: FakeOpenAI, *keys: dict[str, Any]) -> dict[str, Any]:
    models = ["fake-model", "other-model"]
    return {"upstreams": [upstream("fake", fake.base_url, models)], "keys": list(keys)}


def new_key(folder: Path, name: str) -> str:
    ledger = open_ledger(f"sqlite:///{folder / 'ledger.db'}")
    ledger.database.migrate()
    _, secret = ledger.keys.create(name=name, scope="read", knowledge_base=None)
    ledger.close()
    return secret


def test_with_a_key_configured_nobody_is_served_without_one(fake: FakeOpenAI, tmp_path: Path) -> None:
    key = new_key(tmp_path, "team-a")
    with gateway(tmp_path, config(fake), api_key=SecretStr("admin-key")) as url:
        for wrong in (None, "nonsense"):
            refused = ask(url, wrong)
            assert refused.status_code == 401
            assert refused.json()["error"]["type"] == "authentication_error"
        assert HTTP.get(f"{url}/v1/models").status_code == 401
        assert ask(url, key).status_code == 200
        assert ask(url, "admin-key").status_code == 200
        assert HTTP.get(f"{url}/healthz").status_code == 200
    with gateway(tmp_path, config(fake), gateway_api_key=SecretStr("of-query")) as url:
        assert [ask(url, key).status_code for key in (None, "nonsense", "of-query")] == [401, 401, 200]
    assert all("admin-key" not in str(request.headers) for request in fake.requests())


def test_without_a_key_no_byte_of_the_body_is_waited_for(fake: FakeOpenAI, tmp_path: Path) -> None:
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\nContent-Length: {2**23}\r\n\r\n"
    with (
        gateway(tmp_path, config(fake), api_key=SecretStr("admin-key")) as url,
        socket.create_connection(("127.0.0.1", httpx.URL(url).port or 0), timeout=5) as connection,
    ):
        connection.sendall(head.encode())
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert answer.status == 401
        assert json.loads(answer.read())["error"]["type"] == "authentication_error"


def test_a_key_may_use_its_models_only(fake: FakeOpenAI, tmp_path: Path) -> None:
    key = new_key(tmp_path, "team-a")
    with gateway(tmp_path, config(fake, {"name": "team-a", "models": ["other-*"]})) as url:
        refused = ask(url, key)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "model-not-allowed")
        assert ask(url, key, model="other-model").status_code == 200
        listed = HTTP.get(f"{url}/v1/models", headers={"Authorization": f"Bearer {key}"}).json()["data"]
        assert [model["id"] for model in listed] == ["other-model"]


def test_requests_per_minute_are_exact_under_50_clients(fake: FakeOpenAI, tmp_path: Path) -> None:
    with (
        gateway(tmp_path, config(fake, {"name": "*", "requests_per_minute": 20})) as url,
        ThreadPoolExecutor(50) as pool,
    ):
        responses = list(pool.map(lambda _: ask(url), range(50)))
    assert sum(response.status_code == 200 for response in responses) == 20
    refused = [response for response in responses if response.status_code == 429]
    assert len(refused) == 30
    assert {response.json()["error"]["code"] for response in refused} == {"requests-per-minute"}
    assert all(1 <= int(response.headers["retry-after"]) <= 61 for response in refused)
    assert len(fake.requests()) == 20


def test_tokens_per_minute_follow_the_reported_usage(fake: FakeOpenAI, tmp_path: Path) -> None:
    fake.script({"behaviour": "answer", "usage": {"prompt_tokens": 300, "completion_tokens": 100}})
    with gateway(tmp_path, config(fake, {"name": "*", "tokens_per_minute": 1000})) as url:
        statuses = [ask(url, max_tokens=100, stream=stream).status_code for stream in (False, True, False, True)]
    assert statuses == [200, 200, 200, 429]


def test_a_request_that_failed_costs_no_tokens(fake: FakeOpenAI, tmp_path: Path) -> None:
    fake.script({"behaviour": "status", "status": 400}, {"behaviour": "answer"})
    with gateway(tmp_path, config(fake, {"name": "*", "tokens_per_minute": 600})) as url:
        assert [ask(url, max_tokens=500).status_code for _ in range(2)] == [400, 200]


def test_usage_is_summed_by_key_and_model(fake: FakeOpenAI, tmp_path: Path) -> None:
    rows: list[UsageRow] = []

    def write(new: Sequence[UsageRow]) -> None:
        rows.extend(new)

    key = new_key(tmp_path, "team-a")
    with gateway(tmp_path, config(fake), write_usage=write, gateway_usage_interval=60.0) as url:
        ask(url, key)
        ask(url, key, stream=True)
        ask(url, key, model="other-model")
        fake.script({"behaviour": "status", "status": 400})
        ask(url, key)
    assert {(row.key, row.model, row.requests, row.prompt_tokens, row.completion_tokens) for row in rows} == {
        ("team-a", "fake-model", 2, 22, 14),
        ("team-a", "other-model", 1, 11, 7),
    }


def test_a_stream_that_hides_its_usage_is_still_counted(fake: FakeOpenAI, tmp_path: Path) -> None:
    rows: list[UsageRow] = []
    with gateway(tmp_path, config(fake), write_usage=rows.extend) as url:
        assert "usage" not in ask(url, stream=True).text
    assert (rows[0].prompt_tokens, rows[0].unmetered) == (11, 0)


def test_tokens_of_a_gateway_process_end_in_the_ledger_and_in_zhiwen_usage(fake: FakeOpenAI, tmp_path: Path) -> None:
    key = new_key(tmp_path, "team-a")
    url = f"http://127.0.0.1:{free_port()}"
    environment = {
        "ZHIWEN_GATEWAY_PORT": url.rsplit(":", 1)[1],
        "ZHIWEN_GATEWAY_CONFIG": str(write_config(tmp_path, config(fake))),
        "ZHIWEN_GATEWAY_USAGE_INTERVAL": "0.2",
        "ZHIWEN_DATA_DIR": str(tmp_path),
    }
    command = [sys.executable, "-c", "from zhiwen.llm_gateway.app import main; main()"]
    with service(command, environment, f"{url}/readyz", tmp_path / "gateway.log"):
        for stream in (False, True):
            assert ask(url, key, stream=stream).status_code == 200
        deadline = time.monotonic() + 10
        while told_usage(tmp_path)["total"]["requests"] < 2:  # written while it runs
            assert time.monotonic() < deadline, "the gateway wrote no usage"
            time.sleep(0.2)
        assert ask(url, key, model="other-model").status_code == 200  # and what is left when it ends
    sums = [
        {"key": "team-a", "model": model, "requests": n, "unmetered": 0, "prompt_tokens": 11 * n}
        | {"completion_tokens": 7 * n}
        for model, n in (("fake-model", 2), ("other-model", 1))
    ]
    assert told_usage(tmp_path)["items"] == sums
    assert told_usage(tmp_path, "--key", "nobody")["items"] == []


def told_usage(folder: Path, *options: str) -> Any:
    """What `zhiwen usage --json` prints, of yesterday and today, so that midnight is no matter."""
    yesterday = (datetime.now(UTC) - timedelta(days=1)).date().isoformat()
    command = [sys.executable, "-m", "zhiwen.cli.main", "usage", "--json", "--since", yesterday, *options]
    done = subprocess.run([*command, "--data-dir", str(folder)], cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_conversations_are_logged_as_json_lines(fake: FakeOpenAI, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    with gateway(tmp_path, config(fake), gateway_export_dir=folder) as url:
        ask(url)
        ask(url, stream=True)
        ask(url, path="/v1/completions", prompt="接着写")
        fake.script({"behaviour": "die-mid-stream", "text": "年假为十天"})
        ask(url, stream=True)
    lines = [json.loads(line) for file in folder.iterdir() for line in file.read_text(encoding="utf-8").splitlines()]
    assert [line["status"] for line in lines] == ["complete", "complete", "complete", "failed"]
    assert lines[0]["messages"] == MESSAGES
    assert lines[0]["answer"] == lines[1]["answer"] == lines[2]["answer"] == "根据已知信息,年假为 10 天。[1]"
    assert lines[2]["prompt"] == "接着写"
    assert lines[3]["answer"] == "年假为十天"
    assert lines[0]["usage"] == {"prompt_tokens": 11, "completion_tokens": 7}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("choices", [None, 7, ["x"], [{"index": [0], "delta": 1, "message": 1}]])
def test_an_answer_with_odd_choices_arrives_although_it_is_logged(
    fake: FakeOpenAI, tmp_path: Path, stream: bool, choices: object
) -> None:
    fake.script({"behaviour": "answer", "extra": {"choices": choices}})
    with gateway(tmp_path, config(fake), gateway_export_dir=tmp_path / "export") as url:
        answer = ask(url, stream=stream)
    assert answer.status_code == 200
    assert f'"choices":{json.dumps(choices, separators=(",", ":"))}' in answer.text.replace(" ", "")
    assert "error" not in answer.text


def test_no_conversation_is_logged_by_default(fake: FakeOpenAI, tmp_path: Path) -> None:
    with gateway(tmp_path, config(fake)) as url:
        ask(url)
    assert not list(tmp_path.rglob("*.jsonl"))


async def test_two_gateways_share_a_limit_in_redis(redis_url: str) -> None:
    limiters = [RedisLimiter(redis_url), RedisLimiter(redis_url)]
    limits = KeyLimits(name="k", requests_per_minute=30, tokens_per_minute=10_000)
    calls = [limiters[n % 2].admit(limits, "shared", 10) for n in range(100)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    refused = [result for result in results if isinstance(result, TooMany)]
    assert len(refused) == 70
    assert {error.code for error in refused} == {"requests-per-minute"}
    assert all(1 <= error.retry_after <= 61 for error in refused)
    for limiter in limiters:
        await limiter.close()


async def test_a_socket_and_its_database_may_be_spelled_as_celery_does(redis_url: str) -> None:
    limiter = RedisLimiter(redis_url.replace("unix://", "redis+socket://") + "?virtual_host=3")
    await limiter.admit(KeyLimits(name="k", requests_per_minute=2), "spelled", 1)
    await limiter.close()
    with redis.Redis.from_url(f"{redis_url}?db=3") as third:
        assert third.exists("zhiwen:gateway:limit:spelled")


async def test_tokens_in_redis_are_settled(redis_url: str) -> None:
    limiter = RedisLimiter(redis_url)
    limits = KeyLimits(name="k", tokens_per_minute=100)
    admission = await limiter.admit(limits, "tokens", 90)
    with pytest.raises(TooMany):
        await limiter.admit(limits, "tokens", 20)
    limiter.settle(admission, 15)
    await asyncio.sleep(0.1)
    results = await asyncio.gather(*(limiter.admit(limits, "tokens", 20) for _ in range(10)), return_exceptions=True)
    assert sum(not isinstance(result, TooMany) for result in results) == 4
    await limiter.close()


async def test_without_redis_each_gateway_counts_for_itself(tmp_path: Path) -> None:
    limiter = RedisLimiter(f"unix://{tmp_path}/none.sock")
    limits = KeyLimits(name="k", requests_per_minute=2)
    results = await asyncio.gather(*(limiter.admit(limits, "k", 1) for _ in range(5)), return_exceptions=True)
    assert sum(not isinstance(result, TooMany) for result in results) == 2
    await limiter.close()


def test_a_gateway_with_redis(fake: FakeOpenAI, tmp_path: Path, redis_url: str) -> None:
    limits = {"name": "*", "requests_per_minute": 5}
    with (
        gateway(tmp_path, config(fake, limits), gateway_redis_url=SecretStr(redis_url)) as url,
        ThreadPoolExecutor(50) as pool,
    ):
        statuses = [response.status_code for response in pool.map(lambda _: ask(url), range(50))]
    assert sorted(statuses) == [200] * 5 + [429] * 45
