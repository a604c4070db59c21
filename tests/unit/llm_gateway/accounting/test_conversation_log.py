"""Conversations as JSON Lines on a disk that may be full or may not answer."""

from __future__ import annotations

import json
import threading
from pathlib import Path

from zhiwen.llm_gateway.accounting.conversation_log import QUEUE, ConversationLog
from zhiwen.llm_gateway.metrics import CONVERSATIONS_DROPPED


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_conversations_are_written_one_per_line_and_files_rotate(tmp_path: Path) -> None:
    clock = Clock()
    conversations = ConversationLog(tmp_path / "log", 60.0, clock=clock)
    conversations.put({"answer": "年假"})
    conversations.close()
    clock.now += 100
    later = ConversationLog(tmp_path / "log", 60.0, clock=clock)
    for number in range(300):
        later.put({"n": number})
    later.close()
    first, second = sorted((tmp_path / "log").iterdir())
    assert json.loads(first.read_text()) == {"answer": "年假"}
    assert [json.loads(line)["n"] for line in second.read_text().splitlines()] == list(range(300))


def dropped() -> float:
    [metric] = CONVERSATIONS_DROPPED.collect()
    return metric.samples[0].value


def test_a_conversation_that_cannot_be_written_is_counted_and_the_others_are_kept(tmp_path: Path) -> None:
    before = dropped()
    conversations = ConversationLog(tmp_path, 60.0)
    for content in ("first", json.loads("[" * 300 + "]" * 300), "last"):
        conversations.put({"answer": content})
    conversations.close()
    [file] = tmp_path.iterdir()
    assert [json.loads(line)["answer"] for line in file.read_text().splitlines()] == ["first", "last"]
    assert dropped() == before + 1


def test_a_disk_that_does_not_answer_does_not_hold_up_the_end(tmp_path: Path) -> None:
    stuck, answers = threading.Event(), threading.Event()

    def clock() -> float:
        stuck.set()
        answers.wait(20)
        return 0.0

    conversations = ConversationLog(tmp_path, 60.0, clock=clock)
    conversations.put({"answer": "年假"})
    assert stuck.wait(20)
    for number in range(QUEUE + 1):
        conversations.put({"n": number})
    conversations.close(0.05)
    answers.set()
