"""Which of the chunks that Milvus finds answer: those of live versions, never two versions of one document.

Milvus also holds chunks of versions that are not live yet, or not any more. The ledger says which version of a document
is live, and a new one may go live while a search is under way. A `Version` is a document's id and a version of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice

from zhiwen.common.models import Hit, KnowledgeBase, parse_chunk_id
from zhiwen.common.store import Ranking

LONGEST_STEP = 1000
"""Rows looked up at a time at most."""
MOST_ROUNDS = 4
"""Searches made at most while new versions go live all the time."""

Version = tuple[str, int]
LiveVersions = Callable[[set[str]], Mapping[str, int]]
"""Returns the live version of each of these documents, from the ledger; those that have none are left out."""
Rows = Callable[[str, Ranking], list[Hit]]
"""Returns the rows of ranked chunks of a collection as hits, from Milvus; those that are gone are left out."""


class LiveHits:
    """The live hits of a ranking, best first. They are looked up as they are asked for.

    `overtaking` holds the live versions that Milvus should have found instead of what it did find. What the ledger has
    said once about a document holds for all of its chunks, so that no two versions of it are among the hits.
    """

    def __init__(
        self, ranking: Ranking, live_versions: LiveVersions, rows: Callable[[Ranking], list[Hit]], *, step: int
    ) -> None:
        """Take `step` chunks of the ranking at first, and twice as many each time more hits are asked for."""
        self.overtaking: set[Version] = set()
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
        """Return the live ones among these chunks, and note the versions that overtake the others."""
        versions: dict[str, Version] = {id: parse_chunk_id(id)[:2] for id in found}
        self._ask_ledger({document_id for document_id, _ in versions.values()})
        for document_id, version in versions.values():
            if (live := self._live.get(document_id, 0)) > version:
                self.overtaking.add((document_id, live))
        live_ranking = {id: score for id, score in found.items() if self._is_live(versions[id])}
        hits = self._rows(live_ranking)
        if len(hits) < len(live_ranking):  # removed since: another version is live now, or none
            there = {hit.chunk_id for hit in hits}
            self.overtaking |= {versions[id] for id in live_ranking if id not in there}
        return hits

    def _ask_ledger(self, documents: set[str]) -> None:
        """Learn the live versions of those documents that have not been asked for before."""
        if unknown := documents - self._known:
            self._known |= unknown
            self._live |= self._live_versions(unknown)

    def _is_live(self, version: Version) -> bool:
        document_id, number = version
        return self._live.get(document_id) == number


@dataclass(frozen=True, slots=True)
class Ranked:
    """What Milvus found, live or not, best first.

    `rest` is the most that any other chunk can score, below 0 where there is no other; `embed_ms` are the milliseconds
    that the question's vector took.
    """

    ranking: Ranking
    rest: float
    embed_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Settled:
    """Live hits that nothing overtakes, and the knowledge base as it was when they were found.

    `rest` is that of `Ranked`; `embed_ms` counts all rounds.
    """

    base: KnowledgeBase
    hits: list[Hit]
    rest: float
    embed_ms: float


@dataclass(frozen=True, slots=True)
class LiveSearch:
    """Searches until no new version goes live between what Milvus is asked and what the ledger is asked.

    `reload` returns a knowledge base as it is now, since another generation may answer then.
    """

    live_versions: LiveVersions
    rows: Rows
    reload: Callable[[KnowledgeBase], KnowledgeBase]

    def settled(
        self,
        base: KnowledgeBase,
        rank: Callable[[KnowledgeBase, bool], Ranked],
        choose: Callable[[Iterable[Hit]], list[Hit]],
        *,
        step: int,
    ) -> Settled:
        """Return the live hits that `choose` takes of those that `rank` finds.

        When a hit's version has been overtaken, Milvus may have been asked before the newer version was written: then
        neither version would answer. So it is asked again, until what overtakes is known already. `rank` is told to be
        strongly consistent in every round but the first, so that it finds all that has gone live by then.

        `step` is how many rows are looked up at first.
        """
        embed_ms = 0.0
        known: set[Version] = set()
        for round_ in range(MOST_ROUNDS):
            ranked = rank(base, round_ > 0)
            embed_ms += ranked.embed_ms
            live = LiveHits(ranked.ranking, self.live_versions, partial(self.rows, base.live.collection), step=step)
            hits = choose(live)
            if live.overtaking <= known:
                break
            known |= live.overtaking
            base = self.reload(base)
        return Settled(base, hits, ranked.rest, embed_ms)
