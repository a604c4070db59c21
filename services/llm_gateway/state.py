"""The parts of a running gateway. The lifespan opens and closes them; requests find them in their ASGI scope."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from typing import TypedDict

from starlette.types import Scope

from zhiwen.common.auth.keyring import KeyRing
from zhiwen.llm_gateway import background
from zhiwen.llm_gateway.accounting.booking import Books
from zhiwen.llm_gateway.accounting.conversation_log import ConversationLog
from zhiwen.llm_gateway.accounting.limits import Limiter, LocalLimiter, RedisLimiter
from zhiwen.llm_gateway.accounting.usage import UsageTotals, WriteUsage
from zhiwen.llm_gateway.background import HealthChecks
from zhiwen.llm_gateway.builtin.embeddings import BuiltInEmbeddings
from zhiwen.llm_gateway.config import GatewayConfig, load_config
from zhiwen.llm_gateway.settings import GatewaySettings
from zhiwen.llm_gateway.upstreams.http import Timeouts, UpstreamClient
from zhiwen.llm_gateway.upstreams.pool import Pool


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits of one request: bytes of its body, bytes of an answer that is not streamed, and seconds in all."""

    request_bytes: int
    response_bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class GatewayState:
    """The parts. `embeddings` is None when no built-in model is served. `clock` is the event loop's clock."""

    keyring: KeyRing
    pool: Pool
    client: UpstreamClient
    health: HealthChecks
    books: Books
    embeddings: BuiltInEmbeddings | None
    bounds: Bounds
    clock: Callable[[], float]


class LifespanState(TypedDict):
    """What the lifespan yields. The server puts it into the ASGI scope of each request, under `state`."""

    gateway: GatewayState


def gateway_of(scope: Scope) -> GatewayState:
    """Return the parts of the gateway that serves this request."""
    state: LifespanState = scope["state"]
    return state["gateway"]


@contextlib.asynccontextmanager
async def open_gateway(
    settings: GatewaySettings,
    config: GatewayConfig,
    keyring: KeyRing,
    *,
    embeddings: BuiltInEmbeddings | None,
    write_usage: WriteUsage | None,
) -> AsyncIterator[GatewayState]:
    """Build the parts and start their background tasks; close them when the block ends.

    `settings` are those of the process. `config` holds what the YAML file says now; it is reloaded when the file
    changes. `keyring` checks the keys of clients. `embeddings` is the built-in model, if it is served. `write_usage`
    stores the used tokens; with None they are not kept.
    """
    async with contextlib.AsyncExitStack() as closing:
        conversations = _conversation_log(settings)
        if conversations is not None:
            closing.push_async_callback(asyncio.to_thread, conversations.close)
        usage = UsageTotals(write_usage)
        closing.push_async_callback(asyncio.to_thread, usage.flush)
        limiter = _limiter(settings)
        closing.push_async_callback(limiter.close)
        client = UpstreamClient()
        closing.push_async_callback(client.close)
        clock = asyncio.get_running_loop().time
        pool = Pool(config, _timeouts(settings), clock)
        health = HealthChecks(pool, client)
        closing.push_async_callback(health.close)
        loops = [background.flush_usage_forever(usage, settings.gateway_usage_interval)]
        loops.append(background.set_gauges_forever(pool))
        if (path := settings.gateway_config) is not None:
            loops.append(background.reload_forever(path, partial(load_config, settings), pool, health))
        await closing.enter_async_context(background.running(*loops))
        books = Books(limiter, usage, conversations)
        yield GatewayState(keyring, pool, client, health, books, embeddings, _bounds(settings), clock)


def _timeouts(settings: GatewaySettings) -> Timeouts:
    return Timeouts(
        settings.gateway_connect_timeout, settings.gateway_first_byte_timeout, settings.gateway_idle_timeout
    )


def _bounds(settings: GatewaySettings) -> Bounds:
    return Bounds(settings.gateway_max_request_bytes, settings.gateway_max_response_bytes, settings.gateway_deadline)


def _limiter(settings: GatewaySettings) -> Limiter:
    url = settings.gateway_redis_url.get_secret_value()
    return RedisLimiter(url) if url else LocalLimiter()


def _conversation_log(settings: GatewaySettings) -> ConversationLog | None:
    folder = settings.gateway_export_dir
    return ConversationLog(folder, settings.gateway_export_interval) if folder is not None else None
