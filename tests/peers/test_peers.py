"""The gateway in front of real model servers, each in a virtual environment of its own (`make test-peers`).

FastChat 0.2.36 (controller, worker, openai_api_server) and `transformers serve`, with a tiny random model made here.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.servers.gateways import gateway
from tests.servers.processes import free_port, stop

ROOT = Path(__file__).resolve().parents[2]
PEERS = Path(os.environ.get("ZHIWEN_TEST_PEERS", ROOT / ".venv-peers"))
MESSAGES: Any = [{"role": "user", "content": "年假有几天?"}]
STARTS_WITHIN = 180  # seconds; these servers import torch first
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def peer_program(peer: str, program: str) -> str:
    path = PEERS / peer / "bin" / program
    if not path.exists():
        pytest.skip(f"{peer} is not installed: make test-peers")
    return str(path)


@contextlib.contextmanager
def running(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    env = {key: value for key, value in os.environ.items() if not key.startswith("ZHIWEN_")}
    env |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "LOGDIR": str(log.parent)}
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=log.parent, env=env, stdout=out, stderr=out)
        try:
            yield process
        finally:
            stop(process)


def wait(url: str, log: Path, *, body: Any = None, until: str = "") -> None:
    deadline = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.HTTPError):
            response = httpx.get(url, timeout=5) if body is None else httpx.post(url, json=body, timeout=5)
            if until in response.text:
                return
        time.sleep(0.5)
    raise AssertionError(log.read_text(errors="replace")[-3000:])


def tiny_model(peer: str, folder: Path) -> Path:
    script = ROOT / "tests/peers/tiny_model.py"
    subprocess.run([peer_program(peer, "python"), str(script), str(folder / "tiny")], check=True, capture_output=True)
    return folder / "tiny"


@pytest.fixture(scope="module")
def transformers_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Base URL and model name of `transformers serve`."""
    folder = tmp_path_factory.mktemp("transformers")
    model = tiny_model("transformers", folder)
    port = free_port()
    command = [peer_program("transformers", "transformers"), "serve", str(model), "--host", "127.0.0.1"]
    with running([*command, "--port", str(port), "--device", "cpu"], folder / "log"):
        wait(f"http://127.0.0.1:{port}/health", folder / "log")
        yield f"http://127.0.0.1:{port}/v1", str(model)


@pytest.fixture(scope="module")
def fastchat_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Base URL and model name of FastChat's API server."""
    folder = tmp_path_factory.mktemp("fastchat")
    model = tiny_model("fastchat", folder)
    python = peer_program("fastchat", "python")
    controller, worker, api = (free_port() for _ in range(3))

    def part(module: str, port: int, *more: str) -> list[str]:
        return [python, "-m", f"fastchat.serve.{module}", "--host", "127.0.0.1", "--port", str(port), *more]

    at = f"http://127.0.0.1:{controller}"
    own = f"http://127.0.0.1:{worker}"
    names = ["--model-path", str(model), "--model-names", "tiny", "--device", "cpu"]
    with contextlib.ExitStack() as stack:
        stack.enter_context(running(part("controller", controller), folder / "controller.log"))
        wait(f"{at}/list_models", folder / "controller.log", body={}, until="models")
        worker_command = part("model_worker", worker, "--controller-address", at, "--worker-address", own, *names)
        stack.enter_context(running(worker_command, folder / "worker.log"))
        wait(f"{at}/list_models", folder / "worker.log", body={}, until="tiny")
        stack.enter_context(running(part("openai_api_server", api, "--controller-address", at), folder / "api.log"))
        wait(f"http://127.0.0.1:{api}/v1/models", folder / "api.log", until="tiny")
        yield f"http://127.0.0.1:{api}/v1", "tiny"


@pytest.fixture(params=["fastchat_url", "transformers_url"])
def peer(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A gateway in front of each peer, which calls its model `qwen`."""
    base_url, model = request.getfixturevalue(request.param)
    upstream = {"name": "peer", "base_url": base_url, "models": [{"name": model, "aliases": ["qwen"]}]}
    with gateway(tmp_path, {"upstreams": [upstream]}) as url:
        yield url


def test_the_openai_client_gets_answers(peer: str) -> None:
    with openai.OpenAI(base_url=f"{peer}/v1", api_key="none", max_retries=0) as client:
        done = client.chat.completions.create(model="qwen", messages=MESSAGES, max_tokens=8)
        assert done.model == "qwen"
        assert done.usage is not None
        assert done.usage.prompt_tokens > 0
        chunks = list(client.chat.completions.create(model="qwen", messages=MESSAGES, max_tokens=8, stream=True))
        assert {chunk.model for chunk in chunks} == {"qwen"}
        assert chunks[-1].choices[0].finish_reason in ("stop", "length")


def test_every_stream_ends_with_done(peer: str) -> None:
    fields = {"model": "qwen", "messages": MESSAGES, "max_tokens": 8, "stream": True}
    text = httpx.post(f"{peer}/v1/chat/completions", json=fields, timeout=60).text
    assert text.endswith("data: [DONE]\n\n")
    assert text.count("[DONE]") == 1
    assert '"error"' not in text


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("wrong", [{"messages": 7}, {"max_tokens": "many"}, {"temperature": -5}])
def test_errors_are_openais_object(peer: str, wrong: dict[str, Any], stream: bool) -> None:
    fields = {"model": "qwen", "messages": MESSAGES, "max_tokens": 4, "stream": stream, **wrong}
    response = httpx.post(f"{peer}/v1/chat/completions", json=fields, timeout=60)
    if response.status_code == 200 and stream:
        last = [line for line in response.text.splitlines() if line][-1]
        assert last == "data: [DONE]" or json.loads(last.removeprefix("data: "))["error"]["message"]
    elif response.status_code != 200:
        assert {"message", "type", "param", "code"} == response.json()["error"].keys()


def test_ready(peer: str) -> None:
    assert httpx.get(f"{peer}/readyz", timeout=10).status_code == 200
