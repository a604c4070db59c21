"""A knowledge base outside any ledger, for tests that need only its settings."""

from __future__ import annotations

from datetime import UTC, datetime

from zhiwen.common.models import ChunkingSpec, Generation, IndexSpec, KnowledgeBase

BASE = KnowledgeBase(
    id="b",
    name="手册",
    description="",
    prompt_template=None,
    cross_language=None,
    live=Generation(1, "b", "kb_b_1", "model", 8, IndexSpec("IVF_FLAT", params={"nlist": 16}), ChunkingSpec()),
    building=None,
    rebuild_error=None,
    deleting=False,
    revision=0,
    created_at=datetime(2026, 1, 31, tzinfo=UTC),
    updated_at=datetime(2026, 1, 31, tzinfo=UTC),
)
