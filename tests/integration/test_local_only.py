"""Without a key, no web page elsewhere can make the user's browser read or write documents."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from services.ingest.app import create_app
from services.ingest.settings import IngestSettings


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with TestClient(create_app(IngestSettings(data_dir=tmp_path)), base_url="http://127.0.0.1:8001") as client:
        yield client


def test_local_programs_and_pages_are_served(client: TestClient) -> None:
    assert client.get("/v1/knowledge-bases").status_code == 200
    local = client.get("/v1/knowledge-bases", headers={"Origin": "http://localhost:8080"})
    assert local.status_code == 200


@pytest.mark.parametrize(
    "headers", [{"Origin": "https://example.com"}, {"Origin": "null"}, {"Host": "rebound.example.com"}]
)
def test_foreign_pages_and_rebound_names_are_refused(client: TestClient, headers: dict[str, str]) -> None:
    refused = client.get("/v1/knowledge-bases", headers=headers)
    assert refused.status_code == 403
    assert refused.json()["code"] == "not-local"
