"""The dependency of routes that checks an API key, and the rule of this machine where there is none yet."""

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
    """Admits keys of at least `scope`. A path with a knowledge base, `{kb}`, needs a key that is good for it.

    It is dependency and security scheme in one, since FastAPI spends as much time on a dependency as the check of a key
    takes.
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
    """Return who sent a request. Raises `Unauthorized`, and `Forbidden` (`not-local`) as `require_local` does."""
    principal = await keys.authenticate(connection.headers.get("authorization"))
    if principal is ANONYMOUS:
        require_local(connection)
    return principal


def require_local(connection: HTTPConnection) -> None:
    """Raise `Forbidden` (`not-local`) for a request that no program or page on this machine made.

    While there is no key, being on this machine is the only proof of a right. A page of another site, open in a browser
    here, gives itself away by `Origin`, and one that has rebound its name to this machine by `Host`. A request over a
    unix socket has no client address and comes from this machine.
    """
    headers = connection.headers
    here = connection.client is None or is_loopback(connection.client.host)
    host = f"//{headers['host']}" if "host" in headers else None
    if not (here and _names_loopback(host) and _names_loopback(headers.get("origin"))):
        raise Forbidden("not-local", "Without an API key only programs and pages on this machine are served.")


def _names_loopback(url: str | None) -> bool:
    """Return whether a header names this machine, or is not there. `Request.url` would mend a damaged `Host`."""
    try:
        return url is None or is_loopback(urlsplit(url).hostname or "")
    except ValueError:  # not an address, such as `http://[`
        return False
