"""How a service is, as it tells everybody who asks."""

from __future__ import annotations

from pydantic import BaseModel, Field


class Health(BaseModel):
    """The process lives."""

    status: str = Field(examples=["ok"])


class Readiness(BaseModel):
    """Whether the service can work: `ready`, or `not-ready`. `checks` has "ok" or a sentence for each dependency."""

    status: str = Field(examples=["ready"])
    checks: dict[str, str] = Field(examples=[{"ledger": "ok"}])
