"""From a question to a cited answer: condense, search, then ask the model, which decides whether it can answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from zhiwen.common.answering.citations import citations_of
from zhiwen.common.answering.confidence import confidence
from zhiwen.common.api.questions import Answer, SourceOut, TookAsk, Usage, source_out
from zhiwen.common.lexical.translations import Translations
from zhiwen.common.models import Hit, KnowledgeBase
from zhiwen.common.prompts import closest_note, prompt_for, refusal_for
from zhiwen.common.web import service_error_of
from zhiwen.query.answer.condensing import Condensed, Condenser
from zhiwen.query.answer.events import Done, Event, Failed, Sources, Token
from zhiwen.query.answer.generation import ChatRequest, Completion, Delta, Generator
from zhiwen.query.answer.outcomes import outcome_of, with_note
from zhiwen.query.answer.passages import context_of, within_budget
from zhiwen.query.answer.request import Ask
from zhiwen.query.search.request import Search, SearchRules
from zhiwen.query.search.retriever import Found, Retriever


@dataclass(frozen=True, slots=True)
class Answerer:
    """Answers questions from a knowledge base.

    `rules` say when no model need be asked, and how sure an answer must be. `translations` check the marks of answers
    in another language than their passages. `default_model` answers a question that names no model; "" means the
    gateway's default. The passages of one prompt have at most `max_context_tokens` tokens in all. With
    `ask_for_citations` the prompt asks for marks [n].
    """

    retriever: Retriever
    generator: Generator
    condenser: Condenser
    rules: SearchRules
    translations: Translations
    default_model: str
    max_context_tokens: int
    ask_for_citations: bool = True

    async def events(self, base: KnowledgeBase, ask: Ask) -> AsyncGenerator[Event, None]:
        """Yield the answer as it is written: `Sources`, each `Token`, `Done`, or `Failed` last when something fails.

        `Sources` are the passages of the prompt; whether the answer rests on them is known in `Done`.

        Closing the generator ends the call to the model.
        """
        try:
            async with aclosing(self._events(base, ask, self.generator.stream)) as events:
                async for event in events:
                    yield event
        except Exception as exc:  # the stream may have begun: only an event can then report the error
            yield Failed(service_error_of(exc))

    async def answer(self, base: KnowledgeBase, ask: Ask) -> Answer:
        """Return the whole answer. The model is asked not to stream. Raises `ServiceError`."""
        *_, last = [event async for event in self._events(base, ask, self._generated_at_once)]
        assert isinstance(last, Done)
        return last.answer

    async def _events(
        self, base: KnowledgeBase, ask: Ask, generate: Callable[[ChatRequest], AsyncGenerator[Delta, None]]
    ) -> AsyncGenerator[Sources | Token | Done, None]:
        """Yield the events of an answer. Raises what the search and the model raise."""
        started = time.perf_counter()
        retrieved = await self._retrieved(base, ask)
        if retrieved.hopeless:
            refusal = refusal_for(ask.question)
            yield Sources([])
            yield Token(refusal)
            yield Done(self._answer(retrieved, Completion(refusal), generate_ms=0.0, total_ms=_ms_since(started)))
            return
        yield Sources(retrieved.sources)
        asked = time.perf_counter()
        deltas: list[Delta] = []
        note = "" if self.rules.is_sure(retrieved.confidence, base) else closest_note(ask.question)
        async with aclosing(with_note(generate(self._request(base, ask, retrieved)), note)) as generated:
            async for delta in generated:
                deltas.append(delta)
                if delta.text:
                    yield Token(delta.text)
        completion, took = Completion.of(deltas), _ms_since(asked)
        yield Done(
            await asyncio.to_thread(
                self._answer, retrieved, completion, note=note, generate_ms=took, total_ms=_ms_since(started)
            )
        )

    async def _generated_at_once(self, request: ChatRequest) -> AsyncGenerator[Delta, None]:
        """Yield the whole completion as one piece."""
        completion = await self.generator.complete(request)
        yield Delta(completion.text, completion.model, completion.usage)

    async def _retrieved(self, base: KnowledgeBase, ask: Ask) -> _Retrieved:
        """Condense the question, search, and return the passages that the prompt will hold."""
        started = time.perf_counter()
        condensed = await self.condenser.condense(ask.question, ask.history, ask.model or self.default_model)
        condense_ms = _ms_since(started) if ask.history else 0.0
        search = replace(ask.search, query=condensed.question)
        found, sure, hopeless = await asyncio.to_thread(self._searched, base, search)
        hits = within_budget(found.hits, self.max_context_tokens)
        sources = [source_out(number, hit) for number, hit in enumerate(hits, 1)]
        return _Retrieved(hits, sources, found, sure, hopeless, condensed, condense_ms, follow_up=bool(ask.history))

    def _searched(self, base: KnowledgeBase, search: Search) -> tuple[Found, float, bool]:
        """Search, and return what was found, its confidence, and whether it shares nothing with the question."""
        found = self.retriever.search(base, search)
        hopeless = self.rules.shares_nothing(found.hits, found.chance_score)
        return found, confidence(search.query, found.hits), hopeless

    def _request(self, base: KnowledgeBase, ask: Ask, retrieved: _Retrieved) -> ChatRequest:
        """Return the unchanged conversation, followed by the prompt with the passages and the question.

        The built-in answerer gets the question that stands alone, because it does not read the conversation.
        """
        condensed = retrieved.condensed
        prompt = prompt_for(
            condensed.question if condensed.for_built_in else ask.question,
            context_of(retrieved.hits),
            template=base.prompt_template or None,
            ask_for_citations=self.ask_for_citations,
        )
        history = [{"role": turn.role, "content": turn.content} for turn in ask.history]
        return ChatRequest(
            messages=[*history, {"role": "user", "content": prompt}],
            model=ask.model or self.default_model,
            temperature=ask.temperature,
            max_tokens=ask.max_tokens,
        )

    def _answer(
        self, retrieved: _Retrieved, completion: Completion, *, note: str = "", generate_ms: float, total_ms: float
    ) -> Answer:
        """Return the whole answer. Passages that did not answer are `closest` and not `sources`.

        `completion` begins with `note` when the built-in answerer quoted without being sure. Times are in milliseconds.
        """
        found, passages = retrieved.found, retrieved.sources
        outcome, said = outcome_of(completion, note), completion.text.removeprefix(note)
        return Answer(
            answer=completion.text,
            refused=outcome == "refused",
            outcome=outcome,
            confidence=0.0 if outcome == "refused" else round(retrieved.confidence, 4),
            sources=passages if outcome == "answered" else [],
            closest=[] if outcome == "answered" else passages,
            citations=[] if outcome == "refused" else citations_of(said, passages, self.translations),
            reranked=found.reranked,
            condensed_question=retrieved.condensed.question if retrieved.follow_up else None,
            model=completion.model,
            usage=_total_usage(retrieved.condensed.completion, completion),
            took_ms=TookAsk(
                condense=round(retrieved.condense_ms, 2),
                embed=round(found.embed_ms, 2),
                search=round(found.search_ms, 2),
                generate=round(generate_ms, 2),
                total=round(total_ms, 2),
            ),
        )


@dataclass(frozen=True, slots=True)
class _Retrieved:
    """The passages for an answer, and how the search found them.

    `hits` are the hits that fit into the prompt. `sources` are the same hits with their numbers. `confidence` is the
    probability that they answer, and `hopeless` is True when they share nothing with the question. `follow_up` is True
    when a conversation came before the question, so that the question had to be condensed.
    """

    hits: Sequence[Hit]
    sources: list[SourceOut]
    found: Found
    confidence: float
    hopeless: bool
    condensed: Condensed
    condense_ms: float
    follow_up: bool


def _total_usage(*completions: Completion | None) -> Usage:
    """Return the sum of the tokens of all calls to the model."""
    counted = [completion.usage for completion in completions if completion and completion.usage]
    return Usage(**{name: sum(getattr(usage, name) for usage in counted) for name in Usage.model_fields})


def _ms_since(started: float) -> float:
    """Return the milliseconds since `started`, a time of `time.perf_counter`."""
    return (time.perf_counter() - started) * 1000
