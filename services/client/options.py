"""What may be chosen beside what must be said: the keyword arguments of the clients' methods.

An option means what the field of its name means in the REST API. One that is not given is left to the service; so is
None, but for a change of a knowledge base, where None resets a field to its default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, TypedDict

from zhiwen.common.api.knowledge_bases import Chunking, Index
from zhiwen.common.api.questions import Message
from zhiwen.common.models import Fusion, Mode

OnDuplicate: TypeAlias = Literal["keep", "skip", "error"]
"""What becomes of a file whose bytes another document holds: kept, too, or told as `duplicate`, or as `rejected`."""


class KnowledgeBaseOptions(TypedDict, total=False):
    """What may be chosen for a knowledge base; another model, index or chunking of an old one starts a rebuild."""

    description: str | None
    embedding_model: str | None
    """Name or folder of a model."""
    index: Index | Mapping[str, Any] | None
    chunking: Chunking | Mapping[str, Any] | None
    prompt_template: str | None
    """A text with {context} and {question}."""
    cross_language: bool | None
    """Whether a question also finds texts in the other language."""


class SearchOptions(TypedDict, total=False):
    """What may be chosen for a search."""

    top_k: int
    """Hits at most."""
    mode: Mode | str
    fusion: Fusion | str | None
    """What orders the hits of a hybrid search."""
    filter: Mapping[str, Any] | None
    """Which chunks are searched: {"source": {"prefix": "手册"}}."""
    min_score: float | None
    """From 0 to 1; hits below are left out."""
    neighbours: int
    """Chunks before and after each hit to add to its text."""
    cross_language: bool | None
    rerank: bool | None
    params: Mapping[str, int] | None
    """Search parameters of the index, such as `nprobe` or `ef`."""


class AskOptions(TypedDict, total=False):
    """What may be chosen for an answer. Those of a search mean the same."""

    history: Sequence[Message | Mapping[str, str]]
    """The turns so far, the oldest first."""
    model: str | None
    """A model of the gateway."""
    top_k: int
    mode: Mode | str
    fusion: Fusion | str | None
    filter: Mapping[str, Any] | None
    min_score: float | None
    """Hits below are no source; without a source the answer is a refusal."""
    cross_language: bool | None
    rerank: bool | None
    temperature: float | None
    max_tokens: int | None
