"""Aliases of collections, for people who browse Milvus with Attu. No code reads the aliases."""

from __future__ import annotations

import re
from typing import Any

import structlog
from pymilvus import MilvusException

from zhiwen.common.errors import ServiceError
from zhiwen.common.store.connection import Connection

log = structlog.get_logger(__name__)


class Aliases:
    """Points aliases with the names of knowledge bases to collections. Does nothing if the server has no aliases."""

    def __init__(self, connection: Connection, timeout: float) -> None:
        self._connection = connection
        self._timeout = timeout

    def point(self, name: str, collection: str) -> None:
        """Point the alias of a knowledge base to a collection. A failure is logged and raises nothing."""
        alias = alias_of(name)

        def point(client: Any) -> None:
            if alias in self._of(client, collection):
                return
            try:
                client.alter_alias(collection, alias, timeout=self._timeout)
            except MilvusException:  # the alias does not exist; each engine has another code for this
                client.create_alias(collection, alias, timeout=self._timeout)

        try:
            if self._connection.capabilities().aliases:
                self._connection.call(point)
        except ServiceError as exc:
            log.warning("alias_not_pointed", alias=alias, collection=collection, exc_info=exc)

    def of(self, collection: str) -> list[str]:
        """Return the aliases of a collection; an empty list if the server has no aliases."""
        if not self._connection.capabilities().aliases:
            return []
        return self._connection.call(lambda client: self._of(client, collection))

    def drop(self, client: Any, collection: str) -> None:
        """Drop the aliases of a collection, if the collection exists."""
        if self._connection.capabilities().aliases and client.has_collection(collection, timeout=self._timeout):
            for alias in self._of(client, collection):
                client.drop_alias(alias, timeout=self._timeout)

    def _of(self, client: Any, collection: str) -> list[str]:
        return list(client.list_aliases(collection, timeout=self._timeout).get("aliases", []))


def alias_of(name: str) -> str:
    """Return the alias of a knowledge base: its name, with code points in place of characters that Milvus refuses.

    Milvus accepts ASCII letters, digits and `_`, at most 255 of them: https://milvus.io/docs/limitations.md
    """
    if len(name) < 255 and re.fullmatch(r"[A-Za-z][A-Za-z0-9]*", name):
        return name
    return "_" + "".join(c if c.isascii() and c.isalnum() else f"_{ord(c):x}" for c in name)[:254]
