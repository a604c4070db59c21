"""The background of each collection: unrelated texts, against which a cosine is stated. Kept in memory.

A sample is read again when searches find something else and the last reading is `FRESH_SECONDS` old.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from zhiwen.common.embedding.background import UNRELATED, Background
from zhiwen.common.embedding.base import Vectors
from zhiwen.common.embedding.known_models import estimated_weight, known_weight
from zhiwen.common.embedding.registry import Embedders
from zhiwen.common.ledger import Ledger
from zhiwen.common.models import KnowledgeBase
from zhiwen.query.search.relevance import DenseWeight

FRESH_SECONDS = 30.0
KEPT = 256
"""How many collections' backgrounds stay in memory: those that were searched last."""


@dataclass(slots=True)
class _Read:
    revision: int = -1
    until: float = float("-inf")
    background: Background | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


class Backgrounds:
    """Backgrounds by generation. Thread-safe. `clock` counts seconds."""

    def __init__(self, ledger: Ledger, embedders: Embedders, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._ledger = ledger
        self._embedders = embedders
        self._clock = clock
        self._read: OrderedDict[int, _Read] = OrderedDict()
        self._unrelated: dict[str, Vectors] = {}
        self._lock = threading.Lock()

    def of(self, base: KnowledgeBase) -> Background:
        """Return the background of a knowledge base. Raises what the ledger and the embedder raise."""
        with self._lock:
            read = self._read.setdefault(base.live.id, _Read())
            self._read.move_to_end(base.live.id)
            if len(self._read) > KEPT:
                self._read.popitem(last=False)
        found = read.background
        if found is not None and (read.revision == base.revision or self._clock() < read.until):
            return found
        with read.lock:
            found = read.background
            if found is None or (read.revision != base.revision and self._clock() >= read.until):
                found = self._loaded(base)
                read.background, read.revision = found, base.revision
                read.until = self._clock() + FRESH_SECONDS
            return found

    def weight(self, base: KnowledgeBase) -> DenseWeight:
        """Return the weight that fits the embedding model: as measured, or as the collection's own text says."""
        known = known_weight(base.live.embedding_model)
        if known is not None:
            return DenseWeight(known)
        return DenseWeight(estimated_weight(self.of(base)), estimated=True)

    def _loaded(self, base: KnowledgeBase) -> Background:
        model = base.live.embedding_model
        if model not in self._unrelated:
            self._unrelated[model] = self._embedders.get(model).embed_passages(UNRELATED)
        return Background.of(self._ledger.samples.of(base.live.id), self._unrelated[model])
