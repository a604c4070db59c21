"""What the store does when Milvus is busy, lost, or slow."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from pymilvus import MilvusException

from zhiwen.common.errors import Unavailable
from zhiwen.common.store.connection import Connection


class Late(grpc.RpcError):  # type: ignore[misc]
    """A call that had no answer in its time."""

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.DEADLINE_EXCEEDED


BUSY = MilvusException(8, "request is rejected by grpc RateLimiter middleware, please retry later: rate limit exceeded")
UNLOADED = MilvusException(101, "collection not loaded")


class Client:
    """A client that raises the given errors, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.closed = 0
        self.loads = 0

    def load_collection(self, _collection: str, **_: Any) -> None:
        self.loads += 1

    def answer(self) -> str:
        if self.errors:
            raise self.errors.pop(0)
        return "found"

    def close(self) -> None:
        self.closed += 1


def connected(monkeypatch: pytest.MonkeyPatch, client: Client) -> Connection:
    monkeypatch.setattr("zhiwen.common.store.connection.MilvusClient", lambda *_a, **_k: client)
    return Connection("unix:/nowhere", "", timeout=0.5)


def test_busy_server_is_asked_again_over_the_same_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(BUSY, BUSY, BUSY)
    assert connected(monkeypatch, client).read("kb", Client.answer) == "found"
    assert (client.closed, client.loads) == (0, 1)


def test_server_that_stays_busy_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(*[BUSY] * 50)
    with pytest.raises(Unavailable, match=r"milvus-unavailable.*over its rate limit"):
        connected(monkeypatch, client).read("kb", Client.answer)
    assert client.closed == 0


def test_lost_collection_is_loaded_and_asked_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(UNLOADED)
    assert connected(monkeypatch, client).read("kb", Client.answer) == "found"
    assert (client.closed, client.loads) == (1, 2)
    with pytest.raises(Unavailable, match="milvus-unavailable"):
        connected(monkeypatch, Client(UNLOADED, UNLOADED)).read("kb", Client.answer)


def test_slow_server_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(Late())
    with pytest.raises(Unavailable, match="milvus-unavailable"):
        connected(monkeypatch, client).read("kb", Client.answer)
    assert client.loads == 1
