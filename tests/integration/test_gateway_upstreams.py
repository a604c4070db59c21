"""Several model servers behind one gateway: failover, retries, breakers, queues, checks and reloads."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.servers.gateways import gateway, upstream, write_config
from tests.servers.processes import FakeOpenAI, fake_openai, free_port

MESSAGES = [{"role": "user", "content": "年假有几天?"}]
HTTP = httpx.Client(timeout=20, limits=httpx.Limits(max_connections=100))
FAST = {"base": 0.01, "cap": 0.02}


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[FakeOpenAI, FakeOpenAI]]:
    with fake_openai("one") as one, fake_openai("two") as two:
        yield one, two
    HTTP.close()


@pytest.fixture
def one(servers: tuple[FakeOpenAI, FakeOpenAI]) -> FakeOpenAI:
    servers[0].forget()
    return servers[0]


@pytest.fixture
def two(servers: tuple[FakeOpenAI, FakeOpenAI]) -> FakeOpenAI:
    servers[1].forget()
    return servers[1]


def ask(url: str, *, stream: bool = False, headers: dict[str, str] | None = None) -> httpx.Response:
    fields = {"model": "fake-model", "messages": MESSAGES, "stream": stream}
    return HTTP.post(f"{url}/v1/chat/completions", json=fields, headers=headers)


def eventually(true: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def ordered(one: FakeOpenAI, two: FakeOpenAI, **more: Any) -> dict[str, Any]:
    """`one` first, `two` when it fails."""
    upstreams = [upstream("one", one.base_url, priority=0), upstream("two", two.base_url, priority=1)]
    return {"upstreams": upstreams, "retry": FAST, **more}


STATUS_503 = {"behaviour": "status", "status": 503}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("step", ["reset", "garbage", "empty", STATUS_503, {"behaviour": "status", "status": 429}])
def test_before_the_first_byte_the_next_upstream_answers(
    one: FakeOpenAI, two: FakeOpenAI, tmp_path: Path, step: Any, stream: bool
) -> None:
    one.script(step)
    with gateway(tmp_path, ordered(one, two)) as url:
        response = ask(url, stream=stream)
    assert response.status_code == 200
    assert response.headers["x-fake"] == "two"
    assert (len(one.requests()), len(two.requests())) == (1, 1)


def test_an_upstream_that_does_not_answer_in_time_is_left_for_the_next(
    one: FakeOpenAI, two: FakeOpenAI, tmp_path: Path
) -> None:
    one.script("hang")
    with gateway(tmp_path, ordered(one, two), gateway_first_byte_timeout=0.3) as url:
        assert ask(url).headers["x-fake"] == "two"


def test_nobody_listens_at_the_first(two: FakeOpenAI, tmp_path: Path) -> None:
    upstreams = [upstream("gone", f"http://127.0.0.1:{free_port()}/v1"), upstream("two", two.base_url, priority=1)]
    with gateway(tmp_path, {"upstreams": upstreams}) as url:
        assert ask(url).headers["x-fake"] == "two"


@pytest.mark.parametrize(
    "step", ["die-mid-body", {"behaviour": "status", "status": 400}, {"behaviour": "status", "status": 500}]
)
def test_what_another_upstream_would_not_mend_is_not_failed_over(
    one: FakeOpenAI, two: FakeOpenAI, tmp_path: Path, step: Any
) -> None:
    one.script(step)
    with gateway(tmp_path, ordered(one, two)) as url:
        assert ask(url).status_code in (400, 502)
    assert two.requests() == []


def test_after_the_first_byte_nothing_is_failed_over(one: FakeOpenAI, two: FakeOpenAI, tmp_path: Path) -> None:
    one.script("die-mid-stream")
    with gateway(tmp_path, ordered(one, two)) as url:
        response = ask(url, stream=True)
    assert '"error"' in response.text.splitlines()[-2]
    assert two.requests() == []


def alone(server: FakeOpenAI, **more: Any) -> dict[str, Any]:
    own = more.pop("own", {})
    return {"upstreams": [upstream("one", server.base_url, **own)], "retry": FAST, **more}


@pytest.mark.parametrize("step", ["reset", STATUS_503, {"behaviour": "status", "status": 502}])
def test_the_only_upstream_is_asked_again(one: FakeOpenAI, tmp_path: Path, step: Any) -> None:
    one.script(step, step, "answer")
    with gateway(tmp_path, alone(one)) as url:
        assert ask(url).status_code == 200
    assert len(one.requests()) == 3


def test_retry_after_is_honoured(one: FakeOpenAI, tmp_path: Path) -> None:
    one.script({"behaviour": "status", "status": 429, "headers": {"Retry-After": "1"}}, "answer")
    with gateway(tmp_path, alone(one)) as url:
        began = time.monotonic()
        assert ask(url).status_code == 200
        assert time.monotonic() - began >= 1.0


def test_a_retry_after_too_long_to_wait_for_is_told_and_kept(one: FakeOpenAI, tmp_path: Path) -> None:
    one.script({"behaviour": "status", "status": 429, "headers": {"Retry-After": "30"}})
    with gateway(tmp_path, alone(one)) as url:
        first, second = ask(url), ask(url)
    assert (first.status_code, first.headers["retry-after"]) == (429, "30")
    assert (second.status_code, second.json()["error"]["code"]) == (429, "upstream-rate-limited")
    assert 25 <= int(second.headers["retry-after"]) <= 30
    assert len(one.requests()) == 1


def test_the_breaker_opens_and_a_probe_closes_it(one: FakeOpenAI, tmp_path: Path) -> None:
    one.script({"behaviour": "status", "status": 500})
    config = alone(one, breaker={"failures": 3, "open_seconds": 0.5})
    with gateway(tmp_path, config) as url:
        assert [ask(url).status_code for _ in range(3)] == [502, 502, 502]
        refused = ask(url)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "no-upstream")
        assert "retry-after" in refused.headers
        assert len(one.requests()) == 3
        one.script("answer")
        time.sleep(0.6)
        assert [ask(url).status_code for _ in range(2)] == [200, 200]


def test_calls_are_shared_by_weight(one: FakeOpenAI, two: FakeOpenAI, tmp_path: Path) -> None:
    for server in (one, two):
        server.script({"behaviour": "slow", "delay": 0.4})
    upstreams = [upstream("one", one.base_url, weight=3), upstream("two", two.base_url)]
    with gateway(tmp_path, {"upstreams": upstreams}) as url, ThreadPoolExecutor(16) as pool:
        assert {response.status_code for response in pool.map(lambda _: ask(url), range(16))} == {200}
    assert (len(one.requests()), len(two.requests())) == (12, 4)


def test_a_busy_upstream_queues_and_a_full_queue_answers_429(one: FakeOpenAI, tmp_path: Path) -> None:
    one.script({"behaviour": "slow", "delay": 0.4})
    config = alone(one, own={"max_concurrent": 1}, queue={"size": 2})
    with gateway(tmp_path, config) as url, ThreadPoolExecutor(6) as pool:
        responses = list(pool.map(lambda _: ask(url), range(6)))
    assert sorted(response.status_code for response in responses) == [200] * 3 + [429] * 3
    refused = next(response for response in responses if response.status_code == 429)
    assert refused.json()["error"]["code"] == "queue-full"
    assert one.state()["most_open"] == 1


def test_a_deadline_in_the_queue_is_504_and_frees_its_place(one: FakeOpenAI, tmp_path: Path) -> None:
    one.script({"behaviour": "slow", "delay": 1.0})
    config = alone(one, own={"max_concurrent": 1}, queue={"size": 1})
    with gateway(tmp_path, config) as url, ThreadPoolExecutor(2) as pool:
        first = pool.submit(ask, url)
        eventually(lambda: one.state()["open"] == 1)
        late = ask(url, headers={"X-Request-Timeout": "0.2"})
        assert (late.status_code, late.json()["error"]["code"]) == (504, "deadline-exceeded")
        assert first.result().status_code == 200
        assert ask(url).status_code == 200


def test_a_client_that_leaves_the_queue_frees_its_place(one: FakeOpenAI, tmp_path: Path) -> None:
    one.script({"behaviour": "slow", "delay": 0.8}, "answer")
    config = alone(one, own={"max_concurrent": 1}, queue={"size": 1})
    with gateway(tmp_path, config) as url, ThreadPoolExecutor(2) as pool:
        first = pool.submit(ask, url)
        eventually(lambda: one.state()["open"] == 1)
        with pytest.raises(httpx.ReadTimeout):
            HTTP.post(f"{url}/v1/chat/completions", json={"messages": MESSAGES}, timeout=httpx.Timeout(5, read=0.1))
        time.sleep(0.2)
        assert ask(url).status_code == 200
        assert first.result().status_code == 200
    assert len(one.requests()) == 2


def checked(entry: dict[str, Any]) -> dict[str, Any]:
    return {**entry, "health": {"interval": 0.1, "timeout": 1.0}}


def test_checks_find_out_that_a_server_went_and_came_back(two: FakeOpenAI, tmp_path: Path) -> None:
    with fake_openai("one") as one:
        port = one.port
        upstreams = [checked(upstream("one", one.base_url)), checked(upstream("two", two.base_url, priority=1))]
        with gateway(tmp_path, {"upstreams": upstreams}) as url:
            assert ask(url).headers["x-fake"] == "one"
            assert HTTP.get(f"{url}/readyz").status_code == 200

            def gone() -> bool:
                return 'zhiwen_gateway_healthy{upstream="one"} 0.0' in HTTP.get(f"{url}/metrics").text

            one.close()
            _kill(port)
            eventually(gone)
            assert ask(url).headers["x-fake"] == "two"
            assert HTTP.get(f"{url}/readyz").status_code == 200
            with fake_openai("one", port):
                eventually(lambda: not gone())
                eventually(lambda: ask(url).headers["x-fake"] == "one")


def _kill(port: int) -> None:
    """End the fake server that listens on `port`: one of ours, started by this test."""
    import psutil

    for child in psutil.Process().children():
        if any(c.laddr.port == port and c.status == psutil.CONN_LISTEN for c in child.net_connections()):
            child.terminate()
            child.wait(10)


def test_not_ready_while_no_upstream_answers(tmp_path: Path) -> None:
    config = {"upstreams": [checked(upstream("gone", f"http://127.0.0.1:{free_port()}/v1"))]}
    with gateway(tmp_path, config) as url:
        eventually(lambda: HTTP.get(f"{url}/readyz").status_code == 503)
        assert "gone" in HTTP.get(f"{url}/readyz").json()["checks"]["upstreams"]
        assert HTTP.get(f"{url}/healthz").status_code == 200


def test_wildcards_are_listed_by_what_the_server_lists(one: FakeOpenAI, tmp_path: Path) -> None:
    with gateway(tmp_path, llm_base_url=one.base_url) as url:

        def listed() -> list[str]:
            return [model["id"] for model in HTTP.get(f"{url}/v1/models").json()["data"]]

        eventually(lambda: listed() == ["fake-model", "fake-embedding"])
        answer = HTTP.post(f"{url}/v1/chat/completions", json={"messages": MESSAGES})
        assert answer.json()["model"] == "fake-model"


def test_a_reload_takes_effect_and_drops_no_stream(one: FakeOpenAI, two: FakeOpenAI, tmp_path: Path) -> None:
    one.script({"behaviour": "answer", "pieces": [str(n) for n in range(12)], "delay": 0.2})
    with gateway(tmp_path, alone(one)) as url:
        streamed: list[str] = []
        stream = threading.Thread(target=lambda: streamed.append(ask(url, stream=True).text))
        stream.start()
        eventually(lambda: one.state()["open"] == 1)
        _change(tmp_path, {"upstreams": [upstream("two", two.base_url)]})
        eventually(lambda: ask(url).headers.get("x-fake") == "two", 6)
        stream.join()
    assert streamed[0].endswith("data: [DONE]\n\n")
    assert '"11"' in streamed[0]


def test_a_wrong_file_changes_nothing(one: FakeOpenAI, tmp_path: Path) -> None:
    with gateway(tmp_path, alone(one)) as url:
        (tmp_path / "gateway.yaml").write_text("upstreams: [{name: x}]")
        time.sleep(1.5)
        assert ask(url).status_code == 200


def _change(folder: Path, config: Mapping[str, Any]) -> None:
    write_config(folder, config)
    assert json.loads((folder / "gateway.yaml").read_text()) == config
