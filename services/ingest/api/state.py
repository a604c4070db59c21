"""The typed state of the application: its lifespan yields the state, and each request carries it to its route."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from fastapi import Request

from zhiwen.common.ledger import Ledger
from zhiwen.common.originals import Originals
from zhiwen.common.store import ChunkStore
from zhiwen.ingest.fsck import Fsck
from zhiwen.ingest.knowledge_bases import KnowledgeBaseManager
from zhiwen.ingest.upload.accept import Uploads
from zhiwen.ingest.worker.broker import Broker


@dataclass(frozen=True, slots=True)
class Ingest:
    """The parts of the ingest API."""

    ledger: Ledger
    store: ChunkStore
    originals: Originals
    broker: Broker
    knowledge_bases: KnowledgeBaseManager
    uploads: Uploads
    fsck: Fsck

    def close(self) -> None:
        """Close the connections to Milvus and to the ledger."""
        self.store.close()
        self.ledger.close()


class State(TypedDict):
    """The state that the lifespan yields: `request.state` of each request."""

    ingest: Ingest


class IngestRequest(Request[State]):
    """A request with a typed state. FastAPI refuses `Request[State]` as an annotation, and passes its own `Request`."""
