"""Keeps the hits of live document versions, and never two versions of one document.

Milvus also holds chunks of versions that are not live yet, or no longer. The ledger says which version of a document is
live, and a new version may go live while a search runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice

from zhiwen.common.models import Hit, KnowledgeBase, parse_chunk_id
from zhiwen.common.store import Ranking
from zhiwen.query.search.fusion import Parts

LONGEST_STEP = 1000
"""Most rows that are looked up at a time."""
MOST_ROUNDS = 4
"""Most searches for one request, when a new version goes live during each of them."""

Version = tuple[str, int]
"""A document's id and one of its versions."""
LiveVersions = Callable[[set[str]], Mapping[str, int]]
"""Returns from the ledger the live version of each of these documents. Documents without one are left out."""
Rows = Callable[[str, Ranking], list[Hit]]
"""Returns from Milvus the ranked chunks of a collection as hits. Chunks that are gone are left out."""


class LiveHits:
    """The live hits of a ranking, best first, looked up while somebody iterates over them.

    The ledger is asked once about each document, and its answer holds for all chunks of the document. So two versions
    of a document are never among the hits. `missed` collects the live versions that Milvus should have found in place
    of the chunks that it did find.
    """

    def __init__(
        self, ranking: Ranking, live_versions: LiveVersions, rows: Callable[[Ranking], list[Hit]], *, step: int
    ) -> None:
        """Look up `step` chunks of `ranking` at first, and twice as many each time that more hits are needed.

        `live_versions` asks the ledger, and `rows` asks Milvus.
        """
        self.missed: set[Version] = set()
        self._ranking = ranking
        self._live_versions = live_versions
        self._rows = rows
        self._step = step
        self._known: set[str] = set()
        self._live: dict[str, int] = {}

    def __iter__(self) -> Iterator[Hit]:
        ranked, step = iter(self._ranking.items()), self._step
        while found := dict(islice(ranked, step)):
            yield from self._look_up(found)
            step = min(2 * step, LONGEST_STEP)

    def _look_up(self, found: Ranking) -> list[Hit]:
        """Return those of the chunks that are live. Add newer live versions to `missed`."""
        versions: dict[str, Version] = {id: parse_chunk_id(id)[:2] for id in found}
        self._ask_ledger({document_id for document_id, _ in versions.values()})
        for document_id, version in versions.values():
            if (live := self._live.get(document_id, 0)) > version:
                self.missed.add((document_id, live))
        live_ranking = {id: score for id, score in found.items() if self._is_live(versions[id])}
        hits = self._rows(live_ranking)
        if len(hits) < len(live_ranking):  # removed meanwhile: another version is live now, or none
            there = {hit.chunk_id for hit in hits}
            self.missed |= {versions[id] for id in live_ranking if id not in there}
        return hits

    def _ask_ledger(self, documents: set[str]) -> None:
        """Ask for the live versions of those documents that were not asked for before."""
        if unknown := documents - self._known:
            self._known |= unknown
            self._live |= self._live_versions(unknown)

    def _is_live(self, version: Version) -> bool:
        document_id, number = version
        return self._live.get(document_id) == number


@dataclass(frozen=True, slots=True)
class Ranked:
    """What Milvus found, live or not, best first.

    `rest` is the highest score that any other chunk can have; it is below 0 when there is no other chunk. `parts` are
    the scores of the ranked chunks in each half. `embed_ms` is the time in milliseconds to embed the question.
    """

    ranking: Ranking
    rest: float
    parts: Parts
    embed_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class LiveResult:
    """The live hits, and the knowledge base as it was when they were found.

    `rest` and `parts` are those of `Ranked`. `embed_ms` is the sum over all rounds.
    """

    base: KnowledgeBase
    hits: list[Hit]
    rest: float
    parts: Parts
    embed_ms: float


@dataclass(frozen=True, slots=True)
class LiveSearch:
    """Searches again while a new version goes live between the query to Milvus and the query to the ledger.

    `reload` returns a knowledge base as it is now, because another generation may be live by then.
    """

    live_versions: LiveVersions
    rows: Rows
    reload: Callable[[KnowledgeBase], KnowledgeBase]

    def search(
        self,
        base: KnowledgeBase,
        rank: Callable[[KnowledgeBase, bool], Ranked],
        choose: Callable[[Iterable[Hit]], list[Hit]],
        *,
        step: int,
    ) -> LiveResult:
        """Rank chunks and return the live hits that `choose` takes.

        When the ledger calls a newer version live than the one that Milvus found, Milvus may have been asked before
        the newer version was written. Neither version would then be among the hits. So Milvus is asked again, until no
        further newer version turns up.

        `rank` gets the knowledge base and whether to read with strong consistency, which is True from the second round
        on. `step` is how many rows are looked up at first.
        """
        embed_ms = 0.0
        known: set[Version] = set()
        for round_ in range(MOST_ROUNDS):
            ranked = rank(base, round_ > 0)
            embed_ms += ranked.embed_ms
            live = LiveHits(ranked.ranking, self.live_versions, partial(self.rows, base.live.collection), step=step)
            hits = choose(live)
            if live.missed <= known:
                break
            known |= live.missed
            base = self.reload(base)
        return LiveResult(base, hits, ranked.rest, ranked.parts, embed_ms)
