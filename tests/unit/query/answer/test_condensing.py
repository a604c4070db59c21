"""Which part of a conversation a model sees, how the question is read from its reply, and who rewrites it."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass, field, replace
from typing import cast

import pytest

from zhiwen.common.api.questions import Message
from zhiwen.common.errors import ServiceError
from zhiwen.common.prompts import CONDENSE_CHINESE, CONDENSE_ENGLISH, EXTRACTIVE_MODEL, fill_condensing
from zhiwen.query.answer import condensing
from zhiwen.query.answer.condensing import LAST_TURNS, TURN_CHARACTERS, Condensed, Condenser, question_in, transcript
from zhiwen.query.answer.generation import ChatRequest, Completion, Generator
from zhiwen.query.answer.rewriting import fault_of


@pytest.mark.parametrize(
    ("reply", "question"),
    [
        ("病假有几天?", "病假有几天?"),
        ("  “病假有几天?”\n", "病假有几天?"),
        ("完整问题:病假有几天?", "病假有几天?"),
        ("**Standalone question:** How many days of sick leave are there?", "How many days of sick leave are there?"),
        ("<think>用户问的是\n病假。</think>\n\n病假有几天?", "病假有几天?"),
        ("病假有几天?\n\n说明:补全了指代。", "病假有几天?"),
        ("完整问题:\n病假有几天?", "病假有几天?"),
        ("", ""),
        ("<think>嗯</think>", ""),
        ("“”\n", ""),
    ],
)
def test_question_is_taken_out_of_the_reply(reply: str, question: str) -> None:
    assert question_in(reply) == question


def test_thinking_without_an_end_takes_linear_time() -> None:
    started = time.perf_counter()
    assert question_in("<think>a</think>" + "<think>" * 50_000).startswith("<think>")
    assert time.perf_counter() - started < 5.0


def test_last_turns_are_shown_without_the_system_prompt() -> None:
    turns = [Message(role="system", content="secret")]
    turns += [Message(role=("user", "assistant")[n % 2], content=f" turn {n} ") for n in range(9)]
    lines = transcript(turns, CONDENSE_ENGLISH).splitlines()
    assert lines == [f"{('User', 'Assistant')[n % 2]}: turn {n}" for n in range(9 - LAST_TURNS, 9)]


def test_long_turns_are_cut() -> None:
    shown = transcript([Message(role="assistant", content="长" * 5000)], CONDENSE_CHINESE)
    assert shown == "助手: " + "长" * TURN_CHARACTERS


def test_words_of_the_template_in_a_conversation_are_text() -> None:
    filled = fill_condensing("{history}|{question}", history="{question} {x}", question="{history}")
    assert filled == "{question} {x}|{history}"


# Who rewrites the question

HISTORY = [Message(role="user", content="工作满一年有几天年假？"), Message(role="assistant", content="五天。[1]")]
FOLLOW_UP = "那工作满二十年呢？"
BY_RULE = Condensed("工作满二十年有几天年假？", by="rule")


@dataclass
class FakeGenerator:
    """Replies with a text, or fails."""

    reply: str | Exception
    model: str = "a-model"
    asked: list[ChatRequest] = field(default_factory=list)

    async def complete(self, request: ChatRequest) -> Completion:
        self.asked.append(request)
        if isinstance(self.reply, Exception):
            raise self.reply
        return Completion(self.reply, self.model)


async def condensed(generator: FakeGenerator, question: str = FOLLOW_UP, model: str = "") -> Condensed:
    return await Condenser(cast(Generator, generator), 100).condense(question, HISTORY, model)


async def test_model_rewrites_the_question() -> None:
    found = await condensed(FakeGenerator("工作满二十年的员工有几天年假？"))
    assert (found.question, found.by) == ("工作满二十年的员工有几天年假？", "model")
    assert found.completion is not None


@pytest.mark.parametrize(
    "generator",
    [
        FakeGenerator(ServiceError("model-unavailable", "No model.", status=503)),
        FakeGenerator(TimeoutError()),
        FakeGenerator("工作满一年", EXTRACTIVE_MODEL),
        FakeGenerator(""),
        FakeGenerator("年假" * 51),
        FakeGenerator("工作满二十年有几天年假？[1]"),
        FakeGenerator("工作满二十年有十五天年假。"),
        FakeGenerator("How is the weather?"),
    ],
    ids=["failed", "timeout", "extractive", "empty", "too long", "cites", "answers", "unrelated"],
)
async def test_rule_rewrites_the_question_where_the_model_does_not(generator: FakeGenerator) -> None:
    assert await condensed(generator) == replace(BY_RULE, for_built_in=generator.model == EXTRACTIVE_MODEL)
    assert len(generator.asked) == 1


async def test_slow_model_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(FakeGenerator):
        async def complete(self, request: ChatRequest) -> Completion:
            await asyncio.sleep(60)
            return await super().complete(request)

    monkeypatch.setattr(condensing, "PATIENCE_SECONDS", 0.01)
    assert await condensed(Slow("工作满二十年有几天年假？")) == BY_RULE


async def test_built_in_answerer_is_not_asked() -> None:
    generator = FakeGenerator("")
    assert await condensed(generator, model=EXTRACTIVE_MODEL) == replace(BY_RULE, for_built_in=True)
    assert generator.asked == []


async def test_complete_question_stays_and_nobody_rewrote_it() -> None:
    generator = FakeGenerator(TimeoutError())
    assert await condensed(generator, "发票丢了怎么办？") == Condensed("发票丢了怎么办？", by="none")
    without_history = await Condenser(cast(Generator, generator), 100).condense(FOLLOW_UP, [], "")
    assert without_history == Condensed(FOLLOW_UP, by="none")


async def test_rule_does_not_make_a_question_too_long() -> None:
    condenser = Condenser(cast(Generator, FakeGenerator("")), 10)
    assert await condenser.condense(FOLLOW_UP, HISTORY, EXTRACTIVE_MODEL) == Condensed(FOLLOW_UP, for_built_in=True)


TURNS = [
    Message(role="user", content="How many days of annual leave do I get after 5 years?"),
    Message(role="assistant", content="Twenty-five days, 3 of them in winter. [1]"),
]


@pytest.mark.parametrize(
    ("rewritten", "question", "history", "fault"),
    [
        ("How many days of annual leave do contractors get?", "And for contractors?", TURNS, None),
        ("How many days of annual leave do I get after 10 years?", "And after 10 years?", TURNS, None),
        ("Which 3 days are in winter?", "Which ones?", TURNS, None),
        ("Annual leave of contractors", "And for contractors?", TURNS, None),
        ("Contractors get 20 days of annual leave", "And for contractors?", TURNS, "answers"),
        ("Contractors do not get annual leave.", "And for contractors?", TURNS, "answers"),
        ("Do contractors get annual leave? They do not.", "And for contractors?", TURNS, "answers"),
        ("How many days do contractors get [2]?", "And for contractors?", TURNS, "cites"),
        ("Who is the president?", "And for contractors?", TURNS, "unrelated"),
        ("How many days of annual leave? " * 10, "And for contractors?", TURNS, "too long"),
        ("工作满二十年有几天年假？", FOLLOW_UP, HISTORY, None),
        ("工作满20年有几天年假？", FOLLOW_UP, HISTORY, None),
        ("我想知道工作满二十年有几天年假。", FOLLOW_UP, HISTORY, None),
        ("工作满二十年有十五天年假", FOLLOW_UP, HISTORY, "answers"),
        ("工作满二十年的年假更多。", FOLLOW_UP, HISTORY, "answers"),
        ("工作满二十年有几天年假【1】？", FOLLOW_UP, HISTORY, "cites"),
        ("天气怎么样？", FOLLOW_UP, HISTORY, "unrelated"),
        ("一般来说工作满二十年有几天年假？", FOLLOW_UP, HISTORY, None),
    ],
)
def test_faults_of_a_rewriting(rewritten: str, question: str, history: list[Message], fault: str | None) -> None:
    assert fault_of(rewritten, question, history) == fault


@pytest.mark.parametrize("text", ["九" * 9000, "1" * 9000, "1.2.3 " * 900, "十万" * 4000, "[" * 5000])
def test_odd_numbers_are_no_error(text: str) -> None:
    fault_of(text, text, [Message(role="user", content=text)])


def test_rules_run_beside_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[threading.Thread] = []

    def resolved(question: str, history: object) -> str:
        threads.append(threading.current_thread())
        return question

    monkeypatch.setattr(condensing, "resolved", resolved)
    condenser = Condenser(cast(Generator, None), 4000)
    history = [Message(role="user", content="年假几天？")]
    asyncio.run(condenser.condense("那上海呢？", history, EXTRACTIVE_MODEL))
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()
