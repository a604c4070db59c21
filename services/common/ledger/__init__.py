"""The ledger: the truth about knowledge bases, documents, versions, jobs, keys and usage (design section 1).

All methods are blocking and short; from async code call them in a thread. SQLAlchemy appears only in this package.
"""

from __future__ import annotations

from dataclasses import dataclass

from zhiwen.common.ledger.bases import KnowledgeBases, NewGeneration
from zhiwen.common.ledger.claiming import MAX_ATTEMPTS
from zhiwen.common.ledger.database import Database, new_id
from zhiwen.common.ledger.documents import Documents
from zhiwen.common.ledger.fencing import LeaseLost
from zhiwen.common.ledger.jobs import Jobs, Reconciled
from zhiwen.common.ledger.keys import ApiKey, ApiKeys, Scope
from zhiwen.common.ledger.rebuilds import Rebuilds
from zhiwen.common.ledger.uploads import OnDuplicate, Outcome, Recorded, Upload
from zhiwen.common.ledger.usage import Usage

__all__ = [
    "MAX_ATTEMPTS",
    "ApiKey",
    "ApiKeys",
    "Database",
    "Documents",
    "Jobs",
    "KnowledgeBases",
    "LeaseLost",
    "Ledger",
    "NewGeneration",
    "OnDuplicate",
    "Outcome",
    "Rebuilds",
    "Reconciled",
    "Recorded",
    "Scope",
    "Upload",
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
    jobs: Jobs
    rebuilds: Rebuilds
    keys: ApiKeys
    usage: Usage

    def ping(self) -> None:
        """Raise `Unavailable` unless the ledger answers."""
        self.database.ping()

    def close(self) -> None:
        self.database.close()


def open_ledger(url: str) -> Ledger:
    """Connect to the ledger at a SQLAlchemy URL. Creates nothing; `ledger.database.migrate()` does."""
    database = Database(url)
    return Ledger(
        database,
        KnowledgeBases(database),
        Documents(database),
        Jobs(database),
        Rebuilds(database),
        ApiKeys(database),
        Usage(database),
    )
