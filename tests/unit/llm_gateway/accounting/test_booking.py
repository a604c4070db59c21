"""What is booked when a request ends: limit, tokens and conversation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zhiwen.common.errors import TooMany
from zhiwen.common.models import UsageRow
from zhiwen.llm_gateway.accounting.booking import Books
from zhiwen.llm_gateway.accounting.conversation_log import ConversationLog
from zhiwen.llm_gateway.accounting.limits import LocalLimiter
from zhiwen.llm_gateway.accounting.usage import TokenUsage, UsageTotals
from zhiwen.llm_gateway.config import KeyLimits
from zhiwen.llm_gateway.request import Endpoint, read_request

REQUEST = read_request(Endpoint.CHAT, b'{"messages":[{"role":"user","content":"x"}],"max_tokens":50}')
EMBEDDING = read_request(Endpoint.EMBEDDINGS, b'{"input":"x"}')
PAYLOAD = {
    "choices": [{"message": {"content": "年假"}}, {"message": {"content": "十天"}}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2},
}


class Kept:
    """Books whose rows and lines a test can read after `close`."""

    def __init__(self, folder: Path) -> None:
        self.rows: list[UsageRow] = []
        self.folder = folder
        self.conversations = ConversationLog(folder, 60.0)
        self.books = Books(LocalLimiter(lambda: 1000.0), UsageTotals(self.rows.extend), self.conversations)

    def close(self) -> None:
        self.books.usage.flush()
        self.conversations.close()

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for file in self.folder.iterdir() for line in file.read_text().splitlines()]


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    kept = Kept(tmp_path)
    yield kept
    kept.close()


async def test_a_whole_answer_is_booked_with_its_usage_and_text(kept: Kept) -> None:
    booking = await kept.books.open(REQUEST, key="team-a", model="qwen", limits=None)
    booking.note_answer(PAYLOAD)
    booking.ending = "complete"
    booking.close(answered=True, seconds=0.25)
    kept.close()
    [row] = kept.rows
    assert (row.key, row.model, row.requests, row.prompt_tokens, row.completion_tokens) == ("team-a", "qwen", 1, 3, 2)
    [line] = kept.lines()
    assert (line["answer"], line["status"], line["ms"], line["key"]) == ("年假十天", "complete", 250, "team-a")
    assert line["messages"] == [{"role": "user", "content": "x"}]


async def test_a_request_without_an_answer_is_logged_and_costs_nothing(kept: Kept) -> None:
    limits = KeyLimits(name="*", tokens_per_minute=60)
    for _ in range(3):
        booking = await kept.books.open(REQUEST, key="a", model="qwen", limits=limits)
        booking.close(answered=False, seconds=0.0)
    kept.close()
    assert kept.rows == []
    assert [line["status"] for line in kept.lines()] == ["failed"] * 3


async def test_an_answer_without_usage_keeps_its_reserved_tokens(kept: Kept) -> None:
    limits = KeyLimits(name="*", tokens_per_minute=100)
    booking = await kept.books.open(REQUEST, key="a", model="qwen", limits=limits)
    booking.close(answered=True, seconds=0.0)
    with pytest.raises(TooMany):
        await kept.books.open(REQUEST, key="a", model="qwen", limits=limits)


async def test_reported_usage_replaces_the_reserved_tokens(kept: Kept) -> None:
    limits = KeyLimits(name="*", tokens_per_minute=100)
    for _ in range(3):
        booking = await kept.books.open(REQUEST, key="a", model="qwen", limits=limits)
        booking.usage = TokenUsage(3, 2, True)
        booking.close(answered=True, seconds=0.0)


async def test_only_written_text_is_logged(kept: Kept) -> None:
    booking = await kept.books.open(EMBEDDING, key="a", model="bge", limits=KeyLimits(name="*"))
    assert booking.texts is None
    booking.close(answered=True, seconds=0.0)
    kept.close()
    assert kept.lines() == []


async def test_without_a_log_no_text_is_collected() -> None:
    books = Books(LocalLimiter(), UsageTotals(None), None)
    booking = await books.open(REQUEST, key="a", model="qwen", limits=None)
    booking.note_answer(PAYLOAD)
    booking.close(answered=True, seconds=0.0)
    assert booking.texts is None
    assert booking.usage == TokenUsage(3, 2, True)
