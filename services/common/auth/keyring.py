"""Authentication by the API key in `Authorization: Bearer <key>`. Keys are in the ledger and cached for seconds."""

from __future__ import annotations

import asyncio
import hmac
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import get_args

from zhiwen.common.errors import Forbidden, Unauthorized
from zhiwen.common.ledger import Ledger
from zhiwen.common.models import Scope

MEMORY_SECONDS = 5.0
MEMORY_KEYS = 1024
_SCHEME = re.compile(r"\s*bearer(\s+|$)", re.IGNORECASE)  # RFC 9110 11.1: the case of a scheme does not matter
RANK: Mapping[Scope, int] = {scope: rank for rank, scope in enumerate(get_args(Scope))}


@dataclass(frozen=True, slots=True)
class Principal:
    """Who sent a request. `knowledge_base` is the only knowledge base that the key opens; None: all of them."""

    name: str
    scope: Scope
    knowledge_base: str | None = None
    key_id: str | None = None

    def require(self, scope: Scope, knowledge_base: str | None = None) -> None:
        """Raise `Forbidden` unless the key has at least this scope and opens the knowledge base."""
        if RANK[self.scope] < RANK[scope]:
            raise Forbidden(
                "scope-too-small", f"This key has the scope {self.scope}; this request needs the scope {scope}."
            )
        if self.knowledge_base is not None and self.knowledge_base != knowledge_base:
            raise Forbidden("other-knowledge-base", f"This key is for the knowledge base {self.knowledge_base} only.")


ANONYMOUS = Principal("anonymous", "admin")


class KeyRing:
    """Checks API keys. Until the first key is created, everybody is an admin, and services listen on loopback only.

    A new key and a revocation take effect within `MEMORY_SECONDS`. After the last key is revoked, requests still need
    a key.
    """

    def __init__(
        self,
        ledger: Ledger | None,
        admin_key: str,
        *,
        query_key: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`ledger` holds the keys; None: no ledger. `admin_key` is a key that is always valid; empty: no such key.

        `query_key` is a key with the scope `read` for the query API. It lets nobody else in and keeps nobody out.
        """
        self._ledger = ledger
        self._admin_key = admin_key
        self._query_key = query_key
        self._clock = clock
        self._known: dict[str, tuple[float, Principal | None]] = {}
        self._closed = bool(admin_key)
        self._ask_again = 0.0

    def has_key(self) -> bool:
        """Return whether a valid key exists. Blocking."""
        return bool(self._admin_key) or (self._ledger is not None and self._ledger.keys.any_valid())

    async def authenticate(self, authorization: str | None) -> Principal:
        """Return who sent this `Authorization` header, with or without `Bearer`.

        Raises `Unauthorized` (`missing-key`, `unknown-key`). While no key was ever created, it returns `ANONYMOUS`.
        """
        if await self._is_open():
            return ANONYMOUS
        secret = _SCHEME.sub("", authorization or "").strip()
        if not secret:
            raise _unauthorized(
                "missing-key", "Send an API key: Authorization: Bearer <key>. `zhiwen keys create` makes one."
            )
        principal = await self._find(secret)
        if principal is None:
            raise _unauthorized("unknown-key", "This API key is unknown or revoked.")
        return principal

    async def _is_open(self) -> bool:
        if self._closed or self._ledger is None:
            return not self._closed
        if self._clock() >= self._ask_again:
            if await asyncio.to_thread(self._ledger.keys.any_ever_made):
                self._closed = True
            self._ask_again = self._clock() + MEMORY_SECONDS
        return not self._closed

    async def _find(self, secret: str) -> Principal | None:
        if _is_same(secret, self._admin_key):
            return Principal("ZHIWEN_API_KEY", "admin")
        found = await self._find_in_ledger(secret)
        if found is None and _is_same(secret, self._query_key):
            return Principal("query", "read")
        return found

    async def _find_in_ledger(self, secret: str) -> Principal | None:
        if self._ledger is None:
            return None
        until, principal = self._known.get(secret, (0.0, None))
        if self._clock() < until:
            return principal
        key = await asyncio.to_thread(self._ledger.keys.find, secret)
        found = Principal(key.name, key.scope, key.knowledge_base, key.id) if key else None
        if len(self._known) >= MEMORY_KEYS:
            self._known.clear()
        self._known[secret] = (self._clock() + MEMORY_SECONDS, found)
        return found


def _is_same(secret: str, key: str) -> bool:
    """Return whether a secret is a key of the settings, of which an empty one is none."""
    return bool(key) and hmac.compare_digest(secret.encode(), key.encode())


def _unauthorized(code: str, detail: str) -> Unauthorized:
    return Unauthorized(code, detail, headers={"WWW-Authenticate": "Bearer"})
