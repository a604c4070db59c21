"""The ledger: the source of truth about knowledge bases, documents, versions, originals, jobs, keys and usage.

Its methods block for a short time; asynchronous code calls them in a thread. SQLAlchemy appears only in this package. A
queued job carries the id of the current request (`zhiwen.common.telemetry.current_request_id`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from zhiwen.common.ledger.bases import KnowledgeBases, NewGeneration
from zhiwen.common.ledger.database import Database, new_id
from zhiwen.common.ledger.documents import Documents
from zhiwen.common.ledger.endings import Endings
from zhiwen.common.ledger.jobs import Jobs, LeaseLost
from zhiwen.common.ledger.keys import ApiKey, ApiKeys
from zhiwen.common.ledger.originals import OriginalReferences
from zhiwen.common.ledger.rebuilds import Rebuilds
from zhiwen.common.ledger.retry import RETRY_POLICY, Retry, RetryPolicy
from zhiwen.common.ledger.samples import Samples
from zhiwen.common.ledger.uploads import OnDuplicate, Outcome, Recorded, Upload, Uploads
from zhiwen.common.ledger.usage import Usage

__all__ = [
    "RETRY_POLICY",
    "ApiKey",
    "ApiKeys",
    "Database",
    "Documents",
    "Endings",
    "Jobs",
    "KnowledgeBases",
    "LeaseLost",
    "Ledger",
    "NewGeneration",
    "OnDuplicate",
    "OriginalReferences",
    "Outcome",
    "Rebuilds",
    "Recorded",
    "Retry",
    "RetryPolicy",
    "Samples",
    "Upload",
    "Uploads",
    "Usage",
    "new_id",
    "open_ledger",
]


@dataclass(frozen=True, slots=True)
class Ledger:
    """The parts of the ledger, on one database."""

    database: Database
    bases: KnowledgeBases
    documents: Documents
    uploads: Uploads
    originals: OriginalReferences
    jobs: Jobs
    endings: Endings
    rebuilds: Rebuilds
    samples: Samples
    keys: ApiKeys
    usage: Usage

    def ping(self) -> None:
        """Raise `Unavailable` unless the ledger answers."""
        self.database.ping()

    def close(self) -> None:
        """Close the connections to the database."""
        self.database.close()


def open_ledger(url: str, *, clock: Callable[[], float] = time.time) -> Ledger:
    """Open the ledger at a SQLAlchemy URL; `clock` returns the time in seconds since 1970.

    It creates no tables: `ledger.database.migrate()` does that.
    """
    database = Database(url, clock=clock)
    return Ledger(
        database=database,
        bases=KnowledgeBases(database),
        documents=Documents(database),
        uploads=Uploads(database),
        originals=OriginalReferences(database),
        jobs=Jobs(database),
        endings=Endings(database),
        rebuilds=Rebuilds(database),
        samples=Samples(database),
        keys=ApiKeys(database),
        usage=Usage(database),
    )
