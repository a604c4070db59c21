"""The query API: questions in (design section 6). Composition root and entry point."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fastapi import FastAPI

from zhiwen.common.auth.keyring import KeyRing
from zhiwen.common.embedding.registry import Embedders, embedders_from
from zhiwen.common.ledger import Ledger, open_ledger
from zhiwen.common.lexical.translations import Translations
from zhiwen.common.settings import require_loopback_or_key
from zhiwen.common.store import ChunkStore
from zhiwen.common.telemetry import configure_logging
from zhiwen.common.web import (
    Check,
    add_operations_routes,
    configuration_errors_end_the_process,
    in_thread,
    install,
    new_app,
    serve,
)
from zhiwen.query.answer.answerer import Answerer
from zhiwen.query.answer.condensing import Condenser
from zhiwen.query.answer.generation import Generator
from zhiwen.query.api import routes
from zhiwen.query.search.reranking import reranker_from
from zhiwen.query.search.retriever import Retriever
from zhiwen.query.settings import QuerySettings


@dataclass(frozen=True, slots=True)
class Query:
    """What the query API was built with."""

    ledger: Ledger
    store: ChunkStore
    retriever: Retriever
    generator: Generator
    answerer: Answerer
    recalling: asyncio.Lock


def create_app(
    settings: QuerySettings | None = None,
    *,
    ledger: Ledger | None = None,
    store: ChunkStore | None = None,
    embedders: Embedders | None = None,
) -> FastAPI:
    """Build the application; what is not passed is built from the settings (by default the environment's)."""
    settings = settings or QuerySettings()
    embedders = embedders or embedders_from(settings)
    query = _build(settings, ledger, store, embedders)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(embedders.preload, settings.embedding_model)
        yield
        await query.generator.close()
        query.retriever.close()
        query.store.close()
        query.ledger.close()

    app = new_app("Zhiwen query", lifespan)
    app.state.query = query
    app.state.keys = KeyRing(query.ledger, settings.api_key.get_secret_value())
    install(app, "query")
    app.include_router(routes.router)
    checks = _checks(query)
    add_operations_routes(app, lambda: checks)
    return app


def _build(settings: QuerySettings, ledger: Ledger | None, store: ChunkStore | None, embedders: Embedders) -> Query:
    ledger = ledger or open_ledger(settings.ledger_url)
    store = store or ChunkStore(
        settings.milvus_url, token=settings.milvus_token.get_secret_value(), timeout=settings.milvus_timeout
    )
    retriever = Retriever(
        ledger,
        store,
        embedders,
        Translations.load(),
        candidates=settings.candidates,
        dense_weight=settings.dense_weight,
        fusion=settings.fusion,
        reranker=reranker_from(settings),
    )
    key = settings.gateway_api_key.get_secret_value() or settings.api_key.get_secret_value()
    generator = Generator(settings.gateway_url, api_key=key, timeout=settings.gateway_timeout)
    answerer = Answerer(
        retriever=retriever,
        generator=generator,
        condenser=Condenser(generator, settings.answer_model, settings.max_question_characters),
        default_model=settings.answer_model,
        min_relevance=settings.min_relevance,
        cross_language=settings.cross_language,
        max_context_tokens=settings.max_context_tokens,
        max_question_characters=settings.max_question_characters,
    )
    return Query(ledger, store, retriever, generator, answerer, asyncio.Lock())


def _checks(query: Query) -> Mapping[str, Check]:
    return {
        "ledger": in_thread(query.ledger.ping),
        "milvus": in_thread(query.store.ping),
        "gateway": query.generator.ping,
    }


def main() -> None:
    """Run the query API as the settings say (`zhiwen-query`)."""
    with configuration_errors_end_the_process():
        settings = QuerySettings()
        configure_logging("query", settings.log_level, settings.log_format)
        ledger = open_ledger(settings.ledger_url)
        ledger.database.migrate()
        keys = KeyRing(ledger, settings.api_key.get_secret_value())
        require_loopback_or_key(settings.host, has_key=keys.has_key())
        serve(lambda: create_app(settings, ledger=ledger), host=settings.host, port=settings.query_port)
