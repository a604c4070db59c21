"""How a question ended: answered, refused, or with the closest passages only."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from zhiwen.common.api.questions import Outcome
from zhiwen.common.prompts import EXTRACTIVE_MODEL, is_refusal
from zhiwen.query.answer.generation import Completion, Delta

_ENDS_WITH_MARK: Final = re.compile(r"\[\d{1,3}\]\s*\Z")


async def with_note(generated: AsyncGenerator[Delta, None], note: str) -> AsyncGenerator[Delta, None]:
    """Yield the pieces of a completion, and `note` before the quotes of the built-in answerer.

    A language model's pieces pass at once and without the note. The first piece says which of the two answers.
    """
    async with aclosing(generated):
        first = await anext(generated, None)
        if first is None:
            return
        if not note or first.model != EXTRACTIVE_MODEL:
            yield first
            async for delta in generated:
                yield delta
            return
        held = [first, *[delta async for delta in generated]]  # it answers at once, so nobody waits
        if not _is_refused(Completion.of(held)):
            yield Delta(note, EXTRACTIVE_MODEL)
        for delta in held:
            yield delta


def outcome_of(completion: Completion, note: str) -> Outcome:
    """Return how a question ended. `note` is the line that `with_note` may have put before the completion."""
    if note and completion.text.startswith(note):
        return "closest"
    return "refused" if _is_refused(completion) else "answered"


def _is_refused(completion: Completion) -> bool:
    """Return whether a completion refuses. A document's own "nothing was found", when quoted, is no refusal."""
    quotes = completion.model == EXTRACTIVE_MODEL and _ENDS_WITH_MARK.search(completion.text)
    return not quotes and is_refusal(completion.text)
