"""FastAPI dependencies that check API keys."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

import structlog
from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from services.common.auth import KeyRing, Principal
from services.common.ledger import Scope

_bearer = HTTPBearer(auto_error=False, description="An API key of `zhiwen keys create`; not needed while none exists.")


def needs(scope: Scope) -> Callable[..., Awaitable[Principal]]:
    """Return a dependency that admits keys of at least `scope`, for the knowledge base in the path if there is one."""

    async def admit(
        request: Request, _credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
    ) -> Principal:
        keys: KeyRing = request.app.state.keys
        principal = await keys.authenticate(request.headers.get("authorization"))
        principal.require(scope, request.path_params.get("kb"))
        structlog.contextvars.bind_contextvars(key=principal.name)
        return principal

    return admit
