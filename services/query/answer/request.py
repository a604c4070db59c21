"""The checked question: what to search for, and how the model should answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zhiwen.common.api.questions import AskBody, Message
from zhiwen.common.models import KnowledgeBase
from zhiwen.query.search.request import Search, SearchRules, checked_search


@dataclass(frozen=True, slots=True)
class Ask:
    """A checked question to one knowledge base. Nothing that receives one checks it again."""

    search: Search
    """What to search for: `search.query` is the question as it was asked."""
    history: Sequence[Message] = ()
    """The conversation before the question, oldest turn first."""
    model: str | None = None
    """The model that should answer; None for the service's default."""
    temperature: float | None = None
    max_tokens: int | None = None

    @property
    def question(self) -> str:
        """The question as it was asked."""
        return self.search.query


def checked_ask(body: AskBody, base: KnowledgeBase, rules: SearchRules) -> Ask:
    """Check a request and return its question. Raises what `checked_search` raises."""
    return Ask(
        search=checked_search(body, base, rules),
        history=body.history,
        model=body.model,
        temperature=body.temperature,
        max_tokens=body.max_tokens,
    )
