"""Limits requests and tokens per minute for each key: in this process, or in Redis for several gateways together.

A minute is the current second and the sixty before it. So no period of 60 s holds more than the limit, and the memory
for a key does not grow with its traffic. The tokens of an answer are known only when it is complete. A request is
therefore admitted with an estimate, which its true tokens replace later. So requests that arrive together cannot exceed
a limit.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from zhiwen.common.errors import TooMany
from zhiwen.llm_gateway.config import KeyLimits
from zhiwen.llm_gateway.request import ModelRequest

log = structlog.get_logger(__name__)

WINDOW = 60  # seconds
ANSWER_TOKENS = 512  # reserved for an answer when the client sets no limit
BYTES_PER_TOKEN = 3  # a Chinese character takes 3 bytes and about one token, an English token about 4 bytes


@dataclass(frozen=True, slots=True)
class Admission:
    """A request that was admitted: its key, the second in which it came, and the tokens reserved for it."""

    key: str
    second: int
    tokens: int


class Limiter(Protocol):
    """Counts the requests and tokens of each key."""

    async def admit(self, limits: KeyLimits, key: str, tokens: int) -> Admission:
        """Count one request and reserve `tokens`. Raises `TooMany`, and counts nothing, when it is over a limit."""

    def settle(self, admission: Admission, tokens: int) -> None:
        """Replace the reserved tokens by the tokens that were used. Returns at once."""

    async def close(self) -> None:
        """Write what is still to be written, and close connections."""


def limits_of(keys: Sequence[KeyLimits], name: str) -> KeyLimits | None:
    """Return the limits of the key `name`, or those of `*` when the key is not listed. None means no limits."""
    fallback = None
    for limits in keys:
        if limits.name == name:
            return limits
        if limits.name == "*":
            fallback = limits
    return fallback


def estimated_tokens(request: ModelRequest) -> int:
    """Return the tokens to reserve for a request: its body and the longest answer that it allows."""
    answer = ANSWER_TOKENS if request.max_tokens is None else request.max_tokens
    return len(request.body) // BYTES_PER_TOKEN + (answer if request.endpoint.generates_text else 0)


def refusal(limits: KeyLimits, requests: int, tokens: int, wanted: int, wait: int) -> TooMany | None:
    """Return the error that refuses a request, or None when the request is admitted.

    `limits` are those of the key. `requests` and `tokens` are what the current minute holds, and `wanted` is how many
    tokens the request reserves. `wait` is the number of seconds until the minute has room. A request that is larger
    than the whole token limit is admitted when the minute holds no tokens.
    """
    if limits.requests_per_minute is not None and requests + 1 > limits.requests_per_minute:
        code, detail = "requests-per-minute", f"This key may send {limits.requests_per_minute} requests a minute."
    elif (
        limits.tokens_per_minute is not None
        and tokens + min(wanted, limits.tokens_per_minute) > limits.tokens_per_minute
    ):
        code, detail = "tokens-per-minute", f"This key may use {limits.tokens_per_minute} tokens a minute."
    else:
        return None
    return TooMany(code, detail, retry_after=max(1, wait))


@dataclass(slots=True)
class _Second:
    """The requests and tokens of one key in one second."""

    number: int
    requests: int = 0
    tokens: int = 0


class LocalLimiter:
    """Counts in this process. `clock` returns seconds, of any origin."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._minutes: dict[str, deque[_Second]] = {}  # by key, the oldest second first

    async def admit(self, limits: KeyLimits, key: str, tokens: int) -> Admission:
        """Implement `Limiter.admit`."""
        now = int(self._clock())
        minute = self._minutes.setdefault(key, deque())
        while minute and minute[0].number < now - WINDOW:
            minute.popleft()
        requests_used = sum(second.requests for second in minute)
        tokens_used = sum(second.tokens for second in minute)
        wait = minute[0].number + WINDOW + 1 - now if minute else 1
        if error := refusal(limits, requests_used, tokens_used, tokens, wait):
            raise error
        if not minute or minute[-1].number != now:
            minute.append(_Second(now))
        minute[-1].requests += 1
        minute[-1].tokens += tokens
        return Admission(key, now, tokens)

    def settle(self, admission: Admission, tokens: int) -> None:
        """Implement `Limiter.settle`."""
        for second in reversed(self._minutes.get(admission.key, ())):
            if second.number == admission.second:
                second.tokens = max(0, second.tokens + tokens - admission.tokens)
                return

    async def close(self) -> None:
        """Implement `Limiter.close`."""
        self._minutes.clear()


_ADMIT = """
local second = tonumber(redis.call('TIME')[1])
local requests, tokens, oldest = 0, 0, second
local slots = redis.call('HGETALL', KEYS[1])
for i = 1, #slots, 2 do
  local at = tonumber(string.sub(slots[i], 3))
  if at < second - 60 then
    redis.call('HDEL', KEYS[1], slots[i])
  elseif string.sub(slots[i], 1, 1) == 'r' then
    requests = requests + tonumber(slots[i + 1])
    oldest = math.min(oldest, at)
  else
    tokens = tokens + tonumber(slots[i + 1])
  end
end
local most_requests, most_tokens, wanted = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
if (most_requests >= 0 and requests + 1 > most_requests)
  or (most_tokens >= 0 and tokens + math.min(wanted, most_tokens) > most_tokens) then
  return {0, second, requests, tokens, oldest + 61 - second}
end
redis.call('HINCRBY', KEYS[1], 'r:' .. second, 1)
redis.call('HINCRBY', KEYS[1], 't:' .. second, wanted)
redis.call('EXPIRE', KEYS[1], 62)
return {1, second, requests, tokens, 0}
"""

_SETTLE = """
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then
  redis.call('HINCRBY', KEYS[1], ARGV[1], ARGV[2])
end
"""


class RedisLimiter:
    """Counts in Redis, whose clock and single thread make the counts of several gateways exact.

    `url` is written as for redis-py or as for Celery (`redis+socket:///path?virtual_host=1`). While Redis does not
    answer, each gateway counts for itself, so that a key may use its limit once per gateway.
    """

    def __init__(self, url: str) -> None:
        if url.startswith("redis+socket://"):
            url = url.replace("redis+socket://", "unix://", 1).replace("virtual_host=", "db=", 1)
        self._redis: Redis = Redis.from_url(url, socket_timeout=1.0, socket_connect_timeout=1.0)
        self._admit = self._redis.register_script(_ADMIT)
        self._settle = self._redis.register_script(_SETTLE)
        self._fallback = LocalLimiter()
        self._settling: set[asyncio.Task[None]] = set()

    async def admit(self, limits: KeyLimits, key: str, tokens: int) -> Admission:
        """Implement `Limiter.admit`."""
        most_requests = -1 if limits.requests_per_minute is None else limits.requests_per_minute
        most_tokens = -1 if limits.tokens_per_minute is None else limits.tokens_per_minute
        try:
            answer = await self._admit(keys=[_name(key)], args=[most_requests, most_tokens, tokens])
        except RedisError as exc:
            log.warning("limits_redis_unavailable", error=type(exc).__name__)
            return await self._fallback.admit(limits, key, tokens)
        admitted, second, requests_used, tokens_used, wait = (int(value) for value in answer)
        if not admitted and (error := refusal(limits, requests_used, tokens_used, tokens, wait)):
            raise error
        return Admission(key, second, tokens)

    def settle(self, admission: Admission, tokens: int) -> None:
        """Implement `Limiter.settle`."""
        task = asyncio.get_running_loop().create_task(self._settle_later(admission, tokens))
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    async def _settle_later(self, admission: Admission, tokens: int) -> None:
        field = f"t:{admission.second}"
        try:
            await self._settle(keys=[_name(admission.key)], args=[field, tokens - admission.tokens])
        except RedisError as exc:
            log.warning("limits_redis_unavailable", error=type(exc).__name__)
            self._fallback.settle(admission, tokens)

    async def close(self) -> None:
        """Implement `Limiter.close`."""
        await asyncio.gather(*self._settling)
        await self._redis.aclose()


def _name(key: str) -> str:
    return f"zhiwen:gateway:limit:{key}"
