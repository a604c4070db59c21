"""The web application of the page, in process: health, sign-in, headers, and nothing from other machines."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from starlette.testclient import TestClient

from tests.unit.client.fake_api import FakeApi
from zhiwen.common.errors import ConfigurationError
from zhiwen.webui.app import create_app
from zhiwen.webui.settings import WebuiSettings


def page(*, key: str = "", scratch: Path | None = None) -> TestClient:
    async def built() -> FastAPI:
        """In a running loop, because outside of one gradio makes loops that it never closes."""
        settings = WebuiSettings(api_key=SecretStr(key))
        return create_app(settings, scratch=scratch, transport=FakeApi({"k": {}}).transport)

    return TestClient(asyncio.run(built()), base_url="http://127.0.0.1:8080")


@pytest.fixture(scope="module")
def open_page() -> Iterator[TestClient]:
    with page() as client:
        yield client


def test_health_and_readiness(open_page: TestClient) -> None:
    assert open_page.get("/healthz").json() == {"status": "ok"}
    assert open_page.get("/readyz").json() == {"status": "ready", "checks": {"ingest": "ok", "query": "ok"}}


def test_page_loads_nothing_from_other_machines(open_page: TestClient) -> None:
    answer = open_page.get("/")
    assert answer.status_code == 200
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    loaded = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="([^"]+)"', answer.text)
    assert loaded
    assert [address for address in loaded if address.startswith(("http", "//"))] == []
    assert "googleapis" not in open_page.get("/theme.css").text


def test_page_reports_nothing_to_its_makers(open_page: TestClient) -> None:
    assert open_page.get("/config").json()["analytics_enabled"] is False


def test_delete_asks_first_in_both_languages(open_page: TestClient) -> None:
    config = open_page.get("/config").json()
    (button,) = (part["id"] for part in config["components"] if part["props"].get("elem_id") == "delete")
    (click,) = (step for step in config["dependencies"] if [button, "click"] in step["targets"])
    assert "confirm(" in click["js"]
    assert "删除选中的" in click["js"]
    assert "Delete the chosen documents" in click["js"]


def test_foreign_host_name_is_refused_while_nobody_needs_a_key(open_page: TestClient) -> None:
    assert open_page.get("/", headers={"host": "attacker.example"}).status_code == 400


def test_with_a_key_visitors_sign_in_with_it() -> None:
    with page(key="zw_secret") as client:
        assert client.get("/config").status_code == 401
        assert client.post("/login", data={"username": "x", "password": "wrong"}).status_code == 400
        assert client.post("/login", data={"username": "x", "password": "zw_secret"}).status_code == 200
        assert client.get("/healthz").status_code == 200


def test_refuses_other_addresses_without_a_key() -> None:
    with pytest.raises(ConfigurationError, match="No API key"):
        create_app(WebuiSettings(host="0.0.0.0", api_key=SecretStr("")))


def test_uploads_on_their_way_are_removed_when_it_ends(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with page(scratch=scratch):
        assert scratch.exists()
    assert not scratch.exists()
