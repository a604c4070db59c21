"""Fixtures that run each test with both flavours of the client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.client.flavours import Caller, Clock, Flavour, Handler


@pytest.fixture(params=["sync", "async"])
def flavour(request: pytest.FixtureRequest) -> Flavour:
    """Which client the test calls."""
    found: Flavour = request.param
    return found


@pytest.fixture
def caller(flavour: Flavour) -> Callable[..., Caller]:
    """Return a client that talks to a handler."""

    def made(handler: Handler, clock: Clock | None = None, **options: Any) -> Caller:
        return Caller(flavour, handler, clock or Clock(), options)

    return made
