"""The store of chunks and their vectors: Milvus. Only this package imports pymilvus."""

from zhiwen.common.store.aliases import alias_of
from zhiwen.common.store.capabilities import Capabilities, CollectionGone, require_full_text
from zhiwen.common.store.client import ChunkStore, Ranking
from zhiwen.common.store.rows import ChunkKey, ChunkRow, SparseVector, quoted

__all__ = [
    "Capabilities",
    "ChunkKey",
    "ChunkRow",
    "ChunkStore",
    "CollectionGone",
    "Ranking",
    "SparseVector",
    "alias_of",
    "quoted",
    "require_full_text",
]
