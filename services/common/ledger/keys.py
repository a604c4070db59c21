"""API keys. The ledger keeps only their hashes."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from zhiwen.common.errors import NotFound
from zhiwen.common.ledger.database import Database, new_id, utc_datetime
from zhiwen.common.ledger.schema import api_keys
from zhiwen.common.models import Scope


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it may be shown, without its secret."""

    id: str
    name: str
    scope: Scope
    knowledge_base: str | None
    created_at: datetime
    revoked: bool


class ApiKeys:
    """The API keys. Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def create(self, *, name: str, scope: Scope, knowledge_base: str | None) -> tuple[ApiKey, str]:
        """Create an API key; return it and its secret. The secret is not kept and cannot be shown again.

        `knowledge_base` is the name of the only knowledge base that the key opens; None: it opens all.
        """
        secret = f"zw_{secrets.token_urlsafe(32)}"
        with self.database.write() as c:
            key_id = new_id()
            c.execute(
                api_keys.insert().values(
                    id=key_id,
                    name=name,
                    sha256=hash_key(secret),
                    scope=scope,
                    knowledge_base=knowledge_base,
                    created_at=self.database.now(),
                )
            )
            row = c.execute(sa.select(api_keys).where(api_keys.c.id == key_id)).one()
        return _to_key(row), secret

    def list(self) -> list[ApiKey]:
        """Return all keys, also revoked ones, oldest first."""
        with self.database.read() as c:
            return [_to_key(row) for row in c.execute(sa.select(api_keys).order_by(api_keys.c.created_at))]

    def find(self, secret: str) -> ApiKey | None:
        """Return the key with this secret; None when there is none or it is revoked."""
        with self.database.read() as c:
            row = c.execute(
                sa.select(api_keys).where(api_keys.c.sha256 == hash_key(secret), api_keys.c.revoked_at.is_(None))
            ).one_or_none()
        return _to_key(row) if row else None

    def any_valid(self) -> bool:
        """Return whether a key exists that is not revoked."""
        with self.database.read() as c:
            return c.scalar(sa.select(api_keys.c.id).where(api_keys.c.revoked_at.is_(None)).limit(1)) is not None

    def any_ever_made(self) -> bool:
        """Return whether a key was ever created, even if it is revoked now. From then on every request needs a key."""
        with self.database.read() as c:
            return c.scalar(sa.select(api_keys.c.id).limit(1)) is not None

    def revoke(self, key_id: str) -> ApiKey:
        """Revoke a key; return it. Raises `NotFound`."""
        with self.database.write() as c:
            c.execute(api_keys.update().where(api_keys.c.id == key_id).values(revoked_at=self.database.now()))
            row = c.execute(sa.select(api_keys).where(api_keys.c.id == key_id)).one_or_none()
            if row is None:
                raise NotFound("key-not-found", f"There is no API key with the id {key_id}.")
            return _to_key(row)


def hash_key(secret: str) -> str:
    """Return the hash of a secret. A secret has 256 random bits, so one round of SHA-256 is enough."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _to_key(row: Any) -> ApiKey:
    return ApiKey(
        row.id, row.name, row.scope, row.knowledge_base, utc_datetime(row.created_at), row.revoked_at is not None
    )
