"""The gateway's composition root: `create_app` builds it, `main` runs it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib.util
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from starlette.routing import Route
from starlette.types import Lifespan, Receive, Scope, Send

from zhiwen import __version__
from zhiwen.common.answering.knowledge import built_in_knowledge
from zhiwen.common.auth.keyring import KeyRing
from zhiwen.common.ledger import Ledger, open_ledger
from zhiwen.common.web import (
    CatchAll,
    Check,
    RequestContext,
    add_docs,
    add_operations_routes,
    in_thread,
    install,
    run_service,
)
from zhiwen.llm_gateway.accounting.usage import WriteUsage
from zhiwen.llm_gateway.api import models
from zhiwen.llm_gateway.api.endpoints import EndpointApp
from zhiwen.llm_gateway.api.openapi import with_endpoints
from zhiwen.llm_gateway.builtin.embeddings import BuiltInEmbeddings
from zhiwen.llm_gateway.config import load_config
from zhiwen.llm_gateway.errors import render
from zhiwen.llm_gateway.request import Endpoint
from zhiwen.llm_gateway.settings import GatewaySettings
from zhiwen.llm_gateway.state import LifespanState, gateway_of, open_gateway

if TYPE_CHECKING:
    from zhiwen.common.embedding.base import Embedder


class GatewayApp(FastAPI):
    """A FastAPI application that calls the endpoints of the models directly.

    A POST to such an endpoint gets the same request id, log line, metrics and error rendering as every route. It skips
    FastAPI's other layers, which it does not use and which cost more than the endpoint itself.
    """

    def __init__(self, endpoints: Sequence[EndpointApp], lifespan: Lifespan[FastAPI]) -> None:
        super().__init__(title="Zhiwen gateway", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
        add_docs(self)
        self._endpoints = {app.path: RequestContext(CatchAll(app, render), "gateway") for app in endpoints}
        for app in endpoints:  # so that other methods than POST get 405
            self.router.routes.append(Route(app.path, app, methods=["POST"]))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST" and (app := self._endpoints.get(scope["path"])):
            await app(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document, with the endpoints of the models."""
        if not self.openapi_schema:
            self.openapi_schema = with_endpoints(super().openapi())
        return self.openapi_schema


def create_app(
    settings: GatewaySettings | None = None,
    *,
    ledger: Ledger | None = None,
    embedder: Embedder | None = None,
    write_usage: WriteUsage | None = None,
) -> FastAPI:
    """Build the gateway. Raises `ConfigurationError` when its file or its address is wrong.

    `ledger` holds the keys and the used tokens; by default it is the one that `find_ledger` finds. `embedder` serves
    `/v1/embeddings`; by default it is the built-in model if the settings ask for it. `write_usage` stores the used
    tokens; by default it writes to the ledger, if there is one.
    """
    settings = settings or GatewaySettings()
    config = load_config(settings)
    ledger = ledger or find_ledger(settings)
    write_usage = write_usage or (ledger.usage.add if ledger else None)
    keyring = KeyRing(
        ledger, settings.api_key.get_secret_value(), query_key=settings.gateway_api_key.get_secret_value()
    )

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[LifespanState]:
        model = embedder or (await asyncio.to_thread(_load_embedder) if settings.gateway_embeddings else None)
        embeddings = BuiltInEmbeddings(model) if model is not None else None
        if config.serves_extractive:
            await asyncio.to_thread(built_in_knowledge)  # the first question need not wait for it
        try:
            async with open_gateway(
                settings, config, keyring, embeddings=embeddings, write_usage=write_usage
            ) as gateway:
                yield {"gateway": gateway}
        finally:
            if ledger is not None:
                ledger.close()

    app = GatewayApp([EndpointApp(endpoint) for endpoint in Endpoint], lifespan)
    install(app, "gateway", render=render)
    app.include_router(models.router)
    of_ledger: dict[str, Check] = {"ledger": in_thread(ledger.ping)} if ledger is not None else {}

    def checks(request: Request) -> Mapping[str, Check]:
        return {"upstreams": gateway_of(request.scope).health.require_an_answerer, **of_ledger}

    add_operations_routes(app, checks)
    return app


def find_ledger(settings: GatewaySettings) -> Ledger | None:
    """Return the ledger, which holds the keys and the used tokens, or None if there is none.

    The gateway also runs alone. Without Alembic and without a ledger that another service made, ZHIWEN_API_KEY is the
    only key.
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


def main() -> None:
    """Run the gateway as the settings say (`zhiwen-gateway`)."""
    run_service(
        "gateway",
        GatewaySettings,
        lambda settings, ledger: _settled(create_app(settings, ledger=ledger)),
        find_ledger=find_ledger,
        port=lambda settings: settings.gateway_port,
    )


def _settled(app: FastAPI) -> FastAPI:
    """Exclude all present objects from garbage collection, and collect less often.

    These objects live as long as the process, and collections took a twentieth of a request's CPU time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    return app


if __name__ == "__main__":
    main()
