"""The events of an answer while it is written. Each route renders them in its own protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zhiwen.common.api.questions import Answer, SourceOut
from zhiwen.common.errors import ServiceError


@dataclass(frozen=True, slots=True)
class Sources:
    """The numbered passages that the answer may cite. The first event, unless something fails before it."""

    sources: Sequence[SourceOut]


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the answer's text."""

    text: str


@dataclass(frozen=True, slots=True)
class Done:
    """The whole answer. The last event, unless something fails."""

    answer: Answer


@dataclass(frozen=True, slots=True)
class Failed:
    """Why there is no whole answer. The last event; a part of the answer may have come before it."""

    error: ServiceError


Event = Sources | Token | Done | Failed
