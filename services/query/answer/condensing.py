"""A follow-up question and the conversation before it, made one question that stands alone, for retrieval.

Only retrieval uses it. The model that answers gets the conversation and the question as they were asked: it can read
both, and what a rewriting loses must not reach the answer.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

from zhiwen.common.api.questions import Message
from zhiwen.common.errors import ServiceError
from zhiwen.common.lexical.analysis import is_chinese
from zhiwen.common.prompts import CONDENSE_CHINESE, CONDENSE_ENGLISH, EXTRACTIVE_MODEL, fill_condensing
from zhiwen.common.telemetry import current_request_id
from zhiwen.query.answer.generation import Generated, Generator, Prompt

log = structlog.get_logger(__name__)

REMEMBER_SECONDS = 60.0
PATIENCE_SECONDS = 30.0
LAST_TURNS = 6
TURN_CHARACTERS = 600
MAX_TOKENS = 256

_THINKING = re.compile(r"<think>.*?</think>", re.DOTALL)
_LABEL = re.compile(r"^(?:完整问题|改写后的问题|独立问题|Standalone question|Question)\s*[:：]\s*", re.IGNORECASE)
_AROUND = " \t\r\n\"'“”‘’「」『』`*"


@dataclass(frozen=True, slots=True)
class Condensed:
    """The question to search with; `generated` is the model's reply, None where it was not asked or not followed."""

    question: str
    generated: Generated | None = None


@dataclass(slots=True)
class Condenser:
    """Asks the language model for the question that a follow-up means. `clock` counts seconds."""

    generator: Generator
    default_model: str
    max_characters: int
    clock: Callable[[], float] = time.monotonic
    _extractive_until: dict[str, float] = field(default_factory=dict)

    async def condense(self, question: str, history: Sequence[Message], model: str | None) -> Condensed:
        """Return the question itself without history, without a language model, and when the model fails."""
        model = model or self.default_model
        if not history or model == EXTRACTIVE_MODEL or self._extractive_until.get(model, 0.0) > self.clock():
            return Condensed(question)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                generated = await self.generator.complete(_prompt(question, history, model))
        except (ServiceError, TimeoutError) as exc:
            log.warning("question_not_condensed", error=str(exc) or "timeout")
            return Condensed(question)
        if (
            generated.model == EXTRACTIVE_MODEL
        ):  # it cannot rewrite anything; the gateway's default, which only its answer tells
            self._extractive_until[model] = self.clock() + REMEMBER_SECONDS
            return Condensed(question)
        condensed = cleaned(generated.text)
        if not condensed or len(condensed) > self.max_characters:
            return Condensed(question)
        return Condensed(condensed, generated)


def _prompt(question: str, history: Sequence[Message], model: str) -> Prompt:
    template = CONDENSE_CHINESE if is_chinese(question) else CONDENSE_ENGLISH
    content = fill_condensing(template, history=conversation(history, template), question=question)
    return Prompt(
        messages=[{"role": "user", "content": content}],
        model=model,
        temperature=0.0,
        max_tokens=MAX_TOKENS,
        request_id=current_request_id(),
    )


def conversation(history: Sequence[Message], template: str) -> str:
    """Return the last turns as lines, in the template's language, each cut to a length. Pure."""
    names = ("用户", "助手") if template == CONDENSE_CHINESE else ("User", "Assistant")
    turns = [turn for turn in history if turn.role != "system"][-LAST_TURNS:]
    return "\n".join(f"{names[turn.role == 'assistant']}: {turn.content.strip()[:TURN_CHARACTERS]}" for turn in turns)


def cleaned(text: str) -> str:
    """Return the question in a model's reply: without its thoughts, label, quotation marks and afterthoughts. Pure."""
    for line in _THINKING.sub("", text).splitlines():
        if question := _LABEL.sub("", line.strip(_AROUND)).strip(_AROUND):
            return question
    return ""
