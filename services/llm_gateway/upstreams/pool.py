"""The upstreams as they are now: who is healthy, how many calls each has, who waits for a free one.

The decisions are in `routing` and `breaker`; this module holds the numbers they decide upon. Everything runs in one
event loop, so nothing is locked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from yarl import URL

from zhiwen.common.errors import NotFound, ServiceError, TooMany, Unavailable
from zhiwen.common.prompts import EXTRACTIVE_MODEL
from zhiwen.llm_gateway.config import GatewayConfig
from zhiwen.llm_gateway.config import Upstream as UpstreamConfig
from zhiwen.llm_gateway.errors import UpstreamError
from zhiwen.llm_gateway.upstreams import breaker, routing
from zhiwen.llm_gateway.upstreams.failures import UpstreamFailure, counts_against
from zhiwen.llm_gateway.upstreams.http import Timeouts

Clock = Callable[[], float]


class Upstream:
    """One model server: its place in the file, and its state."""

    def __init__(self, config: UpstreamConfig, defaults: Timeouts) -> None:
        self.breaker = breaker.Breaker()
        self.pending = 0
        self.healthy = True
        self.cooling_until = 0.0
        self.listed: tuple[str, ...] = ()
        self.refuses_usage = False
        self.configure(config, defaults)

    def configure(self, config: UpstreamConfig, defaults: Timeouts) -> None:
        """Take the file's values; the state stays."""
        self.config = config
        self.name = config.name
        key = config.api_key.get_secret_value()
        self.headers = {"Content-Type": "application/json", **config.headers}
        if key:
            self.headers["Authorization"] = f"Bearer {key}"
        self._urls: dict[str, URL] = {}
        own = config.timeouts
        self.timeouts = Timeouts(
            own.connect or defaults.connect, own.first_byte or defaults.first_byte, own.idle or defaults.idle
        )

    @property
    def asks_usage(self) -> bool:
        """True when streams may be asked for their usage; some servers refuse the field."""
        return self.config.ask_usage and not self.refuses_usage

    def url(self, path: str) -> URL:
        """The address of a door such as `/chat/completions`."""
        if path not in self._urls:
            self._urls[path] = URL(self.config.root + path)
        return self._urls[path]

    def view(self, now: float, *, tried: bool) -> routing.View:
        return routing.View(
            self.config.priority,
            self.config.weight,
            self.pending,
            self.config.max_concurrent,
            self.healthy,
            breaker.allows(self.breaker, now),
            now < self.cooling_until,
            tried,
        )


@dataclass(slots=True, eq=False)
class Lease:
    """The right to make one call. Settle it exactly once: `succeeded`, `failed` or `abandoned`."""

    upstream: Upstream
    model: str
    _pool: Pool
    _probe: bool

    def first_byte(self) -> None:
        """A probe that answers is proof enough, however long the answer takes to end."""
        if self._probe:
            self._pool.settle(self, lambda b, now, policy: breaker.succeeded(b, now, policy, probe=True), ends=False)
            self._probe = False

    def succeeded(self) -> None:
        probe = self._probe
        self._pool.settle(self, lambda b, now, policy: breaker.succeeded(b, now, policy, probe=probe))

    def failed(self, failure: UpstreamFailure) -> None:
        if failure.retry_after is not None:
            self._pool.cool(self.upstream, failure.retry_after)
        if not counts_against(failure):
            self.succeeded()
            return
        probe = self._probe
        self._pool.settle(self, lambda b, now, policy: breaker.failed(b, now, policy, probe=probe))

    def abandoned(self) -> None:
        probe = self._probe
        self._pool.settle(self, lambda b, _now, _policy: breaker.abandoned(b, probe=probe))


@dataclass(slots=True, eq=False)
class _Waiter:
    route: routing.Route
    tried: frozenset[str]
    future: asyncio.Future[Lease]


class Pool:
    """All upstreams of the current configuration. `clock` is monotonic seconds."""

    def __init__(self, config: GatewayConfig, defaults: Timeouts, clock: Clock) -> None:
        self._clock = clock
        self._defaults = defaults
        self._turn = 0
        self._waiters: list[_Waiter] = []
        self._routes: dict[str, routing.Route | None] = {}
        self._upstreams: dict[str, Upstream] = {}
        self.reload(config)

    def reload(self, config: GatewayConfig) -> None:
        """Take a new configuration. Calls under way end as they began; an upstream that stays keeps its state."""
        self.config = config
        kept = {}
        for part in config.upstreams:
            old = self._upstreams.get(part.name)
            if old is not None and old.config.base_url == part.base_url:
                old.configure(part, self._defaults)
            kept[part.name] = old if old and old.config is part else Upstream(part, self._defaults)
        self._upstreams = kept
        self._routes.clear()
        self._place_waiters()

    @property
    def upstreams(self) -> Sequence[Upstream]:
        return list(self._upstreams.values())

    @property
    def queued(self) -> int:
        """Requests that wait for a free upstream."""
        return len(self._waiters)

    def note_listed(self, upstream: Upstream, models: tuple[str, ...]) -> None:
        """Remember what an upstream says it serves."""
        if upstream.listed != models:
            upstream.listed = models
            self._routes.clear()

    def note_health(self, upstream: Upstream, *, healthy: bool) -> None:
        """Remember the outcome of an active check."""
        upstream.healthy = healthy
        if healthy:
            self._place_waiters()

    def public_models(self) -> list[str]:
        """The names that `/v1/models` lists."""
        return routing.public_models(self.config, [name for u in self._upstreams.values() for name in u.listed])

    def resolve(self, asked: str) -> routing.Route:
        """Return the route of a model. Raises `NotFound` (`model-not-found`)."""
        if asked not in self._routes:
            if len(self._routes) > 10_000:
                self._routes.clear()
            self._routes[asked] = routing.resolve(self.config, asked, default=self._default_model())
        route = self._routes[asked]
        if route is None:
            what = f"There is no model {asked}" if asked else "The request names no model and there is no default one"
            raise NotFound("model-not-found", f"{what}; GET /v1/models lists them.", errors=[{"field": "model"}])
        return route

    def _default_model(self) -> str:
        if not self.config.upstreams:
            return EXTRACTIVE_MODEL if self.config.serves_extractive else ""
        for upstream in self._upstreams.values():
            named = [model.name for model in upstream.config.models if "*" not in model.name]
            if found := [*named, *upstream.listed]:
                return found[0]
        return ""

    def others_left(self, route: routing.Route, tried: frozenset[str]) -> bool:
        """True when a candidate that was not tried could be asked now or once it is free."""
        now = self._clock()
        return any(
            c.upstream not in tried
            and (u := self._upstreams.get(c.upstream)) is not None
            and breaker.allows(u.breaker, now)
            and now >= u.cooling_until
            for c in route.candidates
        )

    async def acquire(self, route: routing.Route, tried: frozenset[str], deadline: float) -> Lease:
        """Return the right to one call, waiting in the queue while all are busy.

        Raises `TooMany` when the queue is full or all asked for quiet, `Unavailable` when none may be asked,
        `UpstreamError` (504, `deadline-exceeded`) when `deadline` (on the pool's clock) passes first.
        """
        found = self._try(route, tried)
        if isinstance(found, Lease):
            return found
        if found is routing.Verdict.FULL:
            return await self._wait(route, tried, deadline)
        raise self._refusal(route, found)

    def _refusal(self, route: routing.Route, verdict: routing.Verdict) -> ServiceError:
        if verdict is routing.Verdict.COOLING:
            wait = max(1, round(self._calm_in(route)))
            detail = f"The model servers for {route.public} asked for a pause."
            return TooMany("upstream-rate-limited", detail, retry_after=wait)
        return Unavailable(
            "no-upstream",
            f"No model server for {route.public} answers at the moment.",
            headers={"Retry-After": str(max(1, round(self._opens_in(route))))},
        )

    def _try(self, route: routing.Route, tried: frozenset[str]) -> Lease | routing.Verdict:
        now = self._clock()
        known = [(c, self._upstreams[c.upstream]) for c in route.candidates if c.upstream in self._upstreams]
        views = [upstream.view(now, tried=candidate.upstream in tried) for candidate, upstream in known]
        self._turn += 1
        chosen = routing.choose(views, self._turn)
        if isinstance(chosen, routing.Verdict):
            return chosen
        candidate, upstream = known[chosen]
        upstream.pending += 1
        probe = upstream.breaker.opened is not None
        upstream.breaker = breaker.started(upstream.breaker)
        return Lease(upstream, candidate.model, self, probe)

    async def _wait(self, route: routing.Route, tried: frozenset[str], deadline: float) -> Lease:
        if len(self._waiters) >= self.config.queue.size:
            raise TooMany("queue-full", "All model servers are busy and the queue is full.", retry_after=1)
        waiter = _Waiter(route, tried, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(max(0.0, deadline - self._clock())):
                return await waiter.future
        except TimeoutError:
            self._give_back(waiter)
            raise deadline_exceeded("waiting for a free model server") from None
        except asyncio.CancelledError:
            self._give_back(waiter)
            raise
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    @staticmethod
    def _give_back(waiter: _Waiter) -> None:
        if waiter.future.done() and not waiter.future.cancelled() and waiter.future.exception() is None:
            waiter.future.result().abandoned()

    def _place_waiters(self) -> None:
        """Serve the queue in order, as far as there is room."""
        for waiter in list(self._waiters):
            if waiter.future.done():
                continue
            placed = self._try(waiter.route, waiter.tried)
            if placed is routing.Verdict.FULL:
                continue
            self._waiters.remove(waiter)
            if isinstance(placed, Lease):
                waiter.future.set_result(placed)
            else:
                waiter.future.set_exception(self._refusal(waiter.route, placed))

    def settle(self, lease: Lease, change: Callable[..., breaker.Breaker], *, ends: bool = True) -> None:
        """Book the outcome of a call; when it ends, its place goes to the first in the queue that it can serve."""
        upstream = lease.upstream
        upstream.breaker = change(upstream.breaker, self._clock(), self.config.breaker)
        if ends:
            upstream.pending -= 1
            if self._waiters:
                self._place_waiters()

    def cool(self, upstream: Upstream, seconds: float) -> None:
        """Leave an upstream alone for as long as its `Retry-After` says, five minutes at most."""
        upstream.cooling_until = max(upstream.cooling_until, self._clock() + min(seconds, 300.0))

    def _calm_in(self, route: routing.Route) -> float:
        now = self._clock()
        known = [self._upstreams[c.upstream] for c in route.candidates if c.upstream in self._upstreams]
        return min((upstream.cooling_until - now for upstream in known), default=1.0)

    def _opens_in(self, route: routing.Route) -> float:
        now = self._clock()
        known = [self._upstreams[c.upstream] for c in route.candidates if c.upstream in self._upstreams]
        return min((breaker.opens_in(upstream.breaker, now) for upstream in known), default=1.0)


def deadline_exceeded(doing: str) -> UpstreamError:
    """The 504 of a request whose time is up."""
    return UpstreamError("deadline-exceeded", f"The time for this request was up while {doing}.", status=504)
