"""What the APIs say of themselves in OpenAPI, held against what they do: no 5xx, no answer that is not described."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.servers.process_stack import ProcessStack, process_stack

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
BOUNDED = settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
KB = "探针"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessStack]:
    with process_stack(tmp_path_factory.mktemp("schemathesis"), with_query=True) as stack:
        yield stack


@pytest.fixture(scope="module")
def ready(stack: ProcessStack) -> dict[str, str]:
    """A knowledge base with a document, so that paths lead somewhere: what to put for `kb` and `id`."""
    stack.http.post("/v1/knowledge-bases", json={"name": KB}).raise_for_status()
    id = stack.upload(KB, {"one.txt": "年假有五天。".encode()})["one.txt"]
    stack.all_ready(KB)
    return {"kb": KB, "id": id}


@pytest.mark.slow
@pytest.mark.timeout(420)
def test_ingest_api_does_what_it_says(stack: ProcessStack, ready: dict[str, str]) -> None:
    # The stream of events stays open while a document is worked on.
    hold(schemathesis.openapi.from_url(f"{stack.api.url}/openapi.json").exclude(path_regex="/events$"), ready)
    stack.clean()


@pytest.mark.slow
@pytest.mark.timeout(420)
def test_query_api_does_what_it_says(stack: ProcessStack, ready: dict[str, str]) -> None:
    # Answers come from the gateway, which does not run here.
    schema = schemathesis.openapi.from_url(f"{stack.query.url}/openapi.json")
    hold(schema.exclude(path_regex="/ask$|/readyz$|/chat/|/models"), ready)


def hold(schema: Any, ready: dict[str, str]) -> None:
    """Send each operation valid and invalid requests, and hold the answers against its description."""
    wrong = []
    operations = [result.ok() for result in schema.get_all_operations()]
    assert operations
    for operation in operations:
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            try:
                probe(operation, mode, ready)
            except Unsatisfiable:
                continue  # nothing can be wrong with a request without parameters
            except (Exception, FailureGroup) as exc:
                found = getattr(exc, "exceptions", [exc])
                wrong += [f"{operation.label} ({mode.value}): {each}" for each in found]
    assert not wrong, "\n\n".join(wrong)


def probe(operation: Any, mode: GenerationMode, ready: dict[str, str]) -> None:
    @BOUNDED
    @given(case=operation.as_strategy(generation_mode=mode), real=st.integers(0, 2))
    def send(case: Any, real: int) -> None:
        for name in set(ready) & set(case.path_parameters or {}):
            if real and case.method != "DELETE":  # two of three name what exists
                case.path_parameters[name] = ready[name]
        case.call_and_validate(checks=CHECKS, timeout=30)

    send()
