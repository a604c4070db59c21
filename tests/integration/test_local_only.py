"""Without a key, nobody elsewhere is served, and no web page elsewhere can make the user's browser read or write."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from services.ingest.app import create_app
from services.ingest.settings import IngestSettings

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
