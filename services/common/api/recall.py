"""The measured recall of an index, as the REST API shows it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field


class TookRecall(BaseModel):
    """Milliseconds of one search of the index."""

    p50: float
    p99: float


class RecallOut(BaseModel):
    """The live index compared with exact search."""

    index: dict[str, Any] = Field(description="Type, metric, build and search parameters of the live index.")
    chunks: int
    queries: int = Field(description="Number of stored chunks whose nearest neighbours were searched.")
    k: int
    recall: float = Field(
        examples=[0.998], description="Mean share of the k nearest other chunks that the index returned, 0 to 1."
    )
    took_ms: TookRecall
