"""The query API: questions in, hits and cited answers out. Composition root and entry point."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from fastapi import FastAPI

from zhiwen.common.answering.knowledge import built_in_knowledge
from zhiwen.common.auth.keyring import KeyRing
from zhiwen.common.embedding.registry import Embedders, embedders_from
from zhiwen.common.ledger import Ledger, open_ledger
from zhiwen.common.lexical.translations import Translations
from zhiwen.common.store import ChunkStore
from zhiwen.common.web import (
    Check,
    add_operations_routes,
    in_thread,
    install,
    migrated_ledger,
    new_app,
    run_service,
)
from zhiwen.query.answer.answerer import Answerer
from zhiwen.query.answer.condensing import Condenser
from zhiwen.query.answer.generation import Generator
from zhiwen.query.api import ask, recall, search
from zhiwen.query.api.state import Parts, State
from zhiwen.query.search.request import SearchRules
from zhiwen.query.search.reranking import Reranker, reranker_from
from zhiwen.query.search.retriever import Retriever
from zhiwen.query.settings import QuerySettings


def create_app(
    settings: QuerySettings | None = None,
    *,
    ledger: Ledger | None = None,
    store: ChunkStore | None = None,
    embedders: Embedders | None = None,
) -> FastAPI:
    """Build the application.

    `settings` come from the environment by default. A ledger, store or embedders that are not passed are built from
    the settings.
    """
    settings = settings or QuerySettings()
    embedders = embedders or embedders_from(settings)
    parts = _build(settings, ledger, store, embedders)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[State]:
        await asyncio.to_thread(embedders.preload, settings.embedding_model)
        await asyncio.to_thread(built_in_knowledge)  # the first search would wait for it
        yield {"parts": parts}
        await parts.close()

    app = new_app("Zhiwen query", lifespan)
    app.state.keys = KeyRing(parts.ledger, settings.api_key.get_secret_value())
    install(app, "query")
    for routes in (search, recall, ask):
        app.include_router(routes.router)
    checks = _checks(parts)
    add_operations_routes(app, lambda _: checks)
    return app


def _build(settings: QuerySettings, ledger: Ledger | None, store: ChunkStore | None, embedders: Embedders) -> Parts:
    ledger = ledger or open_ledger(settings.ledger_url)
    store = store or ChunkStore(
        settings.milvus_url, token=settings.milvus_token.get_secret_value(), timeout=settings.milvus_timeout
    )
    reranker = reranker_from(settings)
    rules = _rules(settings, reranker)
    translations = Translations.load()
    retriever = Retriever(
        ledger,
        store,
        embedders,
        translations,
        candidates=settings.candidates,
        dense_weight=settings.dense_weight,
        reranker=reranker,
    )
    generator = _generator(settings)
    return Parts(
        ledger=ledger,
        store=store,
        rules=rules,
        retriever=retriever,
        generator=generator,
        answerer=Answerer(
            retriever=retriever,
            generator=generator,
            condenser=Condenser(generator, settings.max_question_characters),
            rules=rules,
            translations=translations,
            default_model=settings.answer_model,
            max_context_tokens=settings.max_context_tokens,
            ask_for_citations=settings.ask_for_citations,
        ),
        recalling=asyncio.Lock(),
    )


def _rules(settings: QuerySettings, reranker: Reranker | None) -> SearchRules:
    return SearchRules(
        max_question_characters=settings.max_question_characters,
        min_confidence=settings.min_confidence,
        cross_language=settings.cross_language,
        fusion=settings.fusion,
        has_reranker=reranker is not None,
    )


def _generator(settings: QuerySettings) -> Generator:
    key = settings.gateway_api_key.get_secret_value() or settings.api_key.get_secret_value()
    return Generator(settings.gateway_url, api_key=key, timeout=settings.gateway_timeout)


def _checks(parts: Parts) -> Mapping[str, Check]:
    return {
        "ledger": in_thread(parts.ledger.ping),
        "milvus": in_thread(parts.store.ping),
        "gateway": parts.generator.ping,
    }


def main() -> None:
    """Run the query API as the settings say (`zhiwen-query`)."""
    run_service(
        "query",
        QuerySettings,
        lambda settings, ledger: create_app(settings, ledger=ledger),
        find_ledger=migrated_ledger,
        port=lambda settings: settings.query_port,
    )
