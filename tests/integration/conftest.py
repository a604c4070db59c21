"""Zhiwen's services for the tests of their APIs."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.servers.gateways import upstream, write_config
from tests.servers.in_process_stack import InProcessStack, in_process_stack
from tests.servers.processes import FakeOpenAI, fake_openai, free_port, service
from tests.servers.stores import new_database


@pytest.fixture(scope="session")
def model_server() -> Iterator[FakeOpenAI]:
    """The scripted model server behind the gateway."""
    with fake_openai() as server:
        yield server


@pytest.fixture(scope="session")
def gateway_url(model_server: FakeOpenAI, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The real gateway, a process of its own, in front of the scripted model server."""
    folder = tmp_path_factory.mktemp("gateway")
    url = f"http://127.0.0.1:{free_port()}"
    config = {
        "upstreams": [upstream("fake", model_server.base_url)],
        "default_model": "fake-model",
        "retry": {"attempts": 1},
        "breaker": {"failures": 10**6, "least": 10**6},  # one test's failures are not the next one's
    }
    environment = {
        "ZHIWEN_GATEWAY_PORT": url.rsplit(":", 1)[1],
        "ZHIWEN_DATA_DIR": str(folder),
        "ZHIWEN_GATEWAY_CONFIG": str(write_config(folder, config)),
    }
    command = [sys.executable, "-c", "from zhiwen.llm_gateway.app import main; main()"]
    with service(command, environment, f"{url}/readyz", folder / "gateway.log"):
        yield url


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def stack_on_each_ledger(
    request: pytest.FixtureRequest, milvus_url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[InProcessStack]:
    """All services, once with their ledger on SQLite and once on PostgreSQL."""
    database_url = ""
    if request.param == "postgresql":
        database_url = new_database(request.getfixturevalue("postgres_url"), "stack")
    folder = tmp_path_factory.mktemp("stack")
    with in_process_stack(folder, milvus_url=milvus_url, redis_url=redis_url, database_url=database_url) as running:
        yield running


@pytest.fixture(scope="session")
def stack_with_model(
    milvus_url: str, redis_url: str, gateway_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[InProcessStack]:
    """All services, in front of the real gateway and the scripted model server."""
    folder = tmp_path_factory.mktemp("asking")
    with in_process_stack(folder, milvus_url=milvus_url, redis_url=redis_url, gateway_url=gateway_url) as running:
        yield running


@pytest.fixture
def model(model_server: FakeOpenAI) -> Iterator[FakeOpenAI]:
    """The scripted model server, which has received nothing yet."""
    model_server.forget()
    yield model_server
    model_server.forget()
