"""The events of an answer, with a scripted retriever and a scripted model."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from tests.unit.query.conftest import BASE
from zhiwen.common.api.questions import Answer, Message, Usage
from zhiwen.common.errors import ServiceError, Unavailable
from zhiwen.common.models import Hit, KnowledgeBase
from zhiwen.common.prompts import CHINESE_TEMPLATE, REFUSAL
from zhiwen.query.answer.answerer import Answerer
from zhiwen.query.answer.condensing import Condenser
from zhiwen.query.answer.events import Done, Event, Failed, Sources, Token
from zhiwen.query.answer.generation import ChatRequest, Completion, Delta, Generator
from zhiwen.query.answer.request import Ask
from zhiwen.query.search.request import Search
from zhiwen.query.search.retriever import Found, Retriever

QUESTION = Search("病假呢?", 5)
HISTORY = [Message(role="user", content="年假几天?"), Message(role="assistant", content="十天。")]
BROKEN_OFF = ServiceError("answer-broken-off", "The model server broke off.", status=502)


def hit(number: int, text: str) -> Hit:
    return Hit(f"d:1:{number}", "d", 1, number, "手册.txt", None, "", text, 0.5, {})


HITS = [hit(0, "年假十天。"), hit(1, "病假五天。")]


def usage(tokens: int) -> Usage:
    return Usage(prompt_tokens=tokens, completion_tokens=1, total_tokens=tokens + 1)


STREAM = [Delta("病假"), Delta(""), Delta("五天。[2]", "fake-model"), Delta("", "fake-model", usage(10))]


@dataclass
class FakeRetriever:
    """Finds these hits, or fails. Records what it was asked."""

    hits: Sequence[Hit] = field(default_factory=lambda: HITS)
    error: Exception | None = None
    asked: list[tuple[KnowledgeBase, Search]] = field(default_factory=list)

    def search(self, base: KnowledgeBase, search: Search) -> Found:
        self.asked.append((base, search))
        if self.error:
            raise self.error
        return Found(list(self.hits), "hybrid", 1.0, 2.0, 3.0, reranked=True)


@dataclass
class FakeGenerator:
    """Streams these pieces, and fails if told to. Completes with the next of these texts. Records what it was asked."""

    pieces: Sequence[Delta] = field(default_factory=lambda: STREAM)
    texts: list[str] = field(default_factory=list)
    error: Exception | None = None
    streamed: list[ChatRequest] = field(default_factory=list)
    completed: list[ChatRequest] = field(default_factory=list)
    closed: bool = False

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Delta, None]:
        self.streamed.append(request)
        try:
            for piece in self.pieces:
                yield piece
            if self.error:
                raise self.error
        finally:
            self.closed = True

    async def complete(self, request: ChatRequest) -> Completion:
        self.completed.append(request)
        if self.error:
            raise self.error
        return Completion(self.texts.pop(0), "fake-model", usage(10))


def answerer_of(generator: FakeGenerator, retriever: FakeRetriever, max_context_tokens: int = 1000) -> Answerer:
    model = cast(Generator, generator)
    return Answerer(
        retriever=cast(Retriever, retriever),
        generator=model,
        condenser=Condenser(model, 100),
        default_model="default-model",
        max_context_tokens=max_context_tokens,
    )


async def events_of(generator: FakeGenerator, retriever: FakeRetriever | None = None, **ask: Any) -> list[Event]:
    answerer = answerer_of(generator, retriever or FakeRetriever())
    return [event async for event in answerer.events(BASE, Ask(QUESTION, **ask))]


async def answer_of(generator: FakeGenerator, retriever: FakeRetriever | None = None, **ask: Any) -> Answer:
    return await answerer_of(generator, retriever or FakeRetriever()).answer(BASE, Ask(QUESTION, **ask))


def without_times(answer: Answer) -> Answer:
    return answer.model_copy(update={"took_ms": None})


async def test_sources_come_first_then_each_piece_then_the_whole_answer() -> None:
    sources, *tokens, done = await events_of(FakeGenerator())
    assert isinstance(sources, Sources)
    assert [(source.n, source.text) for source in sources.sources] == [(1, "年假十天。"), (2, "病假五天。")]
    assert tokens == [Token("病假"), Token("五天。[2]")]
    assert isinstance(done, Done)
    answer = done.answer
    assert (answer.answer, answer.refused, answer.model) == ("病假五天。[2]", False, "fake-model")
    assert (answer.sources, answer.reranked, answer.condensed_question) == (sources.sources, True, None)
    assert answer.usage == usage(10)
    assert (answer.took_ms.condense, answer.took_ms.embed, answer.took_ms.search) == (0.0, 1.0, 2.0)


async def test_answer_at_once_is_what_the_stream_ends_with() -> None:
    generator = FakeGenerator(texts=["病假五天。[2]"])
    *_, done = await events_of(generator)
    assert isinstance(done, Done)
    assert without_times(await answer_of(generator)) == without_times(done.answer)
    assert generator.streamed == generator.completed


async def test_model_gets_conversation_prompt_and_parameters() -> None:
    generator, retriever = FakeGenerator(texts=["十天。"]), FakeRetriever([HITS[0]])
    await answer_of(generator, retriever, temperature=0.1, max_tokens=77)
    prompt = CHINESE_TEMPLATE.replace("{context}", "[1] 年假十天。").replace("{question}", "病假呢?")
    assert generator.completed == [ChatRequest([{"role": "user", "content": prompt}], "default-model", 0.1, 77)]
    assert retriever.asked == [(BASE, QUESTION)]


async def test_template_of_the_base_and_model_of_the_question_override_the_defaults() -> None:
    generator = FakeGenerator(texts=["十天。"])
    base = replace(BASE, prompt_template="Q={question} C={context}")
    await answerer_of(generator, FakeRetriever([HITS[0]])).answer(base, Ask(QUESTION, model="other-model"))
    message = {"role": "user", "content": "Q=病假呢? C=[1] 年假十天。"}
    assert generator.completed == [ChatRequest([message], "other-model")]


@pytest.mark.parametrize("model", [None, "other-model"])
async def test_condensed_question_is_searched_for_and_the_asked_one_is_answered(model: str | None) -> None:
    generator, retriever = FakeGenerator(texts=["病假有几天?"]), FakeRetriever()
    *_, done = await events_of(generator, retriever, history=HISTORY, model=model)
    assert [search.query for _, search in retriever.asked] == ["病假有几天?"]
    (condensing,), (answering,) = generator.completed, generator.streamed
    assert condensing.model == answering.model == (model or "default-model")
    assert answering.messages[:2] == [turn.model_dump() for turn in HISTORY]
    assert answering.messages[2]["content"].endswith("问题是:病假呢?")
    assert isinstance(done, Done)
    assert (done.answer.condensed_question, done.answer.usage.total_tokens) == ("病假有几天?", 22)
    assert done.answer.took_ms.condense > 0


async def test_nothing_found_is_refused_without_the_model() -> None:
    generator, nothing = FakeGenerator(), FakeRetriever([])
    sources, token, done = await events_of(generator, nothing)
    assert (sources, token) == (Sources([]), Token(REFUSAL))
    assert isinstance(done, Done)
    assert (done.answer.answer, done.answer.refused, done.answer.model) == (REFUSAL, True, None)
    assert (done.answer.usage, done.answer.took_ms.generate) == (Usage(), 0.0)
    assert without_times(await answer_of(generator, nothing)) == without_times(done.answer)
    assert generator.streamed == generator.completed == []


async def test_refusal_of_the_model_is_a_refusal() -> None:
    answer = await answer_of(FakeGenerator(texts=[f"“{REFUSAL}”。"]))
    assert (answer.refused, len(answer.sources)) == (True, 2)


async def test_sources_are_the_hits_that_fit_into_the_prompt() -> None:
    retriever = FakeRetriever([hit(0, "年" * 50), hit(1, "假" * 500), hit(2, "十天")])
    answerer = answerer_of(FakeGenerator(), retriever, max_context_tokens=60)
    first = await anext(answerer.events(BASE, Ask(QUESTION)))
    assert isinstance(first, Sources)
    assert [(source.n, source.text[0]) for source in first.sources] == [(1, "年"), (2, "十")]


async def test_failed_search_is_the_only_event() -> None:
    gone = Unavailable("milvus-unavailable", "Milvus does not answer.")
    assert await events_of(FakeGenerator(), FakeRetriever(error=gone)) == [Failed(gone)]
    with pytest.raises(Unavailable):
        await answer_of(FakeGenerator(), FakeRetriever(error=gone))


async def test_model_that_breaks_off_is_the_last_event() -> None:
    sources, *tokens, failed = await events_of(FakeGenerator(error=BROKEN_OFF))
    assert isinstance(sources, Sources)
    assert tokens == [Token("病假"), Token("五天。[2]")]
    assert failed == Failed(BROKEN_OFF)
    with pytest.raises(ServiceError, match="broke off"):
        await answer_of(FakeGenerator(error=BROKEN_OFF))


async def test_text_of_a_defect_stays_in_the_log() -> None:
    with capture_logs() as logs:
        *_, failed = await events_of(FakeGenerator(error=KeyError("hunter2")))
    assert isinstance(failed, Failed)
    assert (failed.error.code, failed.error.status) == ("internal-error", 500)
    assert "hunter2" not in failed.error.detail
    assert [entry["event"] for entry in logs] == ["unexpected_error"]


async def test_closing_the_events_ends_the_call_of_the_model() -> None:
    generator = FakeGenerator()
    events = answerer_of(generator, FakeRetriever()).events(BASE, Ask(QUESTION))
    assert isinstance(await anext(events), Sources)
    assert await anext(events) == Token("病假")
    assert not generator.closed
    await events.aclose()
    assert generator.closed
