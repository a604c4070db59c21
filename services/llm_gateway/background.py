"""What a gateway does in the background: health checks, reloading its file, gauges, and writing used tokens."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from pathlib import Path

import structlog

from zhiwen.common.errors import ConfigurationError, Unavailable
from zhiwen.llm_gateway import metrics
from zhiwen.llm_gateway.accounting.usage import UsageTotals
from zhiwen.llm_gateway.config import GatewayConfig
from zhiwen.llm_gateway.errors import UpstreamFailure, json_object
from zhiwen.llm_gateway.upstreams.breaker import BreakerState, state_of
from zhiwen.llm_gateway.upstreams.http import UpstreamClient
from zhiwen.llm_gateway.upstreams.pool import Pool
from zhiwen.llm_gateway.upstreams.upstream import Upstream

log = structlog.get_logger(__name__)

RELOAD_SECONDS = 1.0
GAUGE_SECONDS = 1.0


class HealthChecks:
    """Checks each upstream at its own interval, in one task per upstream.

    Create it and `close` it in the same running event loop.
    """

    def __init__(self, pool: Pool, client: UpstreamClient) -> None:
        self._pool = pool
        self._client = client
        self._tasks: dict[Upstream, asyncio.Task[None]] = {}
        self.follow_pool()

    def follow_pool(self) -> None:
        """Start checking upstreams that are new in the pool, and stop checking those that left it."""
        current = {upstream for upstream in self._pool.upstreams if upstream.config.health.enabled}
        for gone in self._tasks.keys() - current:
            self._tasks.pop(gone).cancel()
        for new in current - self._tasks.keys():
            self._tasks[new] = asyncio.get_running_loop().create_task(self._check_forever(new))

    async def check(self, upstream: Upstream) -> None:
        """Ask an upstream for its models, and remember whether it is healthy and which models it lists.

        Every status but 502, 503 and 504 counts as healthy, because some servers that cannot list their models still
        answer questions.
        """
        health = upstream.config.health
        try:
            status, body = await self._client.get(upstream.url(health.path), upstream.headers, health.timeout)
        except UpstreamFailure as failure:
            self._note(upstream, healthy=False, why=failure.detail)
            return
        self._note(upstream, healthy=status not in (502, 503, 504), why=f"answered {status}")
        if status == 200 and (models := _listed_models(body)):
            self._pool.note_listed(upstream, models)

    async def require_an_answerer(self) -> None:
        """Raise `Unavailable` unless the built-in answerer or at least one upstream answers.

        Upstreams that are not healthy are checked again first.
        """
        if self._pool.config.serves_extractive:
            return
        await asyncio.gather(*(self.check(upstream) for upstream in self._pool.upstreams if not upstream.healthy))
        if not any(upstream.healthy for upstream in self._pool.upstreams):
            names = ", ".join(upstream.name for upstream in self._pool.upstreams) or "none is configured"
            raise Unavailable("no-upstream", f"No model server answers: {names}.")

    async def close(self) -> None:
        """Stop all checks."""
        await _end(self._tasks.values())

    async def _check_forever(self, upstream: Upstream) -> None:
        while True:
            await self.check(upstream)
            await asyncio.sleep(upstream.config.health.interval)

    def _note(self, upstream: Upstream, *, healthy: bool, why: str) -> None:
        if upstream.healthy != healthy:
            log.info("upstream_health_changed", upstream=upstream.name, healthy=healthy, why=why)
        self._pool.note_health(upstream, healthy=healthy)


def _listed_models(body: bytes) -> tuple[str, ...]:
    """Return the ids of an OpenAI list of models, or nothing when `body` is no such list."""
    payload = json_object(body)
    data = payload.get("data") if payload is not None else None
    items = data if isinstance(data, list) else []
    return tuple(item["id"] for item in items if isinstance(item, dict) and isinstance(item.get("id"), str))


async def flush_usage_forever(usage: UsageTotals, seconds: float) -> None:
    """Write the used tokens every `seconds`."""
    while True:
        await asyncio.sleep(seconds)
        await asyncio.to_thread(usage.flush)


async def set_gauges_forever(pool: Pool) -> None:
    """Set the gauges of the queue and of each upstream every second."""
    while True:
        now = pool.now()
        metrics.QUEUED.set(pool.queued)
        for upstream in pool.upstreams:
            metrics.PENDING.labels(upstream.name).set(upstream.pending)
            metrics.HEALTHY.labels(upstream.name).set(upstream.healthy)
            is_open = state_of(upstream.breaker, now) is not BreakerState.CLOSED
            metrics.BREAKER_OPEN.labels(upstream.name).set(is_open)
        await asyncio.sleep(GAUGE_SECONDS)


async def reload_forever(path: Path, load: Callable[[], GatewayConfig], pool: Pool, health: HealthChecks) -> None:
    """Reload the configuration whenever the file at `path` changes. `load` reads it, and may block."""
    seen = _stamp_of(path)
    while True:
        await asyncio.sleep(RELOAD_SECONDS)
        if (stamp := _stamp_of(path)) != seen:
            seen = stamp
            await reload(load, pool, health)


async def reload(load: Callable[[], GatewayConfig], pool: Pool, health: HealthChecks) -> None:
    """Use the configuration that `load` returns. A wrong configuration changes nothing and is logged."""
    try:
        config = await asyncio.to_thread(load)
    except ConfigurationError as exc:
        log.error("gateway_config_refused", reason=str(exc))
        return
    pool.reload(config)
    health.follow_pool()
    log.info("gateway_config_loaded", upstreams=[upstream.name for upstream in pool.upstreams])


def _stamp_of(path: Path) -> tuple[int, int] | None:
    with contextlib.suppress(OSError):
        stat = path.stat()
        return stat.st_mtime_ns, stat.st_size
    return None


@contextlib.asynccontextmanager
async def running(*loops: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Run each of these endless coroutines in its own task until the block ends."""
    tasks = [asyncio.get_running_loop().create_task(loop) for loop in loops]
    try:
        yield
    finally:
        await _end(tasks)


async def _end(tasks: Iterable[asyncio.Task[None]]) -> None:
    ending = list(tasks)
    for task in ending:
        task.cancel()
    await asyncio.gather(*ending, return_exceptions=True)
