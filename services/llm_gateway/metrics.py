"""The gateway's metrics. Labels are names of upstreams and models, never ids or keys."""

from __future__ import annotations

from functools import lru_cache

from prometheus_client import Counter, Gauge, Histogram

UPSTREAM_CALLS = Counter("zhiwen_gateway_upstream_calls", "Calls to model servers", ["upstream", "outcome"])
FIRST_BYTE = Histogram(
    "zhiwen_gateway_first_byte_seconds",
    "Seconds until the first byte of an answer left for the client",
    buckets=(0.005, 0.02, 0.1, 0.3, 1, 3, 10, 30, 120),
)
TOKENS = Counter("zhiwen_gateway_tokens", "Tokens that model servers reported", ["model", "kind"])
PENDING = Gauge("zhiwen_gateway_pending", "Calls under way", ["upstream"])
HEALTHY = Gauge("zhiwen_gateway_healthy", "1 when the last active check went well", ["upstream"])
BREAKER_OPEN = Gauge("zhiwen_gateway_breaker_open", "1 while the circuit breaker is open", ["upstream"])
QUEUED = Gauge("zhiwen_gateway_queued", "Requests that wait for a free model server")
CONVERSATIONS_DROPPED = Counter("zhiwen_gateway_export_dropped", "Conversations that could not be exported in time")


@lru_cache(4096)
def _calls(upstream: str, outcome: str) -> Counter:
    return UPSTREAM_CALLS.labels(upstream, outcome)


@lru_cache(4096)
def _tokens(model: str) -> tuple[Counter, Counter]:
    return TOKENS.labels(model, "prompt"), TOKENS.labels(model, "completion")


def upstream_call(upstream: str, outcome: str) -> None:
    """Count a call that ended: `ok`, or how it failed."""
    _calls(upstream, outcome).inc()


def tokens_used(model: str, prompt: int, completion: int) -> None:
    """Count the tokens of one answer."""
    of_prompt, of_completion = _tokens(model)
    of_prompt.inc(prompt)
    of_completion.inc(completion)
