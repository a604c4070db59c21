"""One way to call the blocking and the asynchronous client, so that one test checks both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx

from zhiwen.client import AsyncClient, Client
from zhiwen.client.connection import ClientOptions

Flavour = Literal["sync", "async"]
URLS: ClientOptions = {
    "ingest_url": "http://127.0.0.1:1",
    "query_url": "http://127.0.0.1:2",
    "gateway_url": "http://127.0.0.1:3",
}
ONCE: ClientOptions = {**URLS, "retries": 0}
Handler = Callable[[httpx.Request], httpx.Response]


@dataclass
class Clock:
    """Time that passes by sleeping only."""

    now: float = 0.0
    slept: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept.append(seconds)

    async def async_sleep(self, seconds: float) -> None:
        self.sleep(seconds)


@dataclass
class Caller:
    """Calls a method of a new client, and returns what it yields as a list.

    `taken` is how many of the yielded values to take before the iteration stops.
    """

    flavour: Flavour
    handler: Handler
    clock: Clock = field(default_factory=Clock)
    options: dict[str, Any] = field(default_factory=dict)
    taken: int | None = None

    def __call__(self, method: str, *arguments: Any, **keywords: Any) -> Any:
        if self.flavour == "async":
            return asyncio.run(self._awaited(method, *arguments, **keywords))
        with Client(
            transport=httpx.MockTransport(self.handler), sleep=self.clock.sleep, clock=self.clock, **self._options()
        ) as client:
            found = getattr(client, method)(*arguments, **keywords)
            if not isinstance(found, Iterator):
                return found
            return list(found) if self.taken is None else [next(found) for _ in range(self.taken)]

    async def _awaited(self, method: str, *arguments: Any, **keywords: Any) -> Any:
        async with AsyncClient(
            transport=httpx.MockTransport(self.handler),
            sleep=self.clock.async_sleep,
            clock=self.clock,
            **self._options(),
        ) as client:
            found = getattr(client, method)(*arguments, **keywords)
            if not isinstance(found, AsyncIterator):
                return await found
            if self.taken is None:
                return [item async for item in found]
            return [await anext(found) for _ in range(self.taken)]

    def _options(self) -> dict[str, Any]:
        return {**URLS, "api_key": "", **self.options}
