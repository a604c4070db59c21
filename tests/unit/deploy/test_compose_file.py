"""The compose file is valid, pinned, closed by default, and starts things in an order that works."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parents[3]
SCHEMA = json.loads((ROOT / "tests/data/compose-spec.json").read_text(encoding="utf-8"))
TEXT = (ROOT / "deploy/docker-compose.yml").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OUR_IMAGE = re.compile(r"zhiwen-[a-z]+:\$\{IMAGE_TAG:-\d+\.\d+\.\d+\}")
PINNED = re.compile(r"(?P<name>[a-z0-9./_-]+):(?P<tag>[A-Za-z0-9][A-Za-z0-9._-]*\d[A-Za-z0-9._-]*)")


def says_that_it_is_healthy(service: str) -> bool:
    """True when compose or the image's target in the Dockerfile says how to see that it is healthy."""
    if "healthcheck" in SERVICES[service]:
        return True
    target = SERVICES[service].get("build", {}).get("target")
    dockerfile = (ROOT / "deploy/Dockerfile").read_text(encoding="utf-8")
    return target is not None and "HEALTHCHECK" in dockerfile.split(f" AS {target}\n")[1].split("\nFROM ")[0]


def test_compose_file_follows_the_compose_specification() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    errors = [f"{e.json_path}: {e.message}" for e in jsonschema.Draft202012Validator(SCHEMA).iter_errors(COMPOSE)]
    assert errors == []


def test_schema_refuses_what_compose_would_refuse() -> None:
    broken = {"services": {"ingest": {"imagee": "zhiwen-ingest:1"}}}
    assert not jsonschema.Draft202012Validator(SCHEMA).is_valid(broken)


def test_every_part_of_the_system_is_there() -> None:
    parts = {"milvus", "etcd", "minio", "attu", "redis", "postgres", "ingest", "worker", "query", "gateway", "webui"}
    assert set(SERVICES) == parts


@pytest.mark.parametrize("service", SERVICES)
def test_image_is_pinned_to_a_version(service: str) -> None:
    image = SERVICES[service]["image"]
    if SERVICES[service].get("build"):
        assert OUR_IMAGE.fullmatch(image), image
        return
    pinned = PINNED.fullmatch(image)
    assert pinned, image
    assert pinned["tag"] != "latest"


def test_our_images_carry_the_version_of_the_project() -> None:
    version = re.search(r'__version__ = "(.+)"', (ROOT / "services/__init__.py").read_text(encoding="utf-8"))
    assert version is not None
    tags = re.findall(r"\$\{IMAGE_TAG:-(.+?)\}", TEXT)
    assert set(tags) == {version[1]}


@pytest.mark.parametrize("service", SERVICES)
def test_ports_are_published_on_loopback_by_default(service: str) -> None:
    for port in SERVICES[service].get("ports", []):
        assert re.fullmatch(r"\$\{BIND_ADDRESS:-127\.0\.0\.1\}:\d+:\d+", port), port


def test_state_publishes_no_port() -> None:
    assert {name for name, service in SERVICES.items() if service.get("ports")} == {
        "attu",
        "ingest",
        "query",
        "gateway",
        "webui",
    }


@pytest.mark.parametrize("service", SERVICES)
def test_service_waits_for_services_that_can_say_they_are_healthy(service: str) -> None:
    for dependency, how in SERVICES[service].get("depends_on", {}).items():
        assert how["condition"] == "service_healthy"
        assert says_that_it_is_healthy(dependency), f"{service} waits for {dependency}, which has no health check"


def test_start_order_has_no_circle() -> None:
    waiting = {name: set(service.get("depends_on", {})) for name, service in SERVICES.items()}
    while waiting:
        ready = {name for name, dependencies in waiting.items() if not dependencies & waiting.keys()}
        assert ready, f"these wait for each other: {sorted(waiting)}"
        waiting = {name: dependencies for name, dependencies in waiting.items() if name not in ready}


def test_secrets_come_from_the_environment_and_have_no_default() -> None:
    secrets = re.findall(r"\$\{([A-Z_]*(?:PASSWORD|KEY|USER))([^}]*)\}", TEXT)
    assert secrets
    assert [name for name, rest in secrets if not rest.startswith(":?")] == []
    literal = r"(?im)^\s*\w*(?:password|secret|api_key|access_key|token)\w*:\s*(?!\S*\$\{)\S+"
    assert re.findall(literal, TEXT) == []


def test_every_volume_is_declared_and_used() -> None:
    used = {
        volume.split(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", [])
        if not volume.startswith((".", "/"))
    }
    assert used == set(COMPOSE["volumes"])


def test_redis_keeps_what_it_accepted() -> None:
    assert "--appendonly yes" in " ".join(SERVICES["redis"]["command"])


@pytest.mark.parametrize("service", [name for name, service in SERVICES.items() if "build" in service])
def test_target_exists_in_the_dockerfile(service: str) -> None:
    build = SERVICES[service]["build"]
    folder = ROOT / "deploy" / build["context"]
    dockerfile = (folder / build["dockerfile"]).read_text(encoding="utf-8")
    assert f" AS {build['target']}\n" in dockerfile
