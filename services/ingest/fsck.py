"""The consistency check: it compares ledger, originals and Milvus, and repairs the differences.

The ledger is the source of truth. Chunks that it does not name are removed. Chunks that it names and Milvus lacks are
indexed again from the original. Documents with an unfinished job are left alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from zhiwen.common.errors import NotFound
from zhiwen.common.ledger import Ledger
from zhiwen.common.models import Generation, KnowledgeBase
from zhiwen.common.originals import Originals
from zhiwen.common.store import ChunkKey, ChunkStore
from zhiwen.ingest.worker.rebuilding import COLLECTION_PREFIX

Version = tuple[str, int]

LEFTOVER_SECONDS = 24 * 3600.0
"""No upload takes this long. A half-stored file that is older will never be complete."""


@dataclass(slots=True)
class Findings:
    """The differences, with chunks by document version and collection. Empty lists mean that all is consistent."""

    checked_chunks: int = 0
    checked_originals: int = 0
    missing: list[dict[str, Any]] = field(default_factory=list)
    orphaned: list[dict[str, Any]] = field(default_factory=list)
    duplicated: list[dict[str, Any]] = field(default_factory=list)
    missing_collections: list[str] = field(default_factory=list)
    unknown_collections: list[str] = field(default_factory=list)
    missing_originals: list[str] = field(default_factory=list)
    orphaned_originals: list[str] = field(default_factory=list)
    skipped_busy: int = 0
    repaired: bool = False

    @property
    def clean(self) -> bool:
        """Whether ledger, originals and Milvus agree."""
        problems = (
            self.missing,
            self.orphaned,
            self.duplicated,
            self.missing_collections,
            self.missing_originals,
            self.orphaned_originals,
        )
        return not any(problems)


@dataclass(frozen=True, slots=True)
class _State:
    """The number of chunks that the ledger expects of each version in a generation, and the documents with a job."""

    expected: Mapping[Version, int]
    busy: set[str]

    def agrees_on(self, later: _State, version: Version) -> bool:
        """Return whether no job has touched this version between this state and `later`."""
        idle = version[0] not in self.busy and version[0] not in later.busy
        return idle and self.expected.get(version) == later.expected.get(version)


@dataclass(frozen=True, slots=True)
class Fsck:
    """The check. It blocks, and its time is linear in the number of chunks."""

    ledger: Ledger
    store: ChunkStore
    originals: Originals

    def run(self, *, repair: bool) -> Findings:
        """Compare. With `repair`, remove what is too much at once, and queue jobs for what is missing."""
        findings = Findings(repaired=repair)
        bases = self.ledger.bases.all()
        present = set(self.store.collections())
        known = {generation.collection for base in bases for generation in self.ledger.bases.generations(base.id)}
        findings.unknown_collections = sorted(name for name in present - known if name.startswith(COLLECTION_PREFIX))
        for base in bases:
            for generation in [base.live, *([base.building] if base.building else [])]:
                self._check_generation(base, generation, present, findings, repair=repair)
            if repair and self._is_current(base, base.live):
                self.store.point_alias(base.name, base.live.collection)
        self._check_originals(findings, repair=repair)
        return findings

    def _check_generation(
        self, base: KnowledgeBase, generation: Generation, present: set[str], findings: Findings, *, repair: bool
    ) -> None:
        before = self._state(base, generation)
        if generation.collection not in present:
            if not self._is_current(base, generation):  # dropped or rebuilt while we looked
                return
            findings.missing_collections.append(generation.collection)
            if repair:
                self.store.create(generation.collection, generation.dimension, generation.index)
        found = by_version(self.store.keys(generation.collection)) if generation.collection in present else {}
        after = self._state(base, generation)
        findings.checked_chunks += sum(len(ordinals) for ordinals in found.values())
        for version in sorted(set(found) | set(after.expected)):
            if not before.agrees_on(after, version):  # a job worked on it while we looked
                findings.skipped_busy += 1
                continue
            wrong = compare(found.get(version, Counter()), after.expected.get(version))
            self._add_findings(generation, version, wrong, findings)
            if repair and wrong:
                self._repair(base, generation, version, wrong)

    def _is_current(self, base: KnowledgeBase, generation: Generation) -> bool:
        """Return whether a generation is still the live one of its knowledge base, or the one that is being built."""
        try:
            now = self.ledger.bases.get_by_id(base.id)
        except NotFound:
            return False
        return not now.deleting and generation.id in {g.id for g in (now.live, now.building) if g is not None}

    def _state(self, base: KnowledgeBase, generation: Generation) -> _State:
        return _State(self.ledger.documents.indexed_chunks(generation.id), self.ledger.jobs.busy_documents(base.id))

    @staticmethod
    def _add_findings(generation: Generation, version: Version, wrong: Mapping[str, int], findings: Findings) -> None:
        for kind, chunks in wrong.items():
            entry = {"collection": generation.collection, "document_id": version[0], "version": version[1]}
            getattr(findings, kind).append({**entry, "chunks": chunks})

    def _repair(self, base: KnowledgeBase, generation: Generation, version: Version, wrong: Mapping[str, int]) -> None:
        document_id, number = version
        if "orphaned" in wrong or "duplicated" in wrong:
            self.store.delete(generation.collection, document_id, number)
        if (
            generation.id == base.live.id
            and self.ledger.documents.live_versions([document_id]).get(document_id) == number
        ):
            self.ledger.rebuilds.reindex(base, document_id, number)

    def _check_originals(self, findings: Findings, *, repair: bool) -> None:
        referenced = self.ledger.originals.referenced()
        kept = set(self.originals.list())
        findings.checked_originals = len(kept)
        findings.missing_originals = sorted(referenced - kept)
        for sha256 in sorted(kept - referenced):
            if sha256 in self.ledger.originals.referenced():  # uploaded while we looked
                continue
            findings.orphaned_originals.append(sha256)
            if repair:
                self.ledger.originals.remove_if_unreferenced(sha256, partial(self.originals.remove, sha256))
        if repair:
            self.originals.remove_leftovers(self.ledger.database.now() - LEFTOVER_SECONDS)


def by_version(keys: Iterable[ChunkKey]) -> dict[Version, Counter[int]]:
    """Count the stored chunks by document version and ordinal."""
    found: dict[Version, Counter[int]] = {}
    for key in keys:
        found.setdefault((key.document_id, key.version), Counter())[key.ordinal] += 1
    return found


def compare(found: Counter[int], expected: int | None) -> dict[str, int]:
    """Return the numbers of missing, orphaned and duplicated chunks of a version; numbers of 0 are left out.

    `found` counts the stored chunks by ordinal. `expected` is the number of chunks in the ledger; None: the ledger does
    not know this version. Pure.
    """
    wanted = range(expected or 0)
    counts = {
        "missing": sum(1 for ordinal in wanted if ordinal not in found),
        "orphaned": sum(count for ordinal, count in found.items() if ordinal not in wanted),
        "duplicated": sum(count - 1 for ordinal, count in found.items() if ordinal in wanted and count > 1),
    }
    return {kind: count for kind, count in counts.items() if count}
