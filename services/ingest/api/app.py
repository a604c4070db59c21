"""The ingest API: documents in (design section 6). Composition root and entry point."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from fastapi import FastAPI

from zhiwen.common.auth.keyring import KeyRing
from zhiwen.common.ledger import Ledger, open_ledger
from zhiwen.common.originals import Originals, open_originals
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
from zhiwen.ingest.api import documents, fsck, knowledge_bases
from zhiwen.ingest.service import Ingest
from zhiwen.ingest.settings import IngestSettings
from zhiwen.ingest.upload.staging import remove_leftovers
from zhiwen.ingest.worker.broker import Broker, make_celery, redis_url_for_celery

UPLOADS = re.compile(r"/v1/knowledge-bases/[^/]+/documents(/by-name/.*)?")


def create_app(
    settings: IngestSettings | None = None,
    *,
    ledger: Ledger | None = None,
    store: ChunkStore | None = None,
    originals: Originals | None = None,
    broker: Broker | None = None,
) -> FastAPI:
    """Build the application; what is not passed is built from the settings (by default the environment's)."""
    settings = settings or IngestSettings()
    ingest = Ingest(
        settings=settings,
        ledger=ledger or open_ledger(settings.ledger_url),
        store=store
        or ChunkStore(
            settings.milvus_url, token=settings.milvus_token.get_secret_value(), timeout=settings.milvus_timeout
        ),
        originals=originals or open_originals(settings),
        broker=broker or Broker(make_celery(redis_url_for_celery(settings.redis_url.get_secret_value()))),
    )

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(ingest.ledger.database.migrate)
        await asyncio.to_thread(remove_leftovers, settings.data_dir / "incoming")
        yield
        ingest.store.close()
        ingest.ledger.close()

    app = new_app("Zhiwen ingest", lifespan)
    app.state.ingest = ingest
    app.state.keys = KeyRing(ingest.ledger, settings.api_key.get_secret_value())
    install(app, "ingest", uncounted=UPLOADS)
    app.include_router(knowledge_bases.router)
    app.include_router(documents.router)
    app.include_router(fsck.router)
    checks = _checks(ingest)
    add_operations_routes(app, lambda _: checks)
    return app


def _checks(ingest: Ingest) -> Mapping[str, Check]:
    return {
        "ledger": in_thread(ingest.ledger.ping),
        "milvus": in_thread(ingest.store.ping),
        "broker": in_thread(ingest.broker.ping),
        "originals": in_thread(ingest.originals.ping),
    }


def main() -> None:
    """Run the ingest API as the settings say (`zhiwen-ingest`)."""
    with configuration_errors_end_the_process():
        settings = IngestSettings()
        configure_logging("ingest", settings.log_level, settings.log_format)
        ledger = open_ledger(settings.ledger_url)
        ledger.database.migrate()
        keys = KeyRing(ledger, settings.api_key.get_secret_value())
        require_loopback_or_key(settings.host, has_key=keys.has_key())
        serve(lambda: create_app(settings, ledger=ledger), host=settings.host, port=settings.ingest_port)
