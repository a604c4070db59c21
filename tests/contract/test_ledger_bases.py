"""What the ledger promises about knowledge bases, on SQLite and on PostgreSQL."""

from __future__ import annotations

import pytest
from structlog.contextvars import bound_contextvars

from tests.servers.ledgers import Clock, claim, new_base
from zhiwen.common.errors import Conflict, NotFound
from zhiwen.common.ledger import Ledger
from zhiwen.common.models import JobKind, KnowledgeBase


@pytest.fixture
def base(ledger: Ledger) -> KnowledgeBase:
    return new_base(ledger)


def test_base_comes_back_as_it_was_created(ledger: Ledger, clock: Clock) -> None:
    created = new_base(ledger, "产品 手册（2026）", description="说明", prompt_template="{context}{question}")
    found = ledger.bases.get("产品 手册（2026）")
    assert found == created
    assert (found.description, found.prompt_template) == ("说明", "{context}{question}")
    assert found.live.dimension == 64
    assert found.building is None
    assert found.created_at.timestamp() == clock.now


def test_second_base_of_one_name_is_a_conflict_and_changes_nothing(ledger: Ledger, base: KnowledgeBase) -> None:
    with pytest.raises(Conflict, match="knowledge-base-exists"):
        new_base(ledger, base.name, description="another")
    assert ledger.bases.get(base.name) == base
    assert len(ledger.bases.list()) == 1


def test_unknown_base_is_not_found(ledger: Ledger) -> None:
    with pytest.raises(NotFound, match="knowledge-base-not-found"):
        ledger.bases.get("没有")


def test_pages_of_bases_hold_each_base_once(ledger: Ledger) -> None:
    names = {new_base(ledger, name).name for name in ("丙", "甲", "a", "B", "乙", "Ω")}
    seen: list[str] = []
    while page := ledger.bases.list(after=seen[-1] if seen else "", limit=2):
        seen += [base.name for base in page]
    assert set(seen) == names
    assert len(seen) == len(names)


def test_update_changes_what_is_named_and_nothing_else(ledger: Ledger, base: KnowledgeBase, clock: Clock) -> None:
    clock.pass_by(5)
    changed = ledger.bases.update(base.name, {"description": "新"})
    assert (changed.description, changed.prompt_template) == ("新", base.prompt_template)
    assert changed.updated_at > base.updated_at


def test_dropped_base_is_gone_at_once_and_its_name_is_free(ledger: Ledger, base: KnowledgeBase) -> None:
    with bound_contextvars(request_id="r1"):
        ledger.bases.begin_drop(base.name)
    with pytest.raises(NotFound):
        ledger.bases.get(base.name)
    assert ledger.bases.list() == []
    again = new_base(ledger, base.name)
    assert again.id != base.id
    job = claim(ledger)
    assert (job.kind, job.knowledge_base_id, job.request_id) == (JobKind.DROP, base.id, "r1")


def test_dropping_twice_is_not_found(ledger: Ledger, base: KnowledgeBase) -> None:
    ledger.bases.begin_drop(base.name)
    with pytest.raises(NotFound):
        ledger.bases.begin_drop(base.name)
