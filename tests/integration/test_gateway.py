"""The gateway in front of a scripted model server, over real sockets: bytes, errors, streams, clients that leave."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.servers.gateways import gateway, upstream
from tests.servers.processes import FakeOpenAI, fake_openai, free_port

NEVER_OPENS = {"failures": 10**6, "least": 10**6}
ONCE = {"attempts": 1}
HTTP = httpx.Client(timeout=20, limits=httpx.Limits(max_connections=100))
MESSAGES = [{"role": "user", "content": "年假有几天?"}]


@pytest.fixture(scope="module", autouse=True)
def _close_client() -> Iterator[None]:
    yield
    HTTP.close()


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
    models = ["fake-model", {"name": "fake-embedding", "aliases": ["bge"]}, {"name": "Qwen2.5-7B", "aliases": ["千问"]}]
    config = {
        "upstreams": [upstream("fake", model_server.base_url, models, api_key="sk-up", headers={"X-Team": "kb"})],
        "default_model": "fake-model",
        "breaker": NEVER_OPENS,
        "retry": ONCE,
    }
    settings: dict[str, Any] = {
        "gateway_idle_timeout": 0.7,
        "gateway_first_byte_timeout": 1.0,
        "gateway_max_request_bytes": 100_000,
    }
    with gateway(tmp_path_factory.mktemp("gateway"), config, **settings) as address:
        yield address


def ask(url: str, *, stream: bool = False, model: str = "fake-model", **more: Any) -> httpx.Response:
    fields = {"model": model, "messages": MESSAGES, "stream": stream, **more}
    return HTTP.post(f"{url}/v1/chat/completions", json=fields)


def events(response: httpx.Response) -> list[Any]:
    lines = [line[6:] for line in response.text.splitlines() if line.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def text_of(response: httpx.Response) -> str:
    chunks = [event for event in events(response) if event != "[DONE]" and event.get("choices")]
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_comes_back_byte_for_byte(fake: FakeOpenAI, url: str, stream: bool) -> None:
    fake.script({"behaviour": "answer", "extra": {"vendor": {"x": 1.5}, "system_fingerprint": "fp"}})
    through, direct = ask(url, stream=stream), ask(fake.base_url.removesuffix("/v1"), stream=stream)
    assert through.status_code == 200
    assert through.content == direct.content
    assert through.headers["x-fake"] == "fake"
    assert through.headers["content-type"] == direct.headers["content-type"] or stream


def test_a_request_goes_out_byte_for_byte(fake: FakeOpenAI, url: str) -> None:
    body = (
        '{ "model" : "fake-model","messages":[{"role":"user","content":"\\u4f60好"}],"tools":[{"type":"function",'
        '"function":{"name":"f","parameters":{}}}],"response_format":{"type":"json_object"},"top_k":1.50E+1 , "x":null}'
    ).encode()
    headers = {"Content-Type": "application/json", "X-Request-ID": "req-1", "Authorization": "Bearer client-key"}
    headers["traceparent"] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    response = HTTP.post(f"{url}/v1/chat/completions", content=body, headers=headers)
    assert response.headers["x-request-id"] == "req-1"
    (received,) = fake.requests()
    assert received.body == body
    assert received.path == "/v1/chat/completions"
    assert received.headers["x-request-id"] == "req-1"
    assert received.headers["authorization"] == "Bearer sk-up"
    assert received.headers["x-team"] == "kb"
    assert received.headers["traceparent"] == headers["traceparent"]


@pytest.mark.parametrize("stream", [False, True])
def test_an_alias_is_all_that_changes(fake: FakeOpenAI, url: str, stream: bool) -> None:
    through, direct = ask(url, model="千问", stream=stream), ask(fake.base_url[:-3], model="Qwen2.5-7B", stream=stream)
    assert fake.requests()[0].json()["model"] == "Qwen2.5-7B"
    assert through.text == direct.text.replace('"Qwen2.5-7B"', '"千问"')


def test_usage_is_asked_for_and_not_shown_unless_the_client_asked(fake: FakeOpenAI, url: str) -> None:
    plain = ask(url, stream=True)
    assert fake.requests()[0].json()["stream_options"] == {"include_usage": True}
    assert "usage" not in plain.text
    shown = ask(url, stream=True, stream_options={"include_usage": True})
    assert events(shown)[-2]["usage"]["total_tokens"] == 18


def test_a_server_that_refuses_to_be_asked_for_usage_is_asked_without(fake: FakeOpenAI, tmp_path: Path) -> None:
    fake.script("strict")
    with gateway(tmp_path, {"upstreams": [upstream("fake", fake.base_url)]}) as url:
        assert [ask(url, stream=True).status_code for _ in range(2)] == [200, 200]
        assert ask(url, stream=True, stream_options={"include_usage": True}).status_code == 422
    asked = ["stream_options" in request.json() for request in fake.requests()]
    assert asked == [True, False, False, True]


def test_compression_that_nobody_asked_for_is_undone(fake: FakeOpenAI, url: str) -> None:
    fake.script("gzip")
    response = ask(url)
    assert response.json()["choices"][0]["message"]["content"]
    assert "content-encoding" not in response.headers
    assert fake.requests()[0].headers["accept-encoding"] == "identity"


def test_no_model_means_the_default_one(fake: FakeOpenAI, url: str) -> None:
    response = HTTP.post(f"{url}/v1/chat/completions", json={"messages": MESSAGES})
    assert response.json()["model"] == "fake-model"
    assert fake.requests()[0].json() == {"model": "fake-model", "messages": MESSAGES}


@pytest.mark.parametrize("behaviour", ["split", "no-done", "crlf"])
def test_odd_streams_arrive_whole(fake: FakeOpenAI, url: str, behaviour: str) -> None:
    fake.script({"behaviour": behaviour, "text": "年假为十天。😀 ok"})
    response = ask(url, stream=True)
    assert text_of(response) == "年假为十天。😀 ok"
    assert events(response)[-1] == "[DONE]"


FLAT = {"object": "error", "message": "maximum context length", "code": 40303}
DETAIL = {"detail": [{"loc": ["body", "messages"], "msg": "Field required", "type": "missing"}]}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("step", "status", "code"),
    [
        ({"behaviour": "reset"}, 502, "upstream-disconnected"),
        ({"behaviour": "hang"}, 504, "upstream-timeout"),
        ({"behaviour": "garbage"}, 502, "upstream-invalid-answer"),
        ({"behaviour": "empty"}, 502, "upstream-empty-answer"),
        ({"behaviour": "status", "status": 400, "body": FLAT}, 400, "context_length_exceeded"),
        ({"behaviour": "status", "status": 422, "body": DETAIL}, 422, "upstream-error"),
        ({"behaviour": "status", "status": 500, "body": "<html>secret</html>"}, 502, "upstream-error"),
        ({"behaviour": "status", "status": 503}, 503, None),
        ({"behaviour": "status", "status": 401}, 502, "upstream-refused-key"),
        ({"behaviour": "json-instead", "body": FLAT}, 400, "context_length_exceeded"),
    ],
)
def test_an_error_before_the_first_byte_is_openais_object_with_a_status(
    fake: FakeOpenAI, url: str, step: dict[str, Any], status: int, code: str | None, stream: bool
) -> None:
    fake.script(step)
    response = ask(url, stream=stream)
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (status, code)
    assert {"message", "type", "param", "code"} == error.keys()
    assert response.headers["content-type"] == "application/json"
    assert "secret" not in response.text


def test_an_answer_that_breaks_off_within_its_body_is_an_error(fake: FakeOpenAI, url: str) -> None:
    fake.script("die-mid-body")
    response = ask(url)
    assert (response.status_code, response.json()["error"]["code"]) == (502, "upstream-died")


@pytest.mark.parametrize(
    ("step", "code"),
    [
        ({"behaviour": "die-mid-stream"}, "upstream-died"),
        ({"behaviour": "quit-mid-stream"}, "upstream-died"),
        ({"behaviour": "stall"}, "upstream-timeout"),
        ({"behaviour": "error-event"}, None),
        ({"behaviour": "error-event", "event": {"text": "**OOM**", "error_code": 50002}}, "upstream-error"),
    ],
)
def test_an_error_within_a_stream_is_one_event_and_the_last(
    fake: FakeOpenAI, url: str, step: dict[str, Any], code: str | None
) -> None:
    fake.script({**step, "text": "年假为十天,报销三十天。", "after": 2})
    response = ask(url, stream=True)
    assert response.status_code == 200
    assert text_of(response) in ("年假为十天,报销", "年假为十")
    *chunks, last = events(response)
    assert last["error"]["code"] == code
    assert last["error"]["message"]
    assert not any("error" in chunk for chunk in chunks)


def test_an_error_as_the_first_event_still_becomes_a_status(fake: FakeOpenAI, url: str) -> None:
    fake.script({"behaviour": "error-event", "after": 0})
    response = ask(url, stream=True)
    assert response.status_code == 502
    assert response.json()["error"]["message"] == "out of memory"


def test_each_chunk_leaves_when_it_comes(fake: FakeOpenAI, url: str) -> None:
    fake.script({"behaviour": "answer", "pieces": ["a", "b", "c"], "delay": 0.3})
    fields = {"model": "fake-model", "messages": MESSAGES, "stream": True}
    arrived = []
    with HTTP.stream("POST", f"{url}/v1/chat/completions", json=fields) as response:
        for _chunk in response.iter_raw():
            arrived.append(time.monotonic())
    gaps = [b - a for a, b in pairwise(arrived)]
    assert sum(gap > 0.15 for gap in gaps) >= 4


@pytest.mark.parametrize("behaviour", ["hang", "stall"])
def test_a_client_that_leaves_cancels_the_upstream_call_within_a_second(
    fake: FakeOpenAI, url: str, behaviour: str
) -> None:
    fake.script(behaviour)
    fields = {"model": "fake-model", "messages": MESSAGES, "stream": True}
    with pytest.raises(httpx.ReadTimeout):
        HTTP.post(f"{url}/v1/chat/completions", json=fields, timeout=httpx.Timeout(5.0, read=0.3))
    left = time.monotonic()
    while fake.state()["cancelled"] == 0:
        assert time.monotonic() - left < 1.0
        time.sleep(0.02)
    assert fake.state()["open"] == 0


def test_a_deadline_of_the_client_is_kept(fake: FakeOpenAI, url: str) -> None:
    fake.script({"behaviour": "slow", "delay": 5})
    began = time.monotonic()
    response = HTTP.post(
        f"{url}/v1/chat/completions", json={"messages": MESSAGES}, headers={"X-Request-Timeout": "0.3"}
    )
    assert (response.status_code, response.json()["error"]["code"]) == (504, "deadline-exceeded")
    assert time.monotonic() - began < 2


def test_a_deadline_within_a_stream_is_an_error_event(fake: FakeOpenAI, url: str) -> None:
    fake.script({"behaviour": "answer", "pieces": list("abcdefgh"), "delay": 0.2})
    fields = {"messages": MESSAGES, "stream": True}
    response = HTTP.post(f"{url}/v1/chat/completions", json=fields, headers={"X-Request-Timeout": "0.5"})
    assert events(response)[-1]["error"]["code"] == "deadline-exceeded"


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        (b'{"model":', 400, "invalid-json", None),
        (b"[]", 400, "invalid-json", None),
        (b'{"model":1}', 400, "invalid-request", "model"),
        (b'{"model":"none","messages":[]}', 404, "model-not-found", "model"),
        (b'{"x":"' + b"x" * 200_000 + b'"}', 413, "request-too-large", None),
    ],
)
def test_a_bad_request_reaches_no_model_server(
    fake: FakeOpenAI, url: str, body: bytes, status: int, code: str, param: str | None
) -> None:
    response = HTTP.post(f"{url}/v1/chat/completions", content=body)
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (status, code, param)
    assert fake.requests() == []


def test_a_body_over_the_limit_without_a_length_is_refused(fake: FakeOpenAI, url: str) -> None:
    response = HTTP.post(f"{url}/v1/chat/completions", content=(b"x" * 10_000 for _ in range(20)))
    assert response.status_code == 413


def test_other_routes_answer_in_the_same_shape(url: str) -> None:
    assert HTTP.get(f"{url}/v1/nothing").json()["error"]["code"] == "route-not-found"
    assert HTTP.get(f"{url}/v1/chat/completions").status_code == 405


def test_completions_embeddings_and_rerank_pass_through(fake: FakeOpenAI, url: str) -> None:
    done = HTTP.post(f"{url}/v1/completions", json={"model": "fake-model", "prompt": "x", "echo": False}).json()
    assert done["object"] == "text_completion"
    vectors = HTTP.post(f"{url}/v1/embeddings", json={"model": "bge", "input": ["a", "bc"]}).json()
    assert (vectors["model"], len(vectors["data"])) == ("bge", 2)
    ranked = HTTP.post(f"{url}/v1/rerank", json={"model": "fake-model", "query": "q", "documents": ["a", "b"]}).json()
    assert [result["index"] for result in ranked["results"]] == [0, 1]
    assert [request.path for request in fake.requests()] == ["/v1/completions", "/v1/embeddings", "/v1/rerank"]


def test_models_are_listed(url: str) -> None:
    listed = HTTP.get(f"{url}/v1/models").json()
    assert listed["object"] == "list"
    assert [model["id"] for model in listed["data"]] == ["fake-model", "fake-embedding", "bge", "Qwen2.5-7B", "千问"]
    assert HTTP.get(f"{url}/v1/models/千问").json()["id"] == "千问"
    assert HTTP.get(f"{url}/v1/models/none").json()["error"]["code"] == "model-not-found"


def test_every_endpoint_is_documented_with_an_example(url: str) -> None:
    paths = HTTP.get(f"{url}/openapi.json").json()["paths"]
    for path in ("chat/completions", "completions", "embeddings", "rerank"):
        post = paths[f"/v1/{path}"]["post"]
        assert post["requestBody"]["content"]["application/json"]["example"]
        assert post["responses"]["200"]["content"]["application/json"]["example"]
    assert "/v1/models" in paths
    assert HTTP.get(f"{url}/docs").status_code == 200


def test_metrics_name_routes_and_upstreams(fake: FakeOpenAI, url: str) -> None:
    ask(url)
    text = HTTP.get(f"{url}/metrics").text
    assert 'zhiwen_gateway_upstream_calls_total{outcome="ok",upstream="fake"}' in text
    assert 'route="/v1/chat/completions"' in text
    assert "zhiwen_gateway_tokens_total" in text


def test_64_streams_at_once_lose_and_reorder_nothing(fake: FakeOpenAI, url: str) -> None:
    fake.script({"behaviour": "answer", "pieces": [f"<{n}>" for n in range(200)]})
    expected = ask(fake.base_url.removesuffix("/v1"), stream=True).content
    got: list[bytes] = []
    threads = [threading.Thread(target=lambda: got.append(ask(url, stream=True).content)) for _ in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 64
    assert set(got) == {expected}


def test_nobody_listens_at_the_upstream(tmp_path: Path) -> None:
    config = {"upstreams": [upstream("gone", f"http://127.0.0.1:{free_port()}/v1")], "retry": ONCE}
    with gateway(tmp_path, config) as url:
        response = ask(url)
        assert (response.status_code, response.json()["error"]["code"]) == (502, "upstream-unreachable")
