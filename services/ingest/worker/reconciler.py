"""The reconciler: it ends jobs whose workers died too often, wakes workers, and removes originals that nobody names."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from zhiwen.common.errors import Unavailable
from zhiwen.common.ledger import Ledger
from zhiwen.ingest.worker.broker import Broker
from zhiwen.ingest.worker.pipeline import Pipeline

log = structlog.get_logger(__name__)

FORGOTTEN_SECONDS = 3600.0
"""Each round looks among the originals used in so many seconds; a worker that starts looks among all."""


@dataclass(frozen=True, slots=True)
class Reconciler:
    """Compares the ledger with what is being done, in rounds. Every worker runs one; they do not disturb each other.

    `lease_seconds` is how long a claim holds. Originals used more recently than that are left alone: an upload may be
    storing them.
    """

    ledger: Ledger
    pipeline: Pipeline
    broker: Broker
    lease_seconds: float

    def reconcile(self) -> None:
        """End what died too often, and wake a worker if a job is due."""
        self.ledger.rebuilds.reconcile()
        if given_up := self.ledger.endings.reconcile():
            log.warning("jobs_given_up", count=given_up)
        if self.ledger.jobs.any_due():
            self.broker.wake()
        self.remove_forgotten_originals(since=self.ledger.database.now() - FORGOTTEN_SECONDS)

    def remove_forgotten_originals(self, *, since: float) -> None:
        """Remove the originals last used since that time (seconds since 1970) that no version names.

        Whoever stored or released them died. An upload may store one of them just now: both take the same lock, and
        the upload stores it again.
        """
        before = self.ledger.database.now() - self.lease_seconds
        try:
            self.pipeline.remove_originals(self.ledger.originals.unreferenced(since=since, before=before))
        except Unavailable as exc:
            log.warning("originals_not_removed", code=exc.code)
