"""The report of the consistency check, as the REST API shows it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field


class FsckReport(BaseModel):
    """The differences between the ledger, the originals and Milvus."""

    clean: bool = Field(examples=[True])
    repaired: bool
    checked_chunks: int
    checked_originals: int
    missing: list[dict[str, Any]]
    orphaned: list[dict[str, Any]]
    duplicated: list[dict[str, Any]]
    missing_collections: list[str]
    unknown_collections: list[str]
    missing_originals: list[str]
    orphaned_originals: list[str]
    skipped_busy: int
