"""The term statistics of a collection, which BM25's idf needs: the sum over its live document versions.

The sums stay in memory and are refreshed when the ledger says that something changed. A quick refresh is done at once,
so that a document is found by its words as soon as it is ready. After a slow refresh the next one waits: ten times as
long as the refresh took, but at most a second.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from zhiwen.common.ledger import Ledger
from zhiwen.common.lexical.statistics import TermStatistics
from zhiwen.common.models import KnowledgeBase

LONGEST_PAUSE = 1.0
"""Longest pause between two refreshes, in seconds."""
PAUSE_SHARE = 10.0
"""A pause is this many times as long as the refresh before it, up to `LONGEST_PAUSE`."""
FETCH = 500
"""Documents whose statistics are read from the ledger at a time."""
KEPT = 256
"""How many collections' sums stay in memory: those that were searched last."""

Key = tuple[str, int]
"""A document's id and one of its versions."""


@dataclass(slots=True)
class _Summed:
    revision: int = -1
    fresh_until: float = float("-inf")
    total: TermStatistics = field(default_factory=TermStatistics.empty)
    parts: dict[Key, bytes] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


class CollectionStatistics:
    """Term statistics by collection name, which is never used twice. Thread-safe. `clock` counts seconds."""

    def __init__(self, ledger: Ledger, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._ledger = ledger
        self._clock = clock
        self._collections: OrderedDict[str, _Summed] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, base: KnowledgeBase) -> TermStatistics:
        """Return the statistics of the live document versions of a knowledge base."""
        with self._lock:
            summed = self._collections.setdefault(base.live.collection, _Summed())
            self._collections.move_to_end(base.live.collection)
            if len(self._collections) > KEPT:
                self._collections.popitem(last=False)
        if summed.revision != base.revision:
            with summed.lock:
                if summed.revision != base.revision and self._clock() >= summed.fresh_until:
                    self._refresh(summed, base)
        return summed.total

    def _refresh(self, summed: _Summed, base: KnowledgeBase) -> None:
        started = self._clock()
        live = self._ledger.documents.live_pairs(base.live.id)
        gone = set(summed.parts) - live
        missing = sorted(live - set(summed.parts))
        new: dict[Key, bytes] = {}
        for start in range(0, len(missing), FETCH):
            ids = [document_id for document_id, _ in missing[start : start + FETCH]]
            new |= self._ledger.documents.terms(base.live.id, ids)
        added = {key: blob for key, blob in new.items() if key in live and key not in summed.parts}
        total = TermStatistics.total([summed.total, *map(TermStatistics.from_bytes, added.values())])
        if gone:
            total = total.remove(TermStatistics.total([TermStatistics.from_bytes(summed.parts[key]) for key in gone]))
        summed.parts = {key: blob for key, blob in summed.parts.items() if key not in gone} | added
        summed.total = total
        summed.revision = base.revision
        ended = self._clock()
        summed.fresh_until = ended + min(LONGEST_PAUSE, PAUSE_SHARE * (ended - started))
