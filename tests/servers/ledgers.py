"""Ledgers for tests: on either database, with a clock that only tests move."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from typing import Any

from zhiwen.common.ledger import Ledger, NewGeneration, OnDuplicate, Recorded, Upload, open_ledger
from zhiwen.common.ledger.schema import metadata
from zhiwen.common.models import ChunkingSpec, Document, IndexSpec, Job, KnowledgeBase

LEASE = 30.0


@dataclass
class Clock:
    """Seconds since 1970 that stand still until a test moves them."""

    now: float = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += seconds


def ledger_on(url: str, clock: Clock | None = None) -> Ledger:
    """Open a ledger, with the test's clock if one is given."""
    return open_ledger(url) if clock is None else open_ledger(url, clock=clock)


def empty_ledger(ledger: Ledger) -> None:
    """Remove every row of a ledger."""
    with ledger.database.write() as connection:
        for table in reversed(metadata.sorted_tables):
            connection.execute(table.delete())


def unique(name: str) -> str:
    """Return a name that no other test uses."""
    return f"{name}-{uuid.uuid4().hex[:8]}"


def new_base(ledger: Ledger, name: str = "员工手册", **changes: Any) -> KnowledgeBase:
    """Create a knowledge base in the ledger alone: its collection is only a name."""
    id = uuid.uuid4().hex
    generation = NewGeneration(f"kb_{id}_1", "hash-64", 64, IndexSpec(), ChunkingSpec())
    values = {"description": "", "prompt_template": None, "generation": generation, **changes}
    return ledger.bases.create(id=id, name=name, **values)


def an_upload(name: str = "手册.txt", content: bytes = b"text", metadata: dict[str, Any] | None = None) -> Upload:
    """Return an upload of some bytes."""
    return Upload(name, hashlib.sha256(content).hexdigest(), len(content), "text/plain", metadata)


def record(ledger: Ledger, base: KnowledgeBase, upload: Upload, on_duplicate: OnDuplicate = "keep") -> Recorded:
    """Record an upload whose bytes need no keeping."""
    return ledger.uploads.record(base.id, upload, on_duplicate=on_duplicate, keep_original=lambda: None)


def add(ledger: Ledger, base: KnowledgeBase, name: str = "手册.txt", content: bytes = b"text") -> Document:
    """Record an upload and return its document."""
    return record(ledger, base, an_upload(name, content)).document


def claim(ledger: Ledger, owner: str = "worker") -> Job:
    """Claim the next job; there must be one."""
    job = ledger.jobs.claim(owner, LEASE)
    assert job is not None
    return job


def kinds_of_jobs(ledger: Ledger) -> list[str]:
    """Claim everything that is due and return the kinds in order."""
    kinds = []
    while job := ledger.jobs.claim("reader", LEASE):
        kinds.append(str(job.kind))
    return kinds


def index(ledger: Ledger, base: KnowledgeBase, chunks: int = 3) -> Job:
    """Claim the next job, which must be an ingest, and end it well."""
    job = claim(ledger)
    assert job.kind == "ingest"
    ledger.endings.commit(job, base.live.id, chunks)
    return job


def add_ready(ledger: Ledger, base: KnowledgeBase, name: str = "手册.txt", content: bytes = b"text") -> Document:
    """Record an upload and index it."""
    document = add(ledger, base, name, content)
    index(ledger, base)
    return ledger.documents.get(base.id, document.id)
