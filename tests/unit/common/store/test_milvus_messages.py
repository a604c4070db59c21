"""A search uses Milvus's own messages, and public methods if pymilvus has renamed a private name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pymilvus.grpc_gen.milvus_pb2 import QueryRequest, QueryResults, SearchRequest, SearchResults
from structlog.testing import capture_logs

from zhiwen.common.store.milvus_messages import Messages
from zhiwen.common.store.rows import VectorSearch
from zhiwen.common.store.search_calls import PublicCalls, calls_of

ROOT = Path(__file__).parents[4]
SEARCH = VectorSearch("kb", "dense", np.ones(2, np.float32), "IP", {}, 3, "", strong=True)


def client_without(*missing: str) -> Any:
    """Return a client that lacks private names of pymilvus, as another version of it might."""
    handler = SimpleNamespace(_stub=object())
    client = SimpleNamespace(_get_connection=lambda: handler, _config=SimpleNamespace(db_name=""))
    for owner in (client, handler):
        for name in missing:
            if hasattr(owner, name):
                delattr(owner, name)
    return client


def test_messages_name_the_database_of_the_address() -> None:
    asked: list[SearchRequest | QueryRequest] = []

    def search(request: SearchRequest, timeout: float) -> SearchResults:
        asked.append(request)
        return SearchResults()

    def query(request: QueryRequest, timeout: float) -> QueryResults:
        asked.append(request)
        return QueryResults()

    handler = SimpleNamespace(_stub=SimpleNamespace(Search=search, Query=query))
    client = SimpleNamespace(_get_connection=lambda: handler, _config=SimpleNamespace(db_name="zhiwen"))
    calls = calls_of(client)
    assert [list(part) for part in calls.nearest(SEARCH, timeout=1)] == [[], []]
    assert calls.rows("kb", ["1"], strong=False, timeout=1) == []
    assert [request.db_name for request in asked] == ["zhiwen", "zhiwen"]


def test_pymilvus_is_the_one_that_the_private_names_were_checked_against() -> None:
    pinned = re.findall(r'(?m)^    "pymilvus([<>=].*)",$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (checked,) = re.findall(r"(?m)^pymilvus(==.*)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"))
    assert set(pinned) == {checked} == {f"=={version('pymilvus')}"}


def test_this_pymilvus_is_searched_by_messages() -> None:
    assert isinstance(calls_of(client_without()), Messages)


@pytest.mark.parametrize("name", ["_get_connection", "_stub", "_config"])
def test_a_missing_private_name_is_logged_once_and_leads_to_the_public_methods(name: str) -> None:
    with capture_logs() as logs:
        calls = [calls_of(client_without(name)) for _ in range(3)]
    assert [type(found) for found in calls] == [PublicCalls] * 3
    (line,) = logs
    assert (line["event"], line["log_level"]) == ("milvus_searched_by_public_methods", "warning")
    assert name in line["reason"]


def test_public_methods_are_told_what_the_messages_say() -> None:
    told: list[dict[str, Any]] = []

    class Client:
        def search(self, collection: str, data: Sequence[Any], **options: Any) -> list[list[dict[str, Any]]]:
            told.append({"collection": collection, "data": data, **options})
            return [[{"id": "a", "distance": 0.5, "entity": {}}]]

    assert PublicCalls(Client()).nearest(SEARCH, timeout=1) == (["a"], [0.5])
    (search,) = told
    assert (search["collection"], search["anns_field"], search["limit"]) == ("kb", "dense", 3)
    assert search["search_params"] == {"metric_type": "IP", "params": {}}
    assert (search["filter"], search["consistency_level"], search["timeout"]) == ("", "Strong", 1)
