"""A base that an earlier release has indexed answers by its words at once, and with the present model soon."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from tests.servers.in_process_stack import InProcessStack, in_process_stack, problem_of
from zhiwen.common.embedding.registry import embedders_from
from zhiwen.common.ledger.schema import generations
from zhiwen.common.settings import BUILT_IN_MODEL, RETIRED_MODELS, EmbeddingSettings
from zhiwen.ingest.worker.reconciler import Reconciler

SECONDS = 60.0
(RETIRED,) = RETIRED_MODELS


@pytest.fixture(scope="module")
def stack(milvus_url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcessStack]:
    with in_process_stack(
        tmp_path_factory.mktemp("retired"),
        milvus_url=milvus_url,
        redis_url=redis_url,
        embedders=lambda: embedders_from(EmbeddingSettings()),
    ) as running:
        yield running


def indexed_by_an_earlier_release(stack: InProcessStack, **files: str) -> str:
    """Return a knowledge base whose index says that the retired model has made it."""
    kb = stack.base(embedding_model=BUILT_IN_MODEL)
    for name, text in files.items():
        stack.add(kb, f"{name}.txt", text)
    live = stack.ledger.bases.get(kb).live
    with stack.ledger.database.write() as c:
        c.execute(generations.update().where(generations.c.id == live.id).values(embedding_model=RETIRED))
    return kb


def test_base_of_a_retired_model_is_rebuilt_and_answers_before_and_after(stack: InProcessStack) -> None:
    kb = indexed_by_an_earlier_release(stack, leave="员工年假为十天。", laptop="笔记本电脑丢失后应当立即报告。")
    old = stack.ledger.bases.get(kb).live
    reconciler = Reconciler(stack.ledger, stack.worker.pipeline, stack.worker.broker, 30.0)

    def search(mode: str) -> dict[str, object]:
        response = stack.query.post(f"/v1/knowledge-bases/{kb}/search", json={"query": "年假几天？", "mode": mode})
        assert response.status_code == 200, response.text
        found: dict[str, object] = response.json()
        return found

    assert search("hybrid")["mode"] == "full_text"
    dense = stack.query.post(f"/v1/knowledge-bases/{kb}/search", json={"query": "年假几天？", "mode": "dense"})
    problem_of(dense, 409, "retired-embedding-model")
    stack.add(kb, "new.txt", "出差住宿每晚最多报销五百元。")
    assert stack.search(kb, "出差住宿报销多少？")[0]["source"] == "new.txt"
    for _ in range(3):
        reconciler.reconcile()
    deadline = time.monotonic() + SECONDS
    while (base := stack.ledger.bases.get(kb)).live.id == old.id:
        assert base.rebuild_error is None
        assert time.monotonic() < deadline, base
        time.sleep(0.1)
    assert (base.live.embedding_model, base.building) == (BUILT_IN_MODEL, None)
    assert len(stack.ledger.samples.of(base.live.id)) == 3
    for mode in ("hybrid", "dense", "full_text"):
        found = search(mode)
        assert found["mode"] == mode
        assert stack.search(kb, "年假几天？", mode=mode)[0]["source"] == "leave.txt"
    reconciler.reconcile()
    with stack.ledger.database.read() as c:
        of_base = sa.select(sa.func.count()).select_from(generations).where(generations.c.knowledge_base_id == base.id)
        assert c.scalar(of_base) in {1, 2}, "the old one is removed a little later, and no third one was begun"
