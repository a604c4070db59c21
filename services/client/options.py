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
    """What may be chosen for a knowledge base; another model, index or chunking of an old one starts a rebuild.

    `description`: what it holds. `embedding_model`: name or folder of a model. `index`: {"type": "HNSW"}, or an
    `Index`. `chunking`: {"size": 240, "overlap": 40} in tokens, or a `Chunking`. `prompt_template`: a text with
    {context} and {question}. `cross_language`: whether a question also finds texts in the other language.
    `dense_weight`: the weight of the embedding model beside the words, 0 to 10. `min_confidence`: how sure, from 0 to
    1, the built-in answerer must be to answer.
    """

    description: str | None
    embedding_model: str | None
    index: Index | Mapping[str, Any] | None
    chunking: Chunking | Mapping[str, Any] | None
    prompt_template: str | None
    cross_language: bool | None
    dense_weight: float | None
    min_confidence: float | None


class SearchOptions(TypedDict, total=False):
    """What may be chosen for a search.

    `top_k`: hits at most. `mode`: hybrid, dense or full_text. `fusion`: what orders the hits of a hybrid search,
    relevance, min_max or rrf. `filter`: which chunks are searched, {"source": {"prefix": "手册"}} or
    {"metadata.year": {"gte": 2024}}. `min_score`: from 0 to 1; hits below are left out. `neighbours`: chunks before and
    after each hit to add to its text. `cross_language`: whether texts in the other language are found, too. `rerank`:
    whether the reranker orders the hits. `dense_weight`: the weight of the embedding model beside the words, 0 to 10.
    `params`: search parameters of the index, such as `nprobe` or `ef`.
    """

    top_k: int
    mode: Mode | str
    fusion: Fusion | str | None
    filter: Mapping[str, Any] | None
    min_score: float | None
    neighbours: int
    cross_language: bool | None
    rerank: bool | None
    dense_weight: float | None
    params: Mapping[str, int] | None


class AskOptions(TypedDict, total=False):
    """What may be chosen for an answer. Options of a search mean the same as there (`SearchOptions`).

    `history`: the turns so far, the oldest first, {"role": "user", "content": "…"} or a `Message`. `model`: a model of
    the gateway. `min_score`: hits below are no source, and without a source the answer is a refusal. `temperature`,
    `max_tokens`: how the model writes.
    """

    history: Sequence[Message | Mapping[str, str]]
    model: str | None
    top_k: int
    mode: Mode | str
    fusion: Fusion | str | None
    filter: Mapping[str, Any] | None
    min_score: float | None
    cross_language: bool | None
    rerank: bool | None
    dense_weight: float | None
    temperature: float | None
    max_tokens: int | None
