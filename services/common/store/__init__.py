"""Where chunks and their vectors are kept and searched: Milvus. pymilvus appears only in this package."""

from services.common.store.aliases import alias_of
from services.common.store.client import ChunkStore, Ranking
from services.common.store.engine import Capabilities, CollectionGone, require_full_text
from services.common.store.rows import ChunkKey, ChunkRow, SparseVector, quoted

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
