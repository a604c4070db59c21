"""Begins rebuilds: those that a client asks for, and those of knowledge bases whose built-in model is retired."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import structlog

from zhiwen.common.embedding.registry import present_model
from zhiwen.common.embedding.static import describe_artifact
from zhiwen.common.errors import Conflict, NotFound, ServiceError, Unavailable
from zhiwen.common.ledger import Ledger, NewGeneration, new_id
from zhiwen.common.models import KnowledgeBase
from zhiwen.common.settings import RETIRED_MODELS
from zhiwen.common.store import ChunkStore
from zhiwen.ingest.worker.broker import Broker

COLLECTION_PREFIX = "kb_"
"""The beginning of our collections' names. Other collections in the same Milvus do not belong to us."""

log = structlog.get_logger(__name__)


def collection_of(base_id: str) -> str:
    """Return a name, never used before, for the collection of a new generation."""
    return f"{COLLECTION_PREFIX}{base_id}_{new_id()[:8]}"


@dataclass(frozen=True, slots=True)
class Rebuilder:
    """Begins to build new generations beside the live ones. Every method blocks."""

    ledger: Ledger
    store: ChunkStore
    broker: Broker

    def begin(self, base: KnowledgeBase, new: NewGeneration) -> KnowledgeBase:
        """Create the collection of `new`, record the rebuild, and wake a worker; return the changed knowledge base.

        Raises `Conflict` (`rebuild-running`) while another rebuild runs, and `NotFound` when the base was dropped
        meanwhile. Then no collection is left behind.
        """
        try:
            self.store.create(new.collection, new.dimension, new.index)
            base = self.ledger.rebuilds.begin(base, new)
        except ServiceError:  # Milvus refuses, another rebuild runs, the base is dropped, or the ledger does not answer
            recorded = {generation.collection for generation in self.ledger.bases.generations(base.id)}
            if new.collection not in recorded:  # if it is recorded, only the answer was lost
                self.store.drop(new.collection)
            raise
        self.broker.wake()
        return base

    def replace_retired_models(self) -> None:
        """Begin to rebuild each knowledge base whose live index was made with a retired built-in model.

        A rebuild that failed is not begun again: its error stays visible until somebody acts on it. So does
        that of one that Milvus refuses to begin, which does not keep others from beginning. Raises `Unavailable`.
        """
        for base in self.ledger.bases.of_models(RETIRED_MODELS):
            live = base.live
            model = present_model(live.embedding_model)
            if base.building or base.rebuild_error:
                continue
            dimension = describe_artifact().dimension
            new = NewGeneration(collection_of(base.id), model, dimension, live.index, live.chunking)
            try:
                self.begin(base, new)
            except (Conflict, NotFound):
                continue  # another worker was faster, or the base is dropped
            except Unavailable:
                raise
            except ServiceError as exc:  # Milvus refuses its index, for example
                log.warning("retired_model_not_replaced", knowledge_base=base.name, code=exc.code, detail=exc.detail)
                with contextlib.suppress(NotFound):
                    self.ledger.bases.update(base.name, {"rebuild_error": exc.detail})
            else:
                log.info("retired_model_replaced", knowledge_base=base.name, old=live.embedding_model, new=model)
