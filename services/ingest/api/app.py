"""The ingest API: uploads, documents and knowledge bases. Composition root and entry point `zhiwen-ingest`."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from fastapi import FastAPI

from zhiwen.common.auth.keyring import KeyRing
from zhiwen.common.ledger import Ledger, open_ledger
from zhiwen.common.originals import Originals, open_originals
from zhiwen.common.store import ChunkStore
from zhiwen.common.web import Check, add_operations_routes, in_thread, install, migrated_ledger, new_app, run_service
from zhiwen.ingest.api import documents, events, fsck, knowledge_bases, uploads
from zhiwen.ingest.api.state import Ingest, State
from zhiwen.ingest.fsck import Fsck
from zhiwen.ingest.knowledge_bases import KnowledgeBaseManager
from zhiwen.ingest.settings import IngestSettings
from zhiwen.ingest.upload.accept import UploadLimits, Uploads
from zhiwen.ingest.upload.archives import ArchiveLimits
from zhiwen.ingest.worker.broker import Broker, make_celery, redis_url_for_celery

UPLOADS = re.compile(r"/v1/knowledge-bases/[^/]+/documents(/by-name/.*)?")
"""The paths whose routes have their own limit on the body."""
ARCHIVE_RATIO = 200.0


def create_app(
    settings: IngestSettings | None = None,
    *,
    ledger: Ledger | None = None,
    store: ChunkStore | None = None,
    originals: Originals | None = None,
    broker: Broker | None = None,
) -> FastAPI:
    """Build the application.

    `settings` come from the environment by default. `ledger`, `store`, `originals` and `broker` are built from the
    settings by default. The application closes the ledger and the store when it ends.
    """
    settings = settings or IngestSettings()
    ingest = _parts(
        settings,
        ledger or open_ledger(settings.ledger_url),
        store
        or ChunkStore(
            settings.milvus_url, token=settings.milvus_token.get_secret_value(), timeout=settings.milvus_timeout
        ),
        originals or open_originals(settings),
        broker or Broker(make_celery(redis_url_for_celery(settings.redis_url.get_secret_value()))),
    )

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[State]:
        await asyncio.to_thread(ingest.ledger.database.migrate)
        await asyncio.to_thread(ingest.uploads.remove_leftovers)
        yield State(ingest=ingest)
        ingest.close()

    app = new_app("Zhiwen ingest", lifespan)
    app.state.keys = KeyRing(ingest.ledger, settings.api_key.get_secret_value())
    install(app, "ingest", unlimited_paths=UPLOADS)
    for routes in (knowledge_bases, uploads, documents, events, fsck):
        app.include_router(routes.router)
    checks = _checks(ingest)
    add_operations_routes(app, lambda _: checks)
    return app


def _parts(settings: IngestSettings, ledger: Ledger, store: ChunkStore, originals: Originals, broker: Broker) -> Ingest:
    """Return the application's parts. This connects to nothing."""
    limits = UploadLimits(
        file_bytes=settings.max_upload_bytes,
        request_bytes=settings.max_request_bytes,
        archive=ArchiveLimits(settings.max_archive_files, settings.max_archive_bytes, ARCHIVE_RATIO),
        waiting_jobs=settings.max_queue,
    )
    return Ingest(
        ledger=ledger,
        store=store,
        originals=originals,
        broker=broker,
        knowledge_bases=KnowledgeBaseManager(ledger, store, broker, settings),
        uploads=Uploads(ledger, originals, broker, settings.data_dir / "incoming", limits),
        fsck=Fsck(ledger, store, originals),
    )


def _checks(ingest: Ingest) -> Mapping[str, Check]:
    return {
        "ledger": in_thread(ingest.ledger.ping),
        "milvus": in_thread(ingest.store.ping),
        "broker": in_thread(ingest.broker.ping),
        "originals": in_thread(ingest.originals.ping),
    }


def main() -> None:
    """Run the ingest API as the settings say."""
    run_service(
        "ingest",
        IngestSettings,
        lambda settings, ledger: create_app(settings, ledger=ledger),
        find_ledger=migrated_ledger,
        port=lambda settings: settings.ingest_port,
    )
