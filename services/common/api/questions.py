"""Searches and answers as the REST API takes and shows them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, model_validator

from zhiwen.common.api.fields import OrNewer, Strict, Text
from zhiwen.common.models import Fusion, Hit, Mode


class SearchBody(Strict):
    """A search request."""

    query: Text = Field(min_length=1, examples=["年假有几天?"])
    top_k: int = Field(5, ge=1, le=100)
    mode: Mode = "hybrid"
    fusion: Fusion | None = Field(None, description="How the hits of a hybrid search are ordered; None: as configured.")
    filter: dict[str, Any] | None = Field(None, examples=[{"source": {"prefix": "员工"}}])
    min_score: float | None = Field(None, ge=0, le=1)
    neighbours: int = Field(0, ge=0, le=10, description="Chunks before and after each hit to add to its text.")
    cross_language: bool | None = Field(
        None, description="Find texts in the other language; None: as the knowledge base says."
    )
    rerank: bool | None = Field(None, description="Let the reranker order the hits; None: if one is configured.")
    dense_weight: float | None = Field(
        None, ge=0, le=10, description="Weight of the dense half beside the words; None: as the knowledge base says."
    )
    params: dict[str, int] | None = Field(None, description="Search parameters of the index, such as nprobe or ef.")


class Message(Strict):
    """A turn of the conversation so far."""

    role: Literal["user", "assistant", "system"]
    content: Text


class AskBody(Strict):
    """A question to be answered from the knowledge base."""

    question: Text = Field(min_length=1, examples=["年假有几天?"])
    history: list[Message] = Field(default_factory=list, max_length=100)
    stream: bool = False
    model: Text | None = None
    top_k: int = Field(5, ge=1, le=50)
    mode: Mode = "hybrid"
    fusion: Fusion | None = Field(None, description="How the hits of a hybrid search are ordered; None: as configured.")
    filter: dict[str, Any] | None = None
    min_score: float | None = Field(
        None, ge=0, le=1, description="Leave out passages below this relevance; without any left, refuse."
    )
    cross_language: bool | None = Field(
        None, description="Find texts in the other language; None: as the knowledge base says."
    )
    rerank: bool | None = Field(None, description="Let the reranker order the hits; None: if one is configured.")
    dense_weight: float | None = Field(
        None, ge=0, le=10, description="Weight of the dense half beside the words; None: as the knowledge base says."
    )
    temperature: float | None = Field(None, ge=0, le=2)
    max_tokens: int | None = Field(None, ge=1)


class HitOut(BaseModel):
    """A found chunk. `score` is in 0..1, and higher is better."""

    chunk_id: str = Field(examples=["5f0c9d5b3c1e4c0f9a7d2b8e6f4a1c3d:1:0"])
    document_id: str = Field(examples=["5f0c9d5b3c1e4c0f9a7d2b8e6f4a1c3d"])
    source: str = Field(examples=["制度/年假.md"])
    page: int | None = Field(examples=[3])
    heading: str = Field(examples=["制度 > 年假"])
    text: str = Field(examples=["员工年假为十天。"])
    score: float = Field(examples=[0.87], description="The relevance, which is compared with min_score.")
    full_text_score: float | None = Field(
        None, description="The share of the question that the words match, 0 to 1; null: words were not searched."
    )
    dense_score: float | None = Field(
        None, description="What the embedding model says, 0 to 1; null: vectors were not searched."
    )
    rerank_score: float | None = Field(
        None, description="The reranker's score, 0 to 1. Hits that have one are ordered by it."
    )
    metadata: dict[str, Any]


class SourceOut(HitOut):
    """A passage that the answer may cite as [n]."""

    n: int


class TookSearch(BaseModel):
    """Milliseconds spent."""

    embed: float
    search: float
    total: float


class SearchOut(BaseModel):
    """Hits, best first. `mode` is the mode that was used: `dense` where Milvus has no full-text search."""

    hits: list[HitOut]
    answerable: bool = Field(description="Whether the confidence is high enough to answer from these hits.")
    confidence: float = Field(0.0, ge=0, le=1, description="The probability that these hits answer the question.")
    mode: Annotated[Mode, OrNewer]
    reranked: bool = Field(description="Whether a reranker ordered the hits; also false when it failed.")
    took_ms: TookSearch


class TookAsk(TookSearch):
    """Milliseconds spent. `condense` is the time to rewrite a follow-up question so that it stands alone."""

    condense: float
    generate: float


class Usage(BaseModel):
    """The number of tokens, as the model server counted them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


class Citation(BaseModel):
    """A mark [n] of an answer, checked against the passage that it names."""

    n: int
    document_id: str | None = Field(description="Null when there is no passage with this number.")
    page: int | None
    heading: str
    quote: str | None = Field(description="The sentence of the passage that carries the statement; null without one.")
    start: int | None = Field(description="Where the quote begins in the passage's text, in characters.")
    end: int | None = Field(description="Where the quote ends in the passage's text, in characters.")
    supported: bool = Field(description="Whether the passage carries the statement before the mark.")


Outcome = Literal["answered", "closest", "refused"]
"""How a question ended.

`answered`: the answer rests on its sources. `closest`: the built-in answerer is not sure, so it shows the closest
passages. `refused`: the knowledge base does not hold the answer.
"""


class Answer(BaseModel):
    """An answer with its sources. `refused` is true when the knowledge base does not hold the answer."""

    answer: str
    refused: bool
    outcome: Annotated[Outcome, OrNewer] = "answered"
    confidence: float = Field(0.0, ge=0, le=1, description="The probability that the answer is right.")
    sources: list[SourceOut] = Field(description="The passages that the answer rests on; none unless it is answered.")
    closest: list[SourceOut] = Field(
        default_factory=list, description="The passages that were found but did not answer; none if it is answered."
    )
    citations: list[Citation] = Field(default_factory=list, description="The marks of the answer, in its order.")
    reranked: bool = Field(description="Whether a reranker ordered the sources.")
    condensed_question: str | None = Field(
        description="The question that was searched for instead of a follow-up; null without history."
    )
    model: str | None
    usage: Usage
    took_ms: TookAsk

    @model_validator(mode="after")
    def _of_an_older_service(self) -> Self:
        """Let a refusal that does not say how it ended be one."""
        if self.refused and "outcome" not in self.model_fields_set:
            self.outcome = "refused"
        return self


class SourcesEvent(BaseModel):
    """The first event of a streamed answer: the passages that it may cite."""

    sources: list[SourceOut]


class TokenEvent(BaseModel):
    """The next piece of a streamed answer."""

    text: str


def hit_out(hit: Hit) -> HitOut:
    """Return a hit as the API shows it."""
    return HitOut(**_fields(hit))


def source_out(number: int, hit: Hit) -> SourceOut:
    """Return a hit as the API shows it: as the source [number]."""
    return SourceOut(n=number, **_fields(hit))


def _fields(hit: Hit) -> dict[str, Any]:
    return {
        "chunk_id": hit.chunk_id,
        "document_id": hit.document_id,
        "source": hit.source,
        "page": hit.page,
        "heading": hit.heading,
        "text": hit.text,
        "score": round(hit.score, 6),
        "full_text_score": _rounded(hit.full_text_score),
        "dense_score": _rounded(hit.dense_score),
        "rerank_score": _rounded(hit.rerank_score),
        "metadata": dict(hit.metadata),
    }


def _rounded(score: float | None) -> float | None:
    return None if score is None else round(score, 6)
