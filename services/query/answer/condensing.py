"""Condensing: a follow-up question is rewritten so that it can be understood without the conversation before it.

A language model rewrites it. Without one, and where the model's rewriting cannot be trusted, the rules of
`follow_ups/` do.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import structlog

from zhiwen.common.api.questions import Message
from zhiwen.common.errors import ServiceError
from zhiwen.common.lexical.analysis import is_chinese
from zhiwen.common.prompts import CONDENSE_CHINESE, CONDENSE_ENGLISH, EXTRACTIVE_MODEL, fill_condensing
from zhiwen.query.answer.follow_ups.resolving import resolved
from zhiwen.query.answer.generation import ChatRequest, Completion, Generator
from zhiwen.query.answer.rewriting import fault_of

log = structlog.get_logger(__name__)

REMEMBER_SECONDS = 60.0
"""How long the extractive answerer is not asked again, once a model name has turned out to mean it."""
PATIENCE_SECONDS = 30.0
"""How long the model may take to rewrite a question."""
LAST_TURNS = 6
"""How many of the last turns of the conversation the model sees."""
TURN_CHARACTERS = 600
"""How many characters of each turn the model sees."""
MAX_TOKENS = 256
"""Longest rewritten question, in tokens."""

_THINKING = re.compile(r"<think>.*?</think>", re.DOTALL)
_LABEL = re.compile(r"^(?:完整问题|改写后的问题|独立问题|Standalone question|Question)\s*[:：]\s*", re.IGNORECASE)
_AROUND = " \t\r\n\"'“”‘’「」『』`*"


@dataclass(frozen=True, slots=True)
class Condensed:
    """The question to search with, and who wrote it: the model, the rules, or the user (`none`).

    `completion` is what the model wrote. It is None when the model was not asked, or when its answer was not used.
    `for_built_in` is True when the built-in answerer will answer: it reads the question alone and no conversation.
    """

    question: str
    completion: Completion | None = None
    by: Literal["model", "rule", "none"] = "none"
    for_built_in: bool = False


@dataclass(slots=True)
class Condenser:
    """Rewrites follow-up questions: by the language model, or by rules without one.

    A rewritten question of more than `max_characters` is not used. `clock` counts seconds.
    """

    generator: Generator
    max_characters: int
    clock: Callable[[], float] = time.monotonic
    _extractive_until: dict[str, float] = field(default_factory=dict)

    async def condense(self, question: str, history: Sequence[Message], model: str) -> Condensed:
        """Return `question` rewritten so that it needs no `history`. `model` is "" for the gateway's default.

        The rules rewrite it when no language model answers, when the model fails, and when it answers the question
        instead of rewriting it. Without history, or when it stands alone, the question is returned unchanged.
        """
        if not history:
            return Condensed(question)
        if model == EXTRACTIVE_MODEL or self._extractive_until.get(model, 0.0) > self.clock():
            return replace(await self._by_rule(question, history), for_built_in=True)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                completion = await self.generator.complete(_request(question, history, model))
        except (ServiceError, TimeoutError) as exc:
            log.warning("question_not_condensed", error=str(exc) or "timeout")
            return await self._by_rule(question, history)
        if (
            completion.model == EXTRACTIVE_MODEL
        ):  # it cannot rewrite; only its answer shows that the default model is this one
            self._extractive_until[model] = self.clock() + REMEMBER_SECONDS
            return replace(await self._by_rule(question, history), for_built_in=True)
        condensed = question_in(completion.text)
        if not condensed or len(condensed) > self.max_characters:
            return await self._by_rule(question, history)
        if fault := await asyncio.to_thread(fault_of, condensed, question, _shown(history)):
            log.warning("condensed_question_not_used", fault=fault)
            return await self._by_rule(question, history)
        return Condensed(condensed, completion, by="model")

    async def _by_rule(self, question: str, history: Sequence[Message]) -> Condensed:
        found = await asyncio.to_thread(resolved, question, history)  # the first one loads a dictionary, in 0.4 s
        if found == question or len(found) > self.max_characters:
            return Condensed(question)
        return Condensed(found, by="rule")


def _request(question: str, history: Sequence[Message], model: str) -> ChatRequest:
    template = CONDENSE_CHINESE if is_chinese(question) else CONDENSE_ENGLISH
    content = fill_condensing(template, history=transcript(history, template), question=question)
    return ChatRequest([{"role": "user", "content": content}], model, temperature=0.0, max_tokens=MAX_TOKENS)


def transcript(history: Sequence[Message], template: str) -> str:
    """Return the last turns as lines of limited length, labelled in the template's language. Pure."""
    names = ("用户", "助手") if template == CONDENSE_CHINESE else ("User", "Assistant")
    return "\n".join(f"{names[turn.role == 'assistant']}: {turn.content}" for turn in _shown(history))


def _shown(history: Sequence[Message]) -> list[Message]:
    """Return what the model sees of the conversation."""
    turns = [turn for turn in history if turn.role != "system"][-LAST_TURNS:]
    return [Message(role=turn.role, content=turn.content.strip()[:TURN_CHARACTERS]) for turn in turns]


def question_in(text: str) -> str:
    """Return the question from a model's reply, without thinking, label, quotation marks and further lines. Pure."""
    before, end, after = text.rpartition("</think>")  # behind it, the pattern would look for an end in vain
    for line in (_THINKING.sub("", before + end) + after).splitlines():
        if question := _LABEL.sub("", line.strip(_AROUND)).strip(_AROUND):
            return question
    return ""
