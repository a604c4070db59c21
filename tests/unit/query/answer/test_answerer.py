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
from zhiwen.common.lexical.translations import Translations
from zhiwen.common.models import Hit, KnowledgeBase
from zhiwen.common.prompts import (
    CHINESE_TEMPLATE,
    ENGLISH_REFUSAL,
    ENGLISH_TEMPLATE,
    EXTRACTIVE_MODEL,
    REFUSAL,
    closest_note,
    is_refusal,
)
from zhiwen.query.answer import answerer
from zhiwen.query.answer.answerer import Answerer
from zhiwen.query.answer.condensing import Condenser
from zhiwen.query.answer.events import Done, Event, Failed, Sources, Token
from zhiwen.query.answer.generation import ChatRequest, Completion, Delta, Generator
from zhiwen.query.answer.request import Ask
from zhiwen.query.search.request import Search, SearchRules
from zhiwen.query.search.retriever import Found, Retriever

QUESTION = Search("病假呢?", 5)
HISTORY = [Message(role="user", content="年假几天?"), Message(role="assistant", content="十天。")]
BROKEN_OFF = ServiceError("answer-broken-off", "The model server broke off.", status=502)


def hit(number: int, text: str, score: float = 0.5) -> Hit:
    return Hit(f"d:1:{number}", "d", 1, number, "手册.txt", None, "", text, score, {})


def stranger(number: int, text: str) -> Hit:
    """Return a hit without a word of the question, and no nearer to it than chance."""
    return replace(hit(number, text, score=0.04), full_text_score=0.0, dense_score=0.1)


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
        return Found(list(self.hits), "hybrid", 1.0, 2.0, 3.0, reranked=True, chance_score=0.32)


@dataclass
class FakeGenerator:
    """Streams these pieces, and fails if told to. Completes with the next of these texts. Records what it was asked."""

    pieces: Sequence[Delta] = field(default_factory=lambda: STREAM)
    texts: list[str] = field(default_factory=list)
    error: Exception | None = None
    streamed: list[ChatRequest] = field(default_factory=list)
    completed: list[ChatRequest] = field(default_factory=list)
    closed: bool = False
    model: str = "fake-model"

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
        return Completion(self.texts.pop(0), self.model, usage(10))


CITE = "请在每个陈述之后用 [n] 标明它所依据的信息的编号。\n"
RULES = SearchRules(
    max_question_characters=100, min_confidence=0.3, cross_language=True, fusion="relevance", has_reranker=False
)


@pytest.fixture(autouse=True)
def _confidence_is_the_best_score(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the calibrated confidence, which has tests of its own."""

    def best_score(_question: str, hits: Sequence[Hit]) -> float:
        return max((hit.score for hit in hits), default=0.0)

    monkeypatch.setattr(answerer, "confidence", best_score)


def answerer_of(
    generator: FakeGenerator, retriever: FakeRetriever, max_context_tokens: int = 1000, **changed: Any
) -> Answerer:
    model = cast(Generator, generator)
    return Answerer(
        retriever=cast(Retriever, retriever),
        generator=model,
        condenser=Condenser(model, 100),
        rules=RULES,
        translations=Translations.of({}),
        default_model="default-model",
        max_context_tokens=max_context_tokens,
        **changed,
    )


async def events_of(
    generator: FakeGenerator, retriever: FakeRetriever | None = None, *, search: Search = QUESTION, **ask: Any
) -> list[Event]:
    built = answerer_of(generator, retriever or FakeRetriever())
    return [event async for event in built.events(BASE, Ask(search, **ask))]


async def answer_of(
    generator: FakeGenerator, retriever: FakeRetriever | None = None, *, search: Search = QUESTION, **ask: Any
) -> Answer:
    return await answerer_of(generator, retriever or FakeRetriever()).answer(BASE, Ask(search, **ask))


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
    assert (answer.outcome, answer.closest, answer.confidence) == ("answered", [], 0.5)
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
    prompt = CITE + CHINESE_TEMPLATE.replace("{context}", "[1] 年假十天。").replace("{question}", "病假呢?")
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


async def test_built_in_answerer_gets_the_question_that_stands_alone() -> None:
    generator = FakeGenerator(texts=["病假五天。[2]"])
    await answer_of(generator, history=HISTORY, model=EXTRACTIVE_MODEL)
    (answering,) = generator.completed
    assert answering.messages[-1]["content"].endswith("问题是:病假几天?")


# Refusals


@pytest.mark.parametrize(
    ("question", "refusal"), [("病假呢?", REFUSAL), ("How much sick leave?", ENGLISH_REFUSAL)], ids=["zh", "en"]
)
@pytest.mark.parametrize("found", [[], [stranger(0, "年假十天。"), stranger(1, "病假五天。")]], ids=len)
async def test_what_shares_nothing_is_refused_without_the_model(found: list[Hit], question: str, refusal: str) -> None:
    generator, retriever, search = FakeGenerator(), FakeRetriever(found), Search(question, 5)
    sources, token, done = await events_of(generator, retriever, search=search)
    assert (sources, token) == (Sources([]), Token(refusal))
    assert isinstance(done, Done)
    answer = done.answer
    assert (answer.answer, answer.refused, answer.outcome, answer.model) == (refusal, True, "refused", None)
    assert (answer.confidence, answer.sources, answer.citations) == (0.0, [], [])
    assert [source.text for source in answer.closest] == [hit.text for hit in found]
    assert (answer.usage, answer.took_ms.generate) == (Usage(), 0.0)
    assert without_times(await answer_of(generator, retriever, search=search)) == without_times(answer)
    assert generator.streamed == generator.completed == []


async def test_model_is_asked_as_soon_as_one_hit_could_be_relevant() -> None:
    generator = FakeGenerator(texts=["病假五天。[2]"])
    answer = await answer_of(generator, FakeRetriever([hit(0, "年假十天。", 0.0), hit(1, "病假五天。", 0.06)]))
    assert (answer.outcome, len(answer.sources), len(generator.completed)) == ("answered", 2, 1)
    assert answer.confidence < RULES.min_confidence


@pytest.mark.parametrize(
    "said", [REFUSAL, f"“{REFUSAL}”。", f"<think>没有病假。</think>抱歉，{REFUSAL}", f"{ENGLISH_REFUSAL}.[1]"]
)
async def test_refusal_of_the_model_is_a_refusal_and_shows_no_sources(said: str) -> None:
    generator = FakeGenerator(texts=[said], pieces=[Delta(said[:5], "fake-model"), Delta(said[5:], "fake-model")])
    sources, *tokens, done = await events_of(generator)
    assert isinstance(sources, Sources)
    assert "".join(token.text for token in tokens if isinstance(token, Token)) == said
    assert isinstance(done, Done)
    for answer in (done.answer, await answer_of(generator)):
        assert (answer.answer, answer.refused, answer.outcome, answer.confidence) == (said, True, "refused", 0.0)
        assert (answer.sources, answer.closest, answer.model) == ([], sources.sources, "fake-model")
        assert answer.citations == []


# The built-in answerer


def quoting(*pieces: str) -> FakeGenerator:
    """Return the built-in answerer, which streams these pieces."""
    return FakeGenerator([Delta("", EXTRACTIVE_MODEL), *(Delta(piece, EXTRACTIVE_MODEL) for piece in pieces)])


async def answers_of(
    generator: FakeGenerator, found: list[Hit], search: Search = QUESTION
) -> tuple[list[Event], Answer]:
    """Return the events of a stream, and the same answer at once, which must be alike."""
    *events, done = await events_of(generator, FakeRetriever(found), search=search)
    assert isinstance(done, Done)
    generator.texts = ["".join(delta.text for delta in generator.pieces)]
    generator.model = EXTRACTIVE_MODEL
    at_once = await answer_of(generator, FakeRetriever(found), search=search)
    assert without_times(at_once.model_copy(update={"usage": done.answer.usage})) == without_times(done.answer)
    return events, done.answer


async def test_sure_quotes_are_an_answer() -> None:
    events, answer = await answers_of(quoting("病假", "五天。[2]"), HITS)
    assert events[1:] == [Token("病假"), Token("五天。[2]")]
    assert (answer.answer, answer.outcome, answer.closest) == ("病假五天。[2]", "answered", [])


@pytest.mark.parametrize("question", ["病假呢?", "And sick leave?"])
async def test_unsure_quotes_are_the_closest_passages(question: str) -> None:
    found = [hit(0, "年假十天。", 0.1), hit(1, "病假五天。", 0.15)]
    events, answer = await answers_of(quoting("病假", "五天。[2]"), found, Search(question, 5))
    note = closest_note(question)
    assert events[1:] == [Token(note), Token("病假"), Token("五天。[2]")]
    assert (answer.answer, answer.outcome, answer.refused) == (f"{note}病假五天。[2]", "closest", False)
    assert (answer.sources, [source.n for source in answer.closest]) == ([], [1, 2])
    assert 0 < answer.confidence < RULES.min_confidence
    (mark,) = answer.citations
    assert (mark.n, mark.quote, mark.supported) == (2, "病假五天。", True)
    assert note.isascii() is question.isascii()
    assert not is_refusal(note)


async def test_refusal_of_the_built_in_answerer_has_no_note() -> None:
    events, answer = await answers_of(quoting(REFUSAL[:5], REFUSAL[5:]), [hit(0, "年假十天。", 0.1)])
    assert events[1:] == [Token(REFUSAL[:5]), Token(REFUSAL[5:])]
    assert (answer.answer, answer.outcome, answer.sources, len(answer.closest)) == (REFUSAL, "refused", [], 1)


async def test_quoted_refusal_of_a_document_is_no_refusal() -> None:
    _, answer = await answers_of(quoting("没有找到相关信息。[1]"), [hit(0, "没有找到相关信息。")])
    assert (answer.outcome, answer.refused) == ("answered", False)


async def test_pieces_of_an_unsure_model_are_not_held_back() -> None:
    generator = FakeGenerator()
    events = answerer_of(generator, FakeRetriever([hit(0, "年假十天。", 0.1)])).events(BASE, Ask(QUESTION))
    assert isinstance(await anext(events), Sources)
    assert await anext(events) == Token("病假")
    await events.aclose()
    assert generator.closed


# Prompts


@pytest.mark.parametrize(
    ("question", "line", "template"),
    [
        ("病假呢?", CITE, CHINESE_TEMPLATE),
        (
            "And sick leave?",
            "After each statement, give the number of the information that it rests on as [n].\n",
            ENGLISH_TEMPLATE,
        ),
    ],
)
async def test_language_of_the_question_chooses_the_template(question: str, line: str, template: str) -> None:
    for asks in (True, False):
        generator = FakeGenerator(texts=["[1]"])
        answerer = answerer_of(generator, FakeRetriever([HITS[0]]), ask_for_citations=asks)
        await answerer.answer(BASE, Ask(Search(question, 5)))
        prompt = template.replace("{context}", "[1] 年假十天。").replace("{question}", question)
        assert generator.completed[0].messages[0]["content"] == (line if asks else "") + prompt


async def test_marks_are_checked() -> None:
    answer = await answer_of(FakeGenerator(texts=["病假五天。[2]年假九天。[1]婚假三天[7]。"]))
    assert [(mark.n, mark.quote, mark.supported) for mark in answer.citations] == [
        (2, "病假五天。", True),
        (1, None, False),
        (7, None, False),
    ]


# Sources, errors


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
