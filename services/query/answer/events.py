"""What an answer is made of as it comes. Doors render these events, each in its own protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zhiwen.common.api.questions import Answer, SourceOut
from zhiwen.common.errors import ServiceError


@dataclass(frozen=True, slots=True)
class Sources:
    """The passages that the answer may cite, numbered. The first event, where nothing fails before."""

    sources: Sequence[SourceOut]


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the answer's text."""

    text: str


@dataclass(frozen=True, slots=True)
class Done:
    """The whole answer. The last event, where nothing fails."""

    answer: Answer


@dataclass(frozen=True, slots=True)
class Failed:
    """Why there is no whole answer. The last event; nothing, or a part of the answer, has come before."""

    error: ServiceError


Event = Sources | Token | Done | Failed
