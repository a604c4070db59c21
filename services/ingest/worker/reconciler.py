"""The reconciler: it ends jobs whose workers died too often, wakes workers, and removes unreferenced originals.

It also begins to rebuild what a retired model has made.
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from zhiwen.common.errors import Unavailable
from zhiwen.common.ledger import Ledger
from zhiwen.ingest.worker.broker import Broker
from zhiwen.ingest.worker.pipeline import Pipeline
from zhiwen.ingest.worker.rebuilding import Rebuilder

log = structlog.get_logger(__name__)

FORGOTTEN_SECONDS = 3600.0
"""Each round checks the originals that were used in this time. A worker that starts checks all originals."""


@dataclass(frozen=True, slots=True)
class Reconciler:
    """Finds work that is stuck, in rounds. Every worker has a reconciler; they do not disturb each other.

    `lease_seconds` is how long a claim holds. Originals that were used within this time are left alone: an upload may
    be storing them.
    """

    ledger: Ledger
    pipeline: Pipeline
    broker: Broker
    lease_seconds: float

    def reconcile(self) -> None:
        """Do one round: end jobs whose workers died too often, wake a worker, and remove unreferenced originals.

        Rebuilds of retired models begin first, so that the same round can queue their documents.
        """
        self._replace_retired_models()
        self.ledger.rebuilds.reconcile()
        if given_up := self.ledger.endings.reconcile():
            log.warning("jobs_given_up", count=given_up)
        if self.ledger.jobs.any_due():
            self.broker.wake()
        self.remove_forgotten_originals(since=self.ledger.database.now() - FORGOTTEN_SECONDS)

    def _replace_retired_models(self) -> None:
        try:
            Rebuilder(self.ledger, self.pipeline.store, self.broker).replace_retired_models()
        except Unavailable as exc:
            log.warning("retired_models_not_replaced", code=exc.code)

    def remove_forgotten_originals(self, *, since: float) -> None:
        """Remove the originals that were last used after `since` (seconds since 1970) and that no version names.

        The process that stored or released them has died. If an upload stores one of them at this moment, both take the
        same lock, and the upload stores it again.
        """
        before = self.ledger.database.now() - self.lease_seconds
        try:
            self.pipeline.remove_originals(self.ledger.originals.unreferenced(since=since, before=before))
        except Unavailable as exc:
            log.warning("originals_not_removed", code=exc.code)
