"""The alias with a knowledge base's name: made with it, moved by a rebuild, gone with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from tests.contract.conftest import DIMENSION, Spares
from tests.servers.ledgers import Clock
from zhiwen.common.api.knowledge_bases import CreateKnowledgeBase
from zhiwen.common.ledger import Ledger, NewGeneration
from zhiwen.common.models import ChunkingSpec, JobKind
from zhiwen.common.store import ChunkStore, alias_of
from zhiwen.ingest.knowledge_bases import KnowledgeBaseManager
from zhiwen.ingest.settings import IngestSettings
from zhiwen.ingest.worker.leases import Lease
from zhiwen.ingest.worker.pipeline import Pipeline

NAME = "员工手册"
UNUSED = cast(Any, None)


def test_alias_follows_the_knowledge_base(
    store: ChunkStore, spares: Spares, own_ledger: Ledger, clock: Clock, tmp_path: Path
) -> None:
    expected = [alias_of(NAME)] * store.capabilities().aliases
    manager = KnowledgeBaseManager(own_ledger, store, UNUSED, IngestSettings(data_dir=tmp_path))
    base = manager.create(CreateKnowledgeBase(name=NAME))
    assert store.aliases(base.live.collection) == expected
    old, new = base.live, spares.take()
    another = NewGeneration(new.collection, old.embedding_model, DIMENSION, new.index, ChunkingSpec())
    base = own_ledger.rebuilds.begin(base, another)
    assert base.live.collection == new.collection  # there is nothing to index

    def run(kind: JobKind) -> None:
        clock.pass_by(60)
        job = own_ledger.jobs.claim("worker", 60)
        assert job is not None
        assert job.kind is kind
        Pipeline(own_ledger, store, UNUSED, UNUSED, UNUSED).run(job, cast(Lease, None))

    run(JobKind.RETIRE)
    assert store.aliases(new.collection) == expected
    assert old.collection not in store.collections()
    own_ledger.bases.begin_drop(NAME)
    run(JobKind.DROP)
    assert new.collection not in store.collections()
