"""FastAPI dependencies that check API keys."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated
from urllib.parse import urlsplit

import structlog
from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from services.common.auth import ANONYMOUS, KeyRing, Principal
from services.common.errors import Forbidden
from services.common.ledger import Scope
from services.common.settings import is_loopback

_bearer = HTTPBearer(auto_error=False, description="An API key of `zhiwen keys create`; not needed while none exists.")


def needs(scope: Scope) -> Callable[..., Awaitable[Principal]]:
    """Return a dependency that admits keys of at least `scope`, for the knowledge base in the path if there is one."""

    async def admit(
        request: Request, _credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
    ) -> Principal:
        keys: KeyRing = request.app.state.keys
        principal = await keys.authenticate(request.headers.get("authorization"))
        if principal is ANONYMOUS:
            require_local(request)
        principal.require(scope, request.path_params.get("kb"))
        structlog.contextvars.bind_contextvars(key=principal.name)
        return principal

    return admit


def require_local(request: Request) -> None:
    """Raise `Forbidden` (`not-local`) for a request that a web page elsewhere made the user's browser send.

    Without a key, being on this machine is the only proof. A foreign page shows in `Origin`; one that has rebound its
    name to this machine shows in `Host`.
    """
    names = [request.url.hostname or ""]
    if origin := request.headers.get("origin"):
        names.append(urlsplit(origin).hostname or "")
    if not all(is_loopback(name) for name in names):
        raise Forbidden("not-local", "Without an API key only programs and pages on this machine are served.")
