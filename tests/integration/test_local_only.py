"""Without a key, nobody elsewhere is served, and no web page elsewhere can make the user's browser read or write."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from zhiwen.ingest.api.app import create_app
from zhiwen.ingest.settings import IngestSettings
from zhiwen.llm_gateway.app import create_app as create_gateway
from zhiwen.llm_gateway.settings import GatewaySettings

HERE = ("127.0.0.1", 50000)
FOREIGN = [
    {"Origin": "https://example.com"},
    {"Origin": "null"},
    {"Origin": "http://["},
    {"Host": "rebound.example.com"},
    {"Host": "["},
]


def client_of_ingest(tmp_path: Path, client: tuple[str, int]) -> TestClient:
    app = create_app(IngestSettings(data_dir=tmp_path))
    return TestClient(app, base_url="http://127.0.0.1:8001", client=client, raise_server_exceptions=False)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with client_of_ingest(tmp_path, HERE) as client:
        yield client


def test_local_programs_and_pages_are_served(client: TestClient) -> None:
    assert client.get("/v1/knowledge-bases").status_code == 200
    local = client.get("/v1/knowledge-bases", headers={"Origin": "http://localhost:8080"})
    assert local.status_code == 200


@pytest.mark.parametrize("headers", FOREIGN)
def test_foreign_pages_and_rebound_names_are_refused(client: TestClient, headers: dict[str, str]) -> None:
    refused = client.get("/v1/knowledge-bases", headers=headers)
    assert refused.status_code == 403
    assert refused.json()["code"] == "not-local"


@pytest.mark.parametrize(("address", "status"), [("::1", 200), ("127.8.9.10", 200), ("192.0.2.7", 403)])
def test_other_machines_are_refused(tmp_path: Path, address: str, status: int) -> None:
    with client_of_ingest(tmp_path, (address, 50000)) as client:
        assert client.get("/v1/knowledge-bases").status_code == status


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[TestClient]:
    app = create_gateway(GatewaySettings(data_dir=tmp_path))
    with TestClient(app, base_url="http://127.0.0.1:8003", client=HERE, raise_server_exceptions=False) as client:
        yield client


ENDPOINTS = [
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/completions"),
    ("POST", "/v1/embeddings"),
    ("POST", "/v1/rerank"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/default"),
]


@pytest.mark.parametrize("headers", FOREIGN)
@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
def test_gateway_refuses_foreign_pages_and_rebound_names(
    gateway: TestClient, method: str, path: str, headers: dict[str, str]
) -> None:
    refused = gateway.request(method, path, headers={"Content-Type": "text/plain", **headers}, content="{}")
    assert refused.status_code == 403
    assert refused.json()["error"]["code"] == "not-local"


def test_gateway_serves_local_programs_and_pages(gateway: TestClient) -> None:
    question = {"messages": [{"role": "user", "content": "年假有几天?"}]}
    for headers in ({}, {"Origin": "http://localhost:8080"}):
        assert gateway.post("/v1/chat/completions", json=question, headers=headers).status_code == 200
        assert gateway.get("/v1/models", headers=headers).status_code == 200
