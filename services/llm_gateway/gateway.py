"""What one running gateway consists of: built in the lifespan, passed to the routes, closed at the end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Mapping

import orjson
import structlog

from zhiwen.common.auth.keyring import KeyRing
from zhiwen.common.errors import ConfigurationError, Unavailable
from zhiwen.common.web import Check
from zhiwen.llm_gateway import metrics
from zhiwen.llm_gateway.accounting.conversation_log import Exporter
from zhiwen.llm_gateway.accounting.limits import Limiter, LocalLimiter, RedisLimiter, limits_of
from zhiwen.llm_gateway.accounting.usage import Accounts, Usage, WriteUsage
from zhiwen.llm_gateway.builtin.embeddings import BuiltInEmbeddings
from zhiwen.llm_gateway.config import GatewayConfig, load_config
from zhiwen.llm_gateway.settings import GatewaySettings
from zhiwen.llm_gateway.upstreams.breaker import State, state
from zhiwen.llm_gateway.upstreams.failures import UpstreamFailure
from zhiwen.llm_gateway.upstreams.http import Timeouts, UpstreamClient
from zhiwen.llm_gateway.upstreams.pool import Pool, Upstream
from zhiwen.llm_gateway.upstreams.routing import may_use

log = structlog.get_logger(__name__)

RELOAD_SECONDS = 1.0
GAUGE_SECONDS = 1.0


class Gateway:
    """The running parts. Create it within the event loop, `close` it in the same."""

    def __init__(
        self,
        settings: GatewaySettings,
        config: GatewayConfig,
        keyring: KeyRing,
        *,
        embeddings: BuiltInEmbeddings | None = None,
        write_usage: WriteUsage | None = None,
    ) -> None:
        self.settings = settings
        self.keyring = keyring
        self.embeddings = embeddings
        self.accounts = Accounts(write_usage)
        self.limiter: Limiter = _limiter(settings)
        self.exporter = _exporter(settings)
        self.client = UpstreamClient()
        self.loop = asyncio.get_running_loop()
        defaults = Timeouts(
            settings.gateway_connect_timeout, settings.gateway_first_byte_timeout, settings.gateway_idle_timeout
        )
        self.pool = Pool(config, defaults, self.loop.time)
        self._checks: dict[Upstream, asyncio.Task[None]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._start_checks()
        self._tasks.append(self.loop.create_task(self._flush_accounts()))
        self._tasks.append(self.loop.create_task(self._keep_gauges()))
        if settings.gateway_config is not None:
            self._tasks.append(self.loop.create_task(self._watch_file()))

    async def close(self) -> None:
        tasks = [*self._tasks, *self._checks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.client.close()
        await self.limiter.close()
        await asyncio.to_thread(self.accounts.flush)
        if self.exporter is not None:
            await asyncio.to_thread(self.exporter.close)

    def model_names(self, key: str) -> list[str]:
        """Everything that a key can ask for by name."""
        names = self.pool.public_models()
        if self.embeddings is not None and self.embeddings.model not in names:
            names.append(self.embeddings.model)
        limits = limits_of(self.pool.config.keys, key)
        return names if limits is None else [name for name in names if may_use(limits.models, name)]

    def book(self, key: str, model: str, usage: Usage) -> None:
        """Add one answered request to the accounts."""
        if usage.metered:
            metrics.tokens_used(model, usage.prompt_tokens, usage.completion_tokens)
        self.accounts.add(time.strftime("%Y-%m-%d", time.gmtime()), key, model, usage)

    async def _flush_accounts(self) -> None:
        while True:
            await asyncio.sleep(self.settings.gateway_usage_interval)
            await asyncio.to_thread(self.accounts.flush)

    def readiness(self) -> Mapping[str, Check]:
        """One check per upstream; the gateway is ready while at least one way to answer is."""
        return {"upstreams": self._check_any_upstream}

    async def _check_any_upstream(self) -> None:
        if self.pool.config.serves_extractive:
            return
        await asyncio.gather(*(self.check(upstream) for upstream in self.pool.upstreams if not upstream.healthy))
        if not any(upstream.healthy for upstream in self.pool.upstreams):
            names = ", ".join(upstream.name for upstream in self.pool.upstreams) or "none is configured"
            raise Unavailable("no-upstream", f"No model server answers: {names}.")

    async def _keep_gauges(self) -> None:
        while True:
            self._note_gauges()
            await asyncio.sleep(GAUGE_SECONDS)

    def _note_gauges(self) -> None:
        now = self.loop.time()
        metrics.QUEUED.set(self.pool.queued)
        for upstream in self.pool.upstreams:
            metrics.PENDING.labels(upstream.name).set(upstream.pending)
            metrics.HEALTHY.labels(upstream.name).set(upstream.healthy)
            metrics.BREAKER_OPEN.labels(upstream.name).set(state(upstream.breaker, now) is not State.CLOSED)

    async def check(self, upstream: Upstream) -> None:
        """Ask an upstream for its models: any answer but 502, 503 and 504 is healthy (some servers cannot list their
        models and answer questions all the same), and a list is remembered."""
        health = upstream.config.health
        try:
            status, body = await self.client.get(upstream.url(health.path), upstream.headers, health.timeout)
        except UpstreamFailure as failure:
            self._note(upstream, healthy=False, why=failure.detail)
            return
        self._note(upstream, healthy=status not in (502, 503, 504), why=f"answered {status}")
        if status == 200 and (models := _listed_models(body)):
            self.pool.note_listed(upstream, models)

    def _note(self, upstream: Upstream, *, healthy: bool, why: str) -> None:
        if upstream.healthy != healthy:
            log.info("upstream_health_changed", upstream=upstream.name, healthy=healthy, why=why)
        self.pool.note_health(upstream, healthy=healthy)

    def _start_checks(self) -> None:
        current = {upstream for upstream in self.pool.upstreams if upstream.config.health.enabled}
        for gone in self._checks.keys() - current:
            self._checks.pop(gone).cancel()
        for new in current - self._checks.keys():
            self._checks[new] = self.loop.create_task(self._check_forever(new))

    async def _check_forever(self, upstream: Upstream) -> None:
        while True:
            await self.check(upstream)
            await asyncio.sleep(upstream.config.health.interval)

    async def _watch_file(self) -> None:
        path = self.settings.gateway_config
        assert path is not None
        seen = _stamp_of(path)
        while True:
            await asyncio.sleep(RELOAD_SECONDS)
            if (stamp := _stamp_of(path)) == seen:
                continue
            seen = stamp
            await self.reload()

    async def reload(self) -> None:
        """Read the file again; a file that is wrong changes nothing and is logged."""
        try:
            config = await asyncio.to_thread(load_config, self.settings)
        except ConfigurationError as exc:
            log.error("gateway_config_refused", reason=str(exc))
            return
        self.pool.reload(config)
        self._start_checks()
        log.info("gateway_config_loaded", upstreams=[upstream.name for upstream in self.pool.upstreams])


def _limiter(settings: GatewaySettings) -> Limiter:
    url = settings.gateway_redis_url.get_secret_value()
    return RedisLimiter(url) if url else LocalLimiter()


def _exporter(settings: GatewaySettings) -> Exporter | None:
    folder = settings.gateway_export_dir
    return Exporter(folder, settings.gateway_export_interval) if folder is not None else None


def _stamp_of(path: object) -> tuple[int, int] | None:
    with contextlib.suppress(OSError):
        stat = os.stat(str(path))
        return stat.st_mtime_ns, stat.st_size
    return None


def _listed_models(body: bytes) -> tuple[str, ...]:
    """Return the ids of an OpenAI list of models; none when it is something else."""
    try:
        payload = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ()
    data = payload.get("data") if isinstance(payload, dict) else None
    items = data if isinstance(data, list) else []
    return tuple(item["id"] for item in items if isinstance(item, dict) and isinstance(item.get("id"), str))
