"""A knowledge base that is made anew under an old name starts with statistics of its own."""

from __future__ import annotations

from zhiwen.common.ledger import Ledger, NewGeneration, Upload, new_id
from zhiwen.common.lexical.statistics import TermStatistics
from zhiwen.common.models import ChunkingSpec, IndexSpec, KnowledgeBase
from zhiwen.query.search.statistics import CollectionStatistics


def base_with_one_document(ledger: Ledger, terms: list[int]) -> KnowledgeBase:
    id = new_id()
    generation = NewGeneration(f"kb_{id}_1", "model", 8, IndexSpec(), ChunkingSpec())
    base = ledger.bases.create(id=id, name="手册", description="", prompt_template=None, generation=generation)
    upload = Upload("a.txt", "0" * 64, 1, "text/plain", None)
    ledger.uploads.record(base.id, upload, on_duplicate="keep", keep_original=lambda: None)
    job = ledger.jobs.claim("worker", 30)
    assert job is not None
    ledger.endings.commit(job, base.live.id, 1, TermStatistics.of([terms]).to_bytes())
    return ledger.bases.get("手册")


def test_statistics_are_not_those_of_the_dropped_namesake(ledger: Ledger) -> None:
    statistics = CollectionStatistics(ledger)
    first = base_with_one_document(ledger, [1, 2])
    assert statistics.of(first).document_frequencies([1, 3]).tolist() == [1, 0]
    ledger.bases.begin_drop("手册")
    drop = ledger.jobs.claim("worker", 30)
    assert drop is not None
    ledger.endings.finish_drop(drop)
    second = base_with_one_document(ledger, [3])
    assert second.live.id != first.live.id
    assert statistics.of(second).document_frequencies([1, 3]).tolist() == [0, 1]
