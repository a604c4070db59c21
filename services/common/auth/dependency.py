"""FastAPI dependencies that check API keys."""

from __future__ import annotations

from urllib.parse import urlsplit

import structlog
from fastapi import Request
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from starlette.requests import HTTPConnection

from zhiwen.common.addresses import is_loopback
from zhiwen.common.auth.keyring import ANONYMOUS, KeyRing, Principal
from zhiwen.common.errors import Forbidden
from zhiwen.common.ledger import Scope


class Needs(SecurityBase):
    """A dependency that admits keys of at least `scope`, for the knowledge base in the path if there is one.

    One dependency that is its own security scheme: FastAPI spends as much on each as a key costs to check.
    """

    scheme_name = "HTTPBearer"
    model = HTTPBearer(description="An API key of `zhiwen keys create`; not needed while none exists.")

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    async def __call__(self, request: Request) -> Principal:
        principal = await principal_of(request, request.app.state.keys)
        principal.require(self.scope, request.path_params.get("kb"))
        structlog.contextvars.bind_contextvars(key=principal.name)
        return principal


async def principal_of(connection: HTTPConnection, keys: KeyRing) -> Principal:
    """Return who is asking. Raises `Unauthorized`, and `Forbidden` (`not-local`) where being here is the only proof."""
    principal = await keys.authenticate(connection.headers.get("authorization"))
    if principal is ANONYMOUS:
        require_local(connection)
    return principal


def require_local(connection: HTTPConnection) -> None:
    """Raise `Forbidden` (`not-local`) for a request from another machine, or that a web page elsewhere made the user's
    browser send.

    Without a key, being on this machine is the only proof. A foreign page shows in `Origin`; one that has rebound its
    name to this machine shows in `Host`; a unix socket has no client and is on this machine.
    """
    headers = connection.headers
    here = connection.client is None or is_loopback(connection.client.host)
    host = f"//{headers['host']}" if "host" in headers else None
    if not (here and _names_loopback(host) and _names_loopback(headers.get("origin"))):
        raise Forbidden("not-local", "Without an API key only programs and pages on this machine are served.")


def _names_loopback(url: str | None) -> bool:
    """True when there is no address, or it is one of this machine. Not `Request.url`, which mends a damaged `Host`."""
    try:
        return url is None or is_loopback(urlsplit(url).hostname or "")
    except ValueError:  # `http://[` is no address at all
        return False
