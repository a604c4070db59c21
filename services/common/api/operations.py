"""The health and the readiness of a service, as the REST API shows them."""

from __future__ import annotations

from pydantic import BaseModel, Field


class Health(BaseModel):
    """The process lives."""

    status: str = Field(examples=["ok"])


class Readiness(BaseModel):
    """Whether the service can work: `ready` or `not-ready`. `checks` holds "ok" or a sentence for each dependency."""

    status: str = Field(examples=["ready"])
    checks: dict[str, str] = Field(examples=[{"ledger": "ok"}])
