"""Creates, changes, rebuilds and drops knowledge bases, in the ledger and in Milvus."""

from __future__ import annotations

from dataclasses import dataclass, replace

from zhiwen.common.api.knowledge_bases import Chunking, CreateKnowledgeBase, Index, UpdateKnowledgeBase
from zhiwen.common.embedding.registry import describe_model, present_model
from zhiwen.common.errors import Conflict, InvalidRequest, NotFound
from zhiwen.common.ledger import Ledger, NewGeneration, new_id
from zhiwen.common.models import DEFAULT_METRIC, ChunkingSpec, Generation, IndexSpec, KnowledgeBase
from zhiwen.common.prompts import validated_template
from zhiwen.common.store import ChunkStore
from zhiwen.common.store.index_specs import validated_index
from zhiwen.ingest.settings import IngestSettings
from zhiwen.ingest.worker.broker import Broker
from zhiwen.ingest.worker.rebuilding import COLLECTION_PREFIX, Rebuilder, collection_of

FREE_FIELDS = {"description", "prompt_template", "cross_language", "dense_weight", "min_confidence"}
"""The fields of a knowledge base whose change needs no rebuild."""


@dataclass(frozen=True, slots=True)
class KnowledgeBaseManager:
    """Creates, changes, rebuilds and drops knowledge bases. Every method blocks.

    `settings` hold the defaults of a new knowledge base.
    """

    ledger: Ledger
    store: ChunkStore
    broker: Broker
    settings: IngestSettings

    def create(self, asked: CreateKnowledgeBase) -> KnowledgeBase:
        """Create the collection, and then the row in the ledger. A crash in between leaves only an empty collection.

        Raises `Conflict` (`knowledge-base-exists`), and `InvalidRequest` that names what is not possible.
        """
        if asked.prompt_template is not None:
            validated_template(asked.prompt_template)
        model = asked.embedding_model or self.settings.embedding_model
        described = describe_model(model, self.settings)
        index = self._index(asked.index, None, described.dimension)
        chunking = self._chunking(asked.chunking, described.max_tokens)
        self._refuse_taken(asked.name)
        id = new_id()
        collection = f"{COLLECTION_PREFIX}{id}_1"
        self.store.create(collection, described.dimension, index)
        try:
            base = self.ledger.bases.create(
                id=id,
                name=asked.name,
                description=asked.description,
                prompt_template=asked.prompt_template,
                cross_language=asked.cross_language,
                dense_weight=asked.dense_weight,
                min_confidence=asked.min_confidence,
                generation=NewGeneration(collection, model, described.dimension, index, chunking),
            )
        except Conflict:
            self.store.drop(collection)
            raise
        self.store.point_alias(base.name, collection)
        return base

    def update(self, base: KnowledgeBase, asked: UpdateKnowledgeBase) -> KnowledgeBase:
        """Change the fields that were sent. A new model, index or chunking starts a rebuild beside the live index.

        Raises `Conflict` while a rebuild runs, and `InvalidRequest` that names what is not possible.
        """
        base = self._change_fields(base, asked)
        if asked.embedding_model is None and asked.index is None and asked.chunking is None:
            return base
        new = self._planned_generation(base, asked)
        if needs_rebuild(base.live, new):
            return Rebuilder(self.ledger, self.store, self.broker).begin(base, new)
        if new.index.search != base.live.index.search:
            return self.ledger.rebuilds.change_search_params(base, dict(new.index.search))
        return base

    def cancel_rebuild(self, base: KnowledgeBase) -> KnowledgeBase:
        """Give up the running rebuild. The live index stays in use. Raises `Conflict` when no rebuild runs."""
        self.ledger.rebuilds.cancel(base)
        self.broker.wake()
        return self.ledger.bases.get(base.name)

    def drop(self, name: str) -> None:
        """Hide a knowledge base at once. A worker removes its content. Raises `NotFound`."""
        self.ledger.bases.begin_drop(name)
        self.broker.wake()

    def _refuse_taken(self, name: str) -> None:
        try:
            self.ledger.bases.get(name)
        except NotFound:
            return
        raise Conflict("knowledge-base-exists", f"There is already a knowledge base named {name}.")

    def _change_fields(self, base: KnowledgeBase, asked: UpdateKnowledgeBase) -> KnowledgeBase:
        """Change the fields that need no rebuild."""
        if asked.prompt_template is not None:
            validated_template(asked.prompt_template)
        changes = asked.model_dump(exclude_unset=True, include=FREE_FIELDS)
        if "description" in changes:
            changes["description"] = changes["description"] or ""
        if asked.embedding_model not in {None, base.live.embedding_model}:
            changes.setdefault("dense_weight", None)  # it was tuned for the other model
        return self.ledger.bases.update(base.name, changes) if changes else base

    def _planned_generation(self, base: KnowledgeBase, asked: UpdateKnowledgeBase) -> NewGeneration:
        """Return the generation that the request describes: the live one with the changes that were sent."""
        live = base.live
        model = asked.embedding_model or present_model(live.embedding_model)
        described = describe_model(model, self.settings)
        return NewGeneration(
            collection=collection_of(base.id),
            embedding_model=model,
            dimension=described.dimension,
            index=self._index(asked.index, live.index, described.dimension),
            chunking=self._chunking(asked.chunking, described.max_tokens) if asked.chunking else live.chunking,
        )

    def _index(self, asked: Index | None, present: IndexSpec | None, dimension: int) -> IndexSpec:
        """Return the index to build: the requested one, the present one, or the server's default."""
        capabilities = self.store.capabilities()
        if asked is None and present is not None:
            return present
        spec = IndexSpec(
            type=(asked.type if asked else None) or capabilities.default_index,
            metric=(asked.metric if asked else None) or (present.metric if present else DEFAULT_METRIC),
            params=asked.params if asked else {},
            search=asked.search if asked else {},
        )
        return validated_index(spec, dimension=dimension, available=capabilities.index_types)

    def _chunking(self, asked: Chunking | None, max_tokens: int) -> ChunkingSpec:
        """Return the chunking to build: the requested one, or the default, cut to what the model reads."""
        if asked is None:
            size = min(self.settings.chunk_size, max_tokens)
            return ChunkingSpec(size, min(self.settings.chunk_overlap, size // 4))
        if asked.size > max_tokens:
            raise InvalidRequest(
                "bad-chunking", f"The embedding model reads {max_tokens} tokens; chunks of {asked.size} are too long."
            )
        if asked.overlap > asked.size // 2:
            raise InvalidRequest("bad-chunking", "The overlap must be at most half of the chunk size.")
        return ChunkingSpec(asked.size, asked.overlap)


def needs_rebuild(live: Generation, new: NewGeneration) -> bool:
    """Return whether the documents must be indexed again. New search parameters alone need no rebuild. Pure."""
    return (new.embedding_model, new.chunking, replace(new.index, search={})) != (
        live.embedding_model,
        live.chunking,
        replace(live.index, search={}),
    )
