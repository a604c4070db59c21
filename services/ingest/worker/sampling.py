"""Chooses the chunks of a document that belong into the sample of its generation.

The hashes of the slots are kept in memory, so that a document of which no chunk belongs into the sample costs no
statement. They are read again once a minute: other workers fill slots, and a removed document empties some.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import structlog
from numpy.typing import NDArray

from zhiwen.common.embedding.background import halves_of, lowest, slot_and_hash, to_bytes
from zhiwen.common.embedding.base import Embedder, Vectors
from zhiwen.common.embedding.known_models import known_weight
from zhiwen.common.errors import ServiceError
from zhiwen.common.models import Sampled, parse_chunk_id

log = structlog.get_logger(__name__)

FRESH_SECONDS = 60.0
KEPT = 256
"""How many generations' hashes stay in memory: those that were written to last."""
_AT_ONCE = 16
"""Halves that are embedded with one call: a server has only the time of a question for them."""


class SampledHashes:
    """The hashes of the samples by generation and slot. Thread-safe.

    `read` returns those of a generation from the ledger. `clock` counts seconds.
    """

    def __init__(
        self, read: Callable[[int], Mapping[int, int]], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._read = read
        self._clock = clock
        self._known: OrderedDict[int, tuple[float, dict[int, int]]] = OrderedDict()
        self._lock = threading.Lock()

    def known(self, generation_id: int) -> Mapping[int, int]:
        """Return the hashes of a generation's sample by slot, at most a minute old."""
        with self._lock:
            until, hashes = self._known.get(generation_id, (0.0, {}))
            if generation_id in self._known and self._clock() < until:
                return dict(hashes)
        found = dict(self._read(generation_id))
        with self._lock:
            self._known[generation_id] = (self._clock() + FRESH_SECONDS, found)
            self._known.move_to_end(generation_id)
            if len(self._known) > KEPT:
                self._known.popitem(last=False)
        return dict(found)

    def learn(self, generation_id: int, sample: Sequence[Sampled]) -> None:
        """Remember chunks that are in the sample from now on."""
        with self._lock:
            _, hashes = self._known.get(generation_id, (0.0, {}))
            for row in sample:
                hashes[row.slot] = min(row.hash, hashes.get(row.slot, row.hash))


class Sampler:
    """Chooses among the chunks of one document: for each slot that with the lowest hash, if the sample needs it."""

    def __init__(self, embedder: Embedder, sampled: Mapping[int, int]) -> None:
        """`sampled` holds the hashes of the generation's sample by slot."""
        self._embedder = embedder
        self._hashes = dict(sampled)
        self._chosen: dict[int, _Offered] = {}

    def offer(self, ids: Sequence[str], texts: Sequence[str], vectors: Vectors) -> None:
        """Take those of the chunks that belong into the sample. `ids`, `texts` and `vectors` are parallel."""
        for slot, place in lowest(ids, self._hashes).items():
            self._hashes[slot] = slot_and_hash(ids[place])[1]
            self._chosen[slot] = _Offered(ids[place], texts[place], vectors[place])

    def chosen(self) -> list[Sampled]:
        """Return the chosen chunks by slot. For a model that nobody knows, this embeds their halves.

        The sample only helps to weigh the model. So a chunk whose halves cannot be embedded has none, and the document
        is indexed all the same.
        """
        slots = sorted(self._chosen)
        offered = [self._chosen[slot] for slot in slots]
        openings, rests = self._halves([chunk.text for chunk in offered])
        return [
            Sampled(
                slot=slot,
                hash=self._hashes[slot],
                ordinal=parse_chunk_id(chunk.id)[2],
                vector=to_bytes(chunk.vector),
                opening=opening,
                rest=rest,
            )
            for slot, chunk, opening, rest in zip(slots, offered, openings, rests, strict=True)
        ]

    def _halves(self, texts: Sequence[str]) -> tuple[Sequence[bytes | None], Sequence[bytes | None]]:
        openings: list[bytes | None] = [None] * len(texts)
        rests: list[bytes | None] = [None] * len(texts)
        halves = [] if known_weight(self._embedder.model) is not None else [halves_of(text) for text in texts]
        places = [place for place, (opening, rest) in enumerate(halves) if opening.strip() and rest.strip()]
        try:
            for start in range(0, len(places), _AT_ONCE):
                some = places[start : start + _AT_ONCE]
                asked = self._embedder.embed_queries([halves[place][0] for place in some])
                found = self._embedder.embed_passages([halves[place][1] for place in some])
                for place, opening, rest in zip(some, asked, found, strict=True):
                    openings[place], rests[place] = to_bytes(opening), to_bytes(rest)
        except ServiceError as exc:
            log.warning("halves_not_embedded", model=self._embedder.model, code=exc.code)
        return openings, rests


@dataclass(frozen=True, slots=True)
class _Offered:
    id: str
    text: str
    vector: NDArray[np.float32]
