"""The route dependency that checks API keys. While no key exists, it serves only this machine."""

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
from zhiwen.common.models import Scope


class Needs(SecurityBase):
    """Admits keys of at least `scope`. A path with `{kb}` needs a key for that knowledge base.

    One object is both the dependency and the security scheme: a second dependency costs FastAPI as much time as the
    check of the key itself.
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
    """Return who sent a request. Raises what `KeyRing.authenticate` and `require_local` raise."""
    principal = await keys.authenticate(connection.headers.get("authorization"))
    if principal is ANONYMOUS:
        require_local(connection)
    return principal


def require_local(connection: HTTPConnection) -> None:
    """Raise `Forbidden` (`not-local`) for a request that no program or page on this machine made.

    While no key exists, every request from this machine is allowed. The address of the client is not enough: a browser
    on this machine may show a page of another site. `Origin` tells the site of that page. If the site has rebound its
    name to this machine (DNS rebinding), `Host` still holds that name. A request over a unix socket has no client
    address and comes from this machine.
    """
    headers = connection.headers
    here = connection.client is None or is_loopback(connection.client.host)
    host = f"//{headers['host']}" if "host" in headers else None
    if not (here and _names_loopback(host) and _names_loopback(headers.get("origin"))):
        raise Forbidden("not-local", "Without an API key only programs and pages on this machine are served.")


def _names_loopback(url: str | None) -> bool:
    """Return whether the URL of a header names this machine; True without the header.

    `Request.url` is of no use here, because it repairs a damaged `Host`.
    """
    try:
        return url is None or is_loopback(urlsplit(url).hostname or "")
    except ValueError:  # not an address, such as `http://[`
        return False
