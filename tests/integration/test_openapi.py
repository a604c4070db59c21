"""The documentation that the services publish about themselves: every route is described, with examples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from zhiwen.ingest.api.app import create_app as create_ingest
from zhiwen.ingest.settings import IngestSettings
from zhiwen.query.api.app import create_app as create_query
from zhiwen.query.settings import QuerySettings

BODIES = {"post", "put", "patch"}


@pytest.fixture(params=["ingest", "query"])
def schema(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    if request.param == "ingest":
        app = create_ingest(IngestSettings(data_dir=tmp_path))
    else:
        app = create_query(QuerySettings(data_dir=tmp_path))
    return app.openapi()


def operations(schema: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(method, path, operation) for path, item in schema["paths"].items() for method, operation in item.items()]


def test_every_route_is_described(schema: dict[str, Any]) -> None:
    undescribed = [
        f"{m} {p}" for m, p, o in operations(schema) if not (o.get("summary") and (o.get("description") or p[1] != "v"))
    ]
    assert undescribed == []


def test_every_body_has_an_example(schema: dict[str, Any]) -> None:
    without = [
        f"{m} {p}" for m, p, o in operations(schema) if "requestBody" in o and "example" not in str(o["requestBody"])
    ]
    assert without == []


def test_every_answer_has_an_example(schema: dict[str, Any]) -> None:
    text = {name: str(part) for name, part in schema["components"]["schemas"].items()}

    def has_example(answer: Any) -> bool:
        shown = str(answer)
        if "example" in shown or "content" not in answer or "schema" not in shown:
            return True
        names = [name for name in text if f"/schemas/{name}'" in shown]
        nested = [inner for name in names for inner in text if f"/schemas/{inner}'" in text[name]]
        return not names or any("example" in text[name] for name in [*names, *nested])

    without = [
        f"{method} {path} {status}"
        for method, path, operation in operations(schema)
        for status, answer in operation["responses"].items()
        if path.startswith("/v1") and not has_example(answer)
    ]
    assert without == []


def test_every_example_is_valid(schema: dict[str, Any]) -> None:
    for method, path, operation in operations(schema):
        for content in operation.get("requestBody", {}).get("content", {}).values():
            for name, example in content.get("examples", {}).items():
                validator = Draft202012Validator({**content["schema"], "components": schema["components"]})
                errors = [error.message for error in validator.iter_errors(example["value"])]
                assert errors == [], f"{method} {path} {name}"


def test_errors_are_problems(schema: dict[str, Any]) -> None:
    for method, path, operation in operations(schema):
        for status, answer in operation["responses"].items():
            if path.startswith("/v1") and status >= "400":
                assert "application/problem+json" in answer.get("content", {}), f"{method} {path} {status}"


def test_every_named_schema_is_there(schema: dict[str, Any]) -> None:
    names = set(schema["components"]["schemas"])
    referred = {part.split("'")[0] for part in str(schema).split("#/components/schemas/")[1:]}
    assert referred <= names
