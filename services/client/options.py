"""What may be chosen beside what must be said: the keyword arguments of the clients' methods.

What is not given stays as the service has it. Every option means what the field of that name means in the REST API.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, TypedDict

from zhiwen.common.api.knowledge_bases import Chunking, Index
from zhiwen.common.api.questions import Message
from zhiwen.common.models import Fusion, Mode

OnDuplicate: TypeAlias = Literal["keep", "skip", "error"]
"""What becomes of a file whose bytes another document holds already."""


class KnowledgeBaseOptions(TypedDict, total=False):
    """What may be chosen for a knowledge base; another model, index or chunking of an old one starts a rebuild."""

    description: str | None
    embedding_model: str | None
    index: Index | Mapping[str, Any] | None
    chunking: Chunking | Mapping[str, Any] | None
    prompt_template: str | None
    cross_language: bool | None


class SearchOptions(TypedDict, total=False):
    """What may be chosen for a search."""

    top_k: int
    mode: Mode | str
    fusion: Fusion | str | None
    filter: Mapping[str, Any] | None
    min_score: float | None
    neighbours: int
    cross_language: bool | None
    rerank: bool | None
    params: Mapping[str, int] | None


class AskOptions(TypedDict, total=False):
    """What may be chosen for an answer; `history` are the turns so far."""

    history: Sequence[Message | Mapping[str, str]]
    model: str | None
    top_k: int
    mode: Mode | str
    fusion: Fusion | str | None
    filter: Mapping[str, Any] | None
    min_score: float | None
    cross_language: bool | None
    rerank: bool | None
    temperature: float | None
    max_tokens: int | None
