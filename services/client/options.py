"""The optional keyword arguments of the clients' methods.

An option means the same as the field of that name in the REST API. The service chooses the value of an option that is
missing or None. Only when a knowledge base is changed, None resets a field to its default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, TypedDict

from zhiwen.common.api.knowledge_bases import Chunking, Index
from zhiwen.common.api.questions import Message
from zhiwen.common.models import Fusion, Mode

OnDuplicate: TypeAlias = Literal["keep", "skip", "error"]
"""What happens to a file whose bytes another document has: it is kept too, skipped as `duplicate`, or `rejected`."""


class KnowledgeBaseOptions(TypedDict, total=False):
    """The options of a knowledge base. Changing model, index or chunking starts a rebuild."""

    description: str | None
    embedding_model: str | None
    """Name or folder of a model."""
    index: Index | Mapping[str, Any] | None
    chunking: Chunking | Mapping[str, Any] | None
    prompt_template: str | None
    """A prompt with {context} and {question}."""
    cross_language: bool | None
    """Whether a question also finds texts in the other language."""


class SearchOptions(TypedDict, total=False):
    """The options of a search."""

    top_k: int
    """Most hits to return."""
    mode: Mode | str
    fusion: Fusion | str | None
    """What orders the hits of a hybrid search."""
    filter: Mapping[str, Any] | None
    """Which chunks are searched: {"source": {"prefix": "手册"}}."""
    min_score: float | None
    """From 0 to 1. Hits with a lower score are left out."""
    neighbours: int
    """How many chunks before and after each hit to add to its text."""
    cross_language: bool | None
    rerank: bool | None
    params: Mapping[str, int] | None
    """Search parameters of the index, such as `nprobe` or `ef`."""


class AskOptions(TypedDict, total=False):
    """The options of an answer. Those that a search also has mean the same."""

    history: Sequence[Message | Mapping[str, str]]
    """The conversation so far, the oldest turn first."""
    model: str | None
    """A model of the gateway."""
    top_k: int
    mode: Mode | str
    fusion: Fusion | str | None
    filter: Mapping[str, Any] | None
    min_score: float | None
    """Hits with a lower score are not used as sources. Without a source the answer is a refusal."""
    cross_language: bool | None
    rerank: bool | None
    temperature: float | None
    max_tokens: int | None
