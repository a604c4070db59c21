"""Settings of the query API."""

from __future__ import annotations

from pydantic import Field, SecretStr

from zhiwen.common.answering.constants import MIN_CONFIDENCE
from zhiwen.common.models import Fusion
from zhiwen.common.settings import CommonSettings, EmbeddingSettings


class QuerySettings(CommonSettings, EmbeddingSettings):
    """Settings of the query API."""

    query_port: int = Field(8002, ge=1, le=65535, description="Port of the query API.")
    gateway_url: str = Field("http://127.0.0.1:8003", description="Where the LLM gateway listens.")
    gateway_api_key: SecretStr = Field(SecretStr(""), description="Key to send to the gateway; empty: ZHIWEN_API_KEY.")
    gateway_timeout: float = Field(300.0, gt=0, description="Seconds that an answer may take.")
    answer_model: str = Field("", description="Model that answers; empty: the gateway's default.")
    max_question_characters: int = Field(4000, gt=0, description="Longest question that is accepted.")
    max_context_tokens: int = Field(3000, gt=0, description="Tokens of passages in a prompt, whole passages only.")
    candidates: int = Field(100, ge=10, le=1000, description="Hits taken from each half of a hybrid search.")
    dense_weight: float | None = Field(
        None,
        ge=0,
        le=10,
        description="Weight of the dense half beside the full-text half; empty: as fits the model.",
    )
    fusion: Fusion = Field(
        "relevance", description="What orders the hits of a hybrid search: relevance, min_max or rrf. Scores stay."
    )
    cross_language: bool = Field(True, description="Find texts in the other language through a word table.")
    rerank_model: str = Field(
        "", description="Cross-encoder that reorders the first 50 hits: a sentence-transformers name or folder."
    )
    rerank_url: str = Field(
        "", description="Whole address of a reranking server, which then has the model: http://localhost:8080/v1/rerank"
    )
    rerank_api_key: SecretStr = Field(SecretStr(""), description="Key that the reranking server wants, if any.")
    min_confidence: float = Field(
        MIN_CONFIDENCE,
        ge=0,
        le=1,
        description="Confidence below which the built-in answerer shows what it found as closest only.",
    )
    ask_for_citations: bool = Field(True, description="Ask the model for a mark [n] after each statement.")
