"""The YAML file: what it may contain, and the errors for a wrong file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from zhiwen.common.errors import ConfigurationError
from zhiwen.llm_gateway.config import load_config, parse_config
from zhiwen.llm_gateway.settings import GatewaySettings

FULL = """
default_model: qwen
upstreams:
  - name: gpu-1
    base_url: http://127.0.0.1:8000
    api_key_env: TEST_GPU_KEY
    headers: {X-Team: kb}
    weight: 2
    priority: 1
    max_concurrent: 8
    timeouts: {first_byte: 30}
    models:
      - {name: Qwen2.5-7B-Instruct, aliases: [qwen]}
      - "gpt-*"
keys:
  - {name: team-a, models: [qwen], requests_per_minute: 60, tokens_per_minute: 10000}
retry: {attempts: 2}
breaker: {failures: 3}
queue: {size: 5}
"""


def write(folder: Path, text: str) -> GatewaySettings:
    path = folder / "gateway.yaml"
    path.write_text(text, encoding="utf-8")
    return GatewaySettings(gateway_config=path)


def test_a_full_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_GPU_KEY", "sk-1")
    config = load_config(write(tmp_path, FULL))
    (upstream,) = config.upstreams
    assert upstream.root == "http://127.0.0.1:8000/v1"
    assert upstream.api_key.get_secret_value() == "sk-1"
    assert [model.name for model in upstream.models] == ["Qwen2.5-7B-Instruct", "gpt-*"]
    assert upstream.timeouts.first_byte == 30
    assert config.keys[0].models == ("qwen",)
    assert not config.serves_extractive


def test_the_three_variables() -> None:
    settings = GatewaySettings(llm_base_url="http://127.0.0.1:1/v1/", llm_api_key=SecretStr("k"), llm_model="m")
    config = load_config(settings)
    assert config.upstreams[0].root == "http://127.0.0.1:1/v1"
    assert config.upstreams[0].api_key.get_secret_value() == "k"
    assert config.default_model == "m"


def test_nothing_configured_is_the_built_in_answerer() -> None:
    assert load_config(GatewaySettings()).serves_extractive


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("upstreams: [{name: a}]", "upstreams.0.base_url"),
        ("upstreams: [{name: a, base_url: 'ftp://x'}]", "not an HTTP address"),
        ("upstreams: [{name: a, base_url: 'http://x'}, {name: a, base_url: 'http://y'}]", "a is listed twice"),
        ("keys: [{name: a}, {name: a}]", "key a is listed twice"),
        ("upstreems: []", "upstreems"),
        ("upstreams: [{name: a, base_url: 'http://x', api_key_env: TEST_NOT_SET}]", "TEST_NOT_SET"),
        ("upstreams: [", "not valid YAML"),
        ("[]", "gateway.yaml"),
    ],
)
def test_a_wrong_file_is_refused_with_the_reason(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        load_config(write(tmp_path, text))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_config(GatewaySettings(gateway_config=tmp_path / "none.yaml"))


@pytest.mark.parametrize(
    ("base_url", "root"),
    [
        ("http://h:1", "http://h:1/v1"),
        ("http://h:1/", "http://h:1/v1"),
        ("http://h:1/v1/", "http://h:1/v1"),
        ("https://h/compatible-mode/v1", "https://h/compatible-mode/v1"),
    ],
)
def test_the_root_of_the_endpoints(base_url: str, root: str) -> None:
    data: dict[str, Any] = {"upstreams": [{"name": "a", "base_url": base_url}]}
    assert parse_config(data, source="t").upstreams[0].root == root


def test_an_empty_file_is_the_built_in_answerer(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, "")).serves_extractive
