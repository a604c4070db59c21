"""From a question to a cited answer: retrieve, refuse or prompt, generate."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import structlog

from zhiwen.common.api.questions import Answer, AskBody, SourceOut, TookAsk, Usage, source_out
from zhiwen.common.errors import InvalidRequest, ServiceError
from zhiwen.common.models import Hit, KnowledgeBase
from zhiwen.common.prompts import CHINESE_TEMPLATE, REFUSAL, fill, is_refusal
from zhiwen.common.telemetry import current_request_id
from zhiwen.query.answer.condensing import Condensed, Condenser
from zhiwen.query.answer.generation import Generated, Generator, Prompt
from zhiwen.query.answer.passages import context_of, within_budget
from zhiwen.query.search.filters import compile_filter
from zhiwen.query.search.retriever import Found, Retriever, Search

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Retrieved:
    """What an answer is made from: the hits that may answer, and the question that found them."""

    found: Found
    hits: list[Hit]
    condensed: Condensed
    condense_ms: float
    follow_up: bool

    @property
    def sources(self) -> list[SourceOut]:
        """The hits as numbered sources."""
        return [source_out(number, hit) for number, hit in enumerate(self.hits, 1)]


@dataclass(frozen=True, slots=True)
class Answerer:
    """Answers questions from a knowledge base."""

    retriever: Retriever
    generator: Generator
    condenser: Condenser
    default_model: str
    min_relevance: float
    cross_language: bool
    max_context_tokens: int
    max_question_characters: int

    async def answer(self, base: KnowledgeBase, body: AskBody) -> Answer:
        """Return the whole answer at once."""
        started = time.perf_counter()
        retrieved = await self._retrieve(base, body)
        if not retrieved.hits:
            return _answer(retrieved, started, None)
        before = time.perf_counter()
        generated = await self.generator.complete(self._prompt(base, body, retrieved.hits))
        return _answer(retrieved, started, generated, time.perf_counter() - before)

    async def events(self, base: KnowledgeBase, body: AskBody) -> AsyncIterator[bytes]:
        """Yield the answer as server-sent events: `sources`, `token`…, then `done` or `error`."""
        started = time.perf_counter()
        try:
            retrieved = await self._retrieve(base, body)
            yield _event("sources", {"sources": [source.model_dump() for source in retrieved.sources]})
            if not retrieved.hits:
                yield _event("token", {"text": REFUSAL})
                yield _event("done", _answer(retrieved, started, None).model_dump())
                return
            async for event in self._generated(self._prompt(base, body, retrieved.hits), retrieved, started):
                yield event
        except ServiceError as exc:
            yield _event("error", {"code": exc.code, "detail": exc.detail, "status": exc.status})
        except Exception:  # a defect; the stream has begun, so only an event can say so
            log.exception("answer_failed")
            detail = f"Something went wrong here. It is logged under request id {current_request_id()}."
            yield _event("error", {"code": "internal-error", "detail": detail, "status": 500})

    async def _generated(self, prompt: Prompt, retrieved: Retrieved, started: float) -> AsyncIterator[bytes]:
        before = time.perf_counter()
        pieces: list[str] = []
        model: str | None = None
        usage: Mapping[str, int] | None = None
        async for piece in self.generator.stream(prompt):
            model = piece.model or model
            usage = piece.usage or usage
            if piece.text:
                pieces.append(piece.text)
                yield _event("token", {"text": piece.text})
        whole = Generated("".join(pieces), model, usage)
        answer = _answer(retrieved, started, whole, time.perf_counter() - before)
        yield _event("done", answer.model_dump())

    async def _retrieve(self, base: KnowledgeBase, body: AskBody) -> Retrieved:
        self.check_question(body.question)
        before = time.perf_counter()
        condensed = await self.condenser.condense(body.question, body.history, body.model)
        condense_ms = (time.perf_counter() - before) * 1000 if body.history else 0.0
        question = condensed.question
        search = Search(
            query=question,
            top_k=body.top_k,
            mode=body.mode,
            fusion=body.fusion,
            expression=compile_filter(body.filter),
            min_score=body.min_score,
            min_relevance=self.min_relevance,
            cross_language=self.crosses(base, body.cross_language),
            rerank=body.rerank,
        )
        found = await asyncio.to_thread(self.retriever.search, base, search)
        hits = within_budget(found.hits, self.max_context_tokens)
        return Retrieved(found, hits, condensed, condense_ms, bool(body.history))

    def crosses(self, base: KnowledgeBase, asked: bool | None) -> bool:
        """Say whether texts in the other language are looked for: as asked, else as the knowledge base is set."""
        if asked is not None:
            return asked
        return self.cross_language if base.cross_language is None else base.cross_language

    def check_question(self, question: str) -> None:
        """Raise `InvalidRequest` for a question that is empty or too long."""
        if not question.strip():
            raise InvalidRequest("empty-question", "The question is empty.")
        if len(question) > self.max_question_characters:
            raise InvalidRequest(
                "question-too-long", f"A question may be {self.max_question_characters} characters long."
            )

    def _prompt(self, base: KnowledgeBase, body: AskBody, hits: list[Hit]) -> Prompt:
        template = base.prompt_template or CHINESE_TEMPLATE
        content = fill(template, context=context_of(hits), question=body.question)
        history = [{"role": turn.role, "content": turn.content} for turn in body.history]
        return Prompt(
            messages=[*history, {"role": "user", "content": content}],
            model=body.model or self.default_model,
            temperature=body.temperature,
            max_tokens=body.max_tokens,
            request_id=current_request_id(),
        )


def _answer(retrieved: Retrieved, started: float, generated: Generated | None, generate_seconds: float = 0.0) -> Answer:
    """Return the answer; without `generated` it is a refusal."""
    text = generated.text if generated else REFUSAL
    found = retrieved.found
    return Answer(
        answer=text,
        refused=generated is None or is_refusal(text),
        sources=retrieved.sources,
        reranked=found.reranked,
        condensed_question=retrieved.condensed.question if retrieved.follow_up else None,
        model=generated.model if generated else None,
        usage=_usage(retrieved.condensed.generated, generated),
        took_ms=TookAsk(
            condense=round(retrieved.condense_ms, 2),
            embed=round(found.embed_ms, 2),
            search=round(found.search_ms, 2),
            generate=round(generate_seconds * 1000, 2),
            total=round((time.perf_counter() - started) * 1000, 2),
        ),
    )


def _usage(*calls: Generated | None) -> Usage:
    """Return the tokens of all calls to the model together."""
    counted = [call.usage for call in calls if call is not None and call.usage]
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    return Usage(**{name: sum(usage.get(name, 0) for usage in counted) for name in names})


def _event(name: str, data: Mapping[str, Any]) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + orjson.dumps(data) + b"\n\n"
