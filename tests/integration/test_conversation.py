"""Follow-up questions: the model condenses them for the search; without a model the rules do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.servers.in_process_stack import InProcessStack
from tests.servers.processes import FakeOpenAI
from tests.servers.stores import wait_until
from zhiwen.common.api.questions import Message
from zhiwen.common.prompts import (
    CHINESE_TEMPLATE,
    CONDENSE_CHINESE,
    CONDENSE_ENGLISH,
    EXTRACTIVE_MODEL,
    fill_condensing,
)
from zhiwen.query.answer.condensing import Condenser
from zhiwen.query.answer.generation import Generator

pytestmark = pytest.mark.usefixtures("model")
HANDBOOK = "# 手册\n\n## 年假\n\n员工每年有十天带薪年假。\n\n## 病假\n\n员工每年有五天带薪病假,需要医院证明。\n"
HISTORY = [
    {"role": "user", "content": "每年有几天带薪年假?"},
    {"role": "assistant", "content": "每年有十天带薪年假。[1]"},
]
FOLLOW_UP = "那病假呢?"
WHOLE = "员工每年有几天带薪病假?"


@pytest.fixture(scope="module")
def kb(stack_with_model: InProcessStack) -> str:
    name = stack_with_model.base()
    stack_with_model.add(name, "手册.md", HANDBOOK)
    return name


def says(text: str, **more: Any) -> dict[str, Any]:
    return {"behaviour": "answer", "text": text, **more}


def test_follow_up_is_condensed_for_the_search_and_asked_as_it_is(
    stack_with_model: InProcessStack, kb: str, model: FakeOpenAI
) -> None:
    model.script(says(f"完整问题:{WHOLE}"), says("五天。[1]"))
    answer = stack_with_model.ask(kb, FOLLOW_UP, history=HISTORY, temperature=0.7).json()
    condensing, answering = (request.json() for request in model.requests())
    lines = "用户: 每年有几天带薪年假?\n助手: 每年有十天带薪年假。[1]"
    content = fill_condensing(CONDENSE_CHINESE, history=lines, question=FOLLOW_UP)
    assert condensing["messages"] == [{"role": "user", "content": content}]
    assert (condensing["temperature"], condensing["max_tokens"]) == (0.0, 256)
    assert not condensing.get("stream")
    *turns, prompt = answering["messages"]
    assert turns == HISTORY
    assert prompt["content"].endswith(f"问题是:{FOLLOW_UP}")
    assert prompt["content"].splitlines()[1].startswith(CHINESE_TEMPLATE[:5])
    assert answering["temperature"] == 0.7
    assert (answer["condensed_question"], answer["answer"]) == (WHOLE, "五天。[1]")
    assert "五天带薪病假" in answer["sources"][0]["text"]
    assert answer["took_ms"]["condense"] > 0


def test_what_is_deleted_while_the_question_is_condensed_does_not_answer(
    stack_with_model: InProcessStack, model: FakeOpenAI
) -> None:
    kb = stack_with_model.base()
    kept = stack_with_model.add(kb, "手册.md", HANDBOOK)
    gone = stack_with_model.add(kb, "旧手册.md", HANDBOOK.replace("五天", "九天"))
    stack_with_model.search(kb, WHOLE)  # what is live is in memory
    model.script(says(f"完整问题:{WHOLE}", behaviour="slow"), says("五天。[1]"))
    with stack_with_model.resting(), ThreadPoolExecutor(1) as pool:  # so that its chunks are still there
        asked = pool.submit(stack_with_model.ask, kb, FOLLOW_UP, history=HISTORY)
        wait_until(lambda: bool(model.requests()), 5, "the question is not condensed")
        deleted = stack_with_model.ingest.delete(f"/v1/knowledge-bases/{kb}/documents/{gone['id']}")
        assert deleted.status_code == 202
        answer = asked.result().json()
    assert {source["document_id"] for source in answer["sources"]} == {kept["id"]}


def test_tokens_of_both_calls_are_counted(stack_with_model: InProcessStack, kb: str, model: FakeOpenAI) -> None:
    def usage(count: int) -> dict[str, int]:
        return {"prompt_tokens": count, "completion_tokens": 1, "total_tokens": count + 1}

    model.script(says(WHOLE, usage=usage(40)), says("五天。", usage=usage(200)))
    answer = stack_with_model.ask(kb, FOLLOW_UP, history=HISTORY).json()
    assert answer["usage"] == {"prompt_tokens": 240, "completion_tokens": 2, "total_tokens": 242}


def test_streamed_answer_ends_with_the_condensed_question(
    stack_with_model: InProcessStack, kb: str, model: FakeOpenAI
) -> None:
    model.script(says(WHOLE), says("五天。"))
    events = stack_with_model.ask_streamed(kb, FOLLOW_UP, history=HISTORY)
    assert [event.name for event in events][0 :: len(events) - 1] == ["sources", "done"]
    assert events[-1].data["condensed_question"] == WHOLE


def test_question_without_history_is_searched_as_it_is(
    stack_with_model: InProcessStack, kb: str, model: FakeOpenAI
) -> None:
    model.script(says("五天。"))
    answer = stack_with_model.ask(kb, WHOLE).json()
    assert len(model.requests()) == 1
    assert answer["condensed_question"] is None
    assert answer["took_ms"]["condense"] == 0


@pytest.mark.parametrize(
    "step",
    [
        {"behaviour": "status", "status": 500, "body": {"error": {"message": "broken"}}},
        "reset",
        says("   "),
        says("长" * 5000),
    ],
    ids=["error", "lost", "empty", "too long"],
)
def test_failing_condensation_falls_back_to_the_question(
    stack_with_model: InProcessStack, kb: str, model: FakeOpenAI, step: Any
) -> None:
    model.script(step, says("五天。"))
    answer = stack_with_model.ask(kb, "员工每年有几天带薪病假呢?", history=HISTORY).json()
    assert answer["condensed_question"] == "员工每年有几天带薪病假呢?"
    assert (answer["refused"], answer["answer"]) == (False, "五天。")


# The condenser alone


@pytest.fixture
async def generator(model_server: FakeOpenAI) -> AsyncIterator[Generator]:
    generator = Generator(model_server.base_url.removesuffix("/v1"), api_key="", timeout=10)
    yield generator
    await generator.close()


TURNS = [Message(role="user", content="How many days of annual leave?"), Message(role="assistant", content="Ten.")]


async def test_english_follow_up_gets_the_english_template(generator: Generator, model: FakeOpenAI) -> None:
    model.script(says("How many days of sick leave are there?"))
    condensed = await Condenser(generator, 4000).condense("And sick leave?", TURNS, "m")
    assert condensed.question == "How many days of sick leave are there?"
    (request,) = model.requests()
    lines = "User: How many days of annual leave?\nAssistant: Ten."
    content = fill_condensing(CONDENSE_ENGLISH, history=lines, question="And sick leave?")
    assert request.json()["messages"][0]["content"] == content
    assert request.json()["model"] == "m"


async def test_extractive_answerer_is_not_asked(generator: Generator, model: FakeOpenAI) -> None:
    condensed = await Condenser(generator, 4000).condense("And sick leave?", TURNS, EXTRACTIVE_MODEL)
    assert (condensed.question, condensed.completion) == ("How many days of sick leave?", None)
    assert model.requests() == []


async def test_default_that_turns_out_extractive_is_remembered_for_a_while(
    generator: Generator, model: FakeOpenAI
) -> None:
    now = 0.0
    quoted = {"role": "assistant", "content": "User: How many days"}
    reply = {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": EXTRACTIVE_MODEL,
        "choices": [{"index": 0, "message": quoted, "finish_reason": "stop"}],
    }
    model.script({"behaviour": "json-instead", "body": reply})
    condenser = Condenser(generator, 4000, clock=lambda: now)
    for _ in range(3):
        condensed = await condenser.condense("And sick leave?", TURNS, "")
        assert (condensed.question, condensed.by) == ("How many days of sick leave?", "rule")
    assert len(model.requests()) == 1
    now = 61.0
    await condenser.condense("And sick leave?", TURNS, "")
    assert len(model.requests()) == 2
