"""The gateway's composition root: `create_app` builds it, `main` runs it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib.util
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from zhiwen import __version__
from zhiwen.common.auth.dependency import principal_of
from zhiwen.common.auth.keyring import KeyRing
from zhiwen.common.ledger import Ledger, open_ledger
from zhiwen.common.settings import require_loopback_or_key
from zhiwen.common.telemetry import configure_logging
from zhiwen.common.web import (
    CatchAll,
    RequestContext,
    add_docs,
    add_operations_routes,
    configuration_errors_end_the_process,
    in_thread,
    install,
    serve,
)
from zhiwen.llm_gateway.accounting.usage import WriteUsage
from zhiwen.llm_gateway.api import openapi
from zhiwen.llm_gateway.api.endpoints import DoorApp
from zhiwen.llm_gateway.builtin.embeddings import BuiltInEmbeddings
from zhiwen.llm_gateway.config import load_config
from zhiwen.llm_gateway.errors import render
from zhiwen.llm_gateway.gateway import Gateway
from zhiwen.llm_gateway.request import Door
from zhiwen.llm_gateway.settings import GatewaySettings

if TYPE_CHECKING:
    from zhiwen.common.embedding.base import Embedder


class GatewayApp(FastAPI):
    """FastAPI for everything but the doors: a POST at one goes straight to it, with the same request id, log line,
    metrics and error rendering, past the layers of FastAPI that it does not use and that cost more than itself."""

    def __init__(self, doors: Sequence[DoorApp], lifespan: Any) -> None:
        super().__init__(title="Zhiwen gateway", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
        add_docs(self)
        self._doors = {door.path: RequestContext(CatchAll(door, render), "gateway") for door in doors}
        for door in doors:  # for 405 on other methods
            self.router.routes.append(Route(door.path, door, methods=["POST"]))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST" and (door := self._doors.get(scope["path"])):
            await door(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def create_app(
    settings: GatewaySettings | None = None,
    *,
    embedder: Embedder | None = None,
    write_usage: WriteUsage | None = None,
) -> FastAPI:
    """Build the gateway. Raises `ConfigurationError` when its file or its address is wrong.

    `embedder` serves at `/v1/embeddings` (by default the built-in model where the settings ask for it); `write_usage`
    takes the token accounts (by default the ledger, where there is one).
    """
    settings = settings or GatewaySettings()
    config = load_config(settings)
    ledger = find_ledger(settings)
    write_usage = write_usage or (ledger.usage.add if ledger else None)
    keyring = KeyRing(ledger, settings.api_key.get_secret_value())
    holder: list[Gateway] = []

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        model = embedder or (await asyncio.to_thread(_load_embedder) if settings.gateway_embeddings else None)
        embeddings = BuiltInEmbeddings(model) if model is not None else None
        gateway = Gateway(settings, config, keyring, embeddings=embeddings, write_usage=write_usage)
        holder.append(gateway)
        try:
            yield
        finally:
            holder.clear()
            await gateway.close()
            if ledger is not None:
                ledger.close()

    def current() -> Gateway:
        return holder[0]

    app = GatewayApp([DoorApp(door, current) for door in Door], lifespan)
    install(app, "gateway", render=render)
    _add_models_routes(app, current)
    of_ledger = {"ledger": in_thread(ledger.ping)} if ledger is not None else {}
    add_operations_routes(app, lambda: {**current().readiness(), **of_ledger})
    app.openapi = lambda: _documented(app)  # type: ignore[method-assign]
    return app


def find_ledger(settings: GatewaySettings) -> Ledger | None:
    """Return the ledger, which holds the keys and the accounts; None where there is none.

    The gateway also runs alone: without Alembic installed and without a ledger that another service made, only
    ZHIWEN_API_KEY counts.
    """
    can_migrate = importlib.util.find_spec("alembic") is not None
    if not (settings.database_url or can_migrate or (settings.data_dir / "ledger.db").exists()):
        return None
    ledger = open_ledger(settings.ledger_url)
    if can_migrate:
        ledger.database.migrate()
    return ledger


def _load_embedder() -> Embedder:
    from zhiwen.common.embedding.registry import embedders_from  # needs numpy and the model's library
    from zhiwen.common.settings import EmbeddingSettings

    settings = EmbeddingSettings()
    return embedders_from(settings).get(settings.embedding_model)


def _add_models_routes(app: FastAPI, current: Callable[[], Gateway]) -> None:
    @app.get("/v1/models", tags=["models"], summary="The models that can be asked for", responses=openapi.MODELS)
    async def models(request: Request) -> Response:
        principal = await principal_of(request, current().keyring)
        return openapi.models_response(current().model_names(principal.name))

    @app.get("/v1/models/{model:path}", tags=["models"], summary="One model", responses=openapi.ONE_MODEL)
    async def model(request: Request, model: str) -> Response:
        principal = await principal_of(request, current().keyring)
        if model not in current().model_names(principal.name):
            current().pool.resolve(model)  # a wildcard may hold it
        return openapi.model_response(model)


def _documented(app: FastAPI) -> dict[str, Any]:
    if not app.openapi_schema:
        schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
        app.openapi_schema = openapi.with_doors(schema)
    return app.openapi_schema


def main() -> None:
    """Entry point `zhiwen-gateway`."""
    with configuration_errors_end_the_process():
        settings = GatewaySettings()
        configure_logging("gateway", settings.log_level, settings.log_format)
        require_loopback_or_key(settings.host, has_key=_has_key(settings))
        serve(lambda: _settled(create_app(settings)), host=settings.host, port=settings.gateway_port)


def _settled(app: FastAPI) -> FastAPI:
    """Take what was built at the start out of the garbage collector's rounds, since it lives as long as the process,
    and make the rounds rarer: they were a twentieth of a request's CPU time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    return app


def _has_key(settings: GatewaySettings) -> bool:
    ledger = find_ledger(settings)
    try:
        return KeyRing(ledger, settings.api_key.get_secret_value()).has_key()
    finally:
        if ledger is not None:
            ledger.close()


if __name__ == "__main__":
    main()
