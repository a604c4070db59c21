"""Adding files on the command line: which files are meant, how far they are, and how many had which outcome."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from zhiwen.cli.values import Usage
from zhiwen.client import AddedDocument, DocumentEvent, DocumentOut
from zhiwen.client.files import Source, sources

STAGES = ("parsing", "embedding", "indexing")
_RANK = {"queued": 0, "parsing": 1, "embedding": 2, "indexing": 3}
BAD = frozenset({"failed", "rejected", "cancelled"})


def collect(paths: Sequence[Path]) -> list[Source]:
    """Return the files to upload. A folder means all files below it but the hidden ones.

    Raises `Usage` when a path does not exist or two files would have the same name.
    """
    try:
        return sources(paths)
    except ValueError as exc:
        raise Usage(str(exc)) from exc


class Stages:
    """Counts how many followed documents have passed each stage. One within a stage counts as a fraction."""

    def __init__(self) -> None:
        self.passed = dict.fromkeys(STAGES, 0.0)
        self._of: dict[str, tuple[float, ...]] = {}

    def note(self, event: DocumentEvent) -> None:
        """Record the new state of a document."""
        before = self._of.get(event.id, (0.0,) * len(STAGES))
        self._of[event.id] = now = _passed(event)
        for stage, old, new in zip(STAGES, before, now, strict=True):
            self.passed[stage] += new - old


def _passed(event: DocumentEvent) -> tuple[float, ...]:
    rank = _RANK.get(event.status, len(STAGES) + 1)
    part = _part(event.document)
    return tuple(1.0 if rank > place else part if rank == place else 0.0 for place in range(1, len(STAGES) + 1))


def _part(document: DocumentOut | None) -> float:
    if document is None or not document.progress.total or document.progress.stage != document.status:
        return 0.0
    return min(document.progress.done / document.progress.total, 1.0)


def counts(results: Iterable[AddedDocument]) -> dict[str, int]:
    """Return how many documents had each outcome, in a fixed order, also for outcomes with none."""
    numbers = dict.fromkeys(("created", "replaced", "unchanged", "duplicate", "failed", "rejected"), 0)
    for result in results:
        numbers[result.outcome] = numbers.get(result.outcome, 0) + 1
    return numbers
