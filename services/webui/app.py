"""The web application of the page: health, security headers, and the page at /."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from zhiwen.client import ApiError, Client, Service
from zhiwen.common.errors import Unavailable
from zhiwen.common.settings import require_loopback_or_key
from zhiwen.common.telemetry import configure_logging
from zhiwen.common.web import Check, add_operations_routes, configuration_errors_end_the_process, serve
from zhiwen.webui.actions import Actions
from zhiwen.webui.settings import WebuiSettings

LOOPBACK_NAMES = ["127.0.0.1", "localhost", "[::1]"]
HEADERS: Mapping[str, str] = {
    # The page loads nothing from another machine, whatever gradio or a quoted document asks for.
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' blob:; "
        "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def create_app(
    settings: WebuiSettings, *, scratch: Path | None = None, transport: httpx.BaseTransport | None = None
) -> FastAPI:
    """Build the application.

    The folder `scratch` is deleted when the application ends. `transport` replaces the network to the services. Raises
    `ConfigurationError` when the page would be open to other machines and no key is set.
    """
    key = settings.api_key.get_secret_value()
    require_loopback_or_key(settings.host, has_key=bool(key))
    client = Client(
        ingest_url=settings.ingest_url,
        query_url=settings.query_url,
        api_key=key,
        retries=0,  # a visitor sees an error at once
        transport=transport,
    )

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        client.close()
        if scratch is not None:
            await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)

    app = FastAPI(title="Zhiwen page", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    add_operations_routes(app, lambda _: {"ingest": _answers(client, "ingest"), "query": _answers(client, "query")})
    app.add_middleware(SecurityHeaders)
    if not key:  # against DNS rebinding: another site's name may point to this machine
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=LOOPBACK_NAMES, www_redirect=False)

    from zhiwen.webui import page

    return page.mount(app, Actions(client), key=key)


class SecurityHeaders:
    """ASGI middleware that puts `HEADERS` on every response."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self.app(scope, receive, send_with_headers if scope["type"] == "http" else send)


def _answers(client: Client, service: Service) -> Check:
    def ask() -> None:
        try:
            client.health(service)
        except ApiError as exc:
            raise Unavailable("service-unreachable", exc.detail) from exc

    async def check() -> None:
        await asyncio.to_thread(ask)

    return check


def main() -> None:
    """Entry point of the program `zhiwen-webui`."""
    with configuration_errors_end_the_process():
        settings = WebuiSettings()
        configure_logging("webui", settings.log_level, settings.log_format)
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        scratch = tempfile.mkdtemp(prefix="zhiwen-webui-")  # for uploads; nobody else may read them
        os.environ["GRADIO_TEMP_DIR"] = scratch
        serve(lambda: create_app(settings, scratch=Path(scratch)), host=settings.host, port=settings.webui_port)


if __name__ == "__main__":
    main()
