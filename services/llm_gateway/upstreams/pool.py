"""All upstreams: which may be asked for a model, which calls are running, and which requests wait in the queue.

`routing` and `breaker` decide; this module holds the numbers that they need. Everything runs in one event loop, so no
locks are needed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from zhiwen.common.errors import NotFound, ServiceError, TooMany, Unavailable
from zhiwen.common.prompts import EXTRACTIVE_MODEL
from zhiwen.llm_gateway.config import GatewayConfig
from zhiwen.llm_gateway.errors import UpstreamError, UpstreamFailure
from zhiwen.llm_gateway.upstreams import breaker, routing
from zhiwen.llm_gateway.upstreams.failures import counts_against
from zhiwen.llm_gateway.upstreams.http import Timeouts
from zhiwen.llm_gateway.upstreams.upstream import Upstream

Clock = Callable[[], float]

MOST_ROUTES = 10_000  # most routes to remember, so that clients with invented names do not fill the memory


@dataclass(slots=True, eq=False)
class Slot:
    """The right to make one call to an upstream, which serves a limited number at the same time.

    Settle it exactly once, with `succeeded`, `failed` or `abandoned`. It is then free for the next request. `model` is
    the upstream's name of the model.
    """

    upstream: Upstream
    model: str
    _pool: Pool
    _probe: bool
    _held: bool = True

    def first_byte(self) -> None:
        """Note that the answer has begun. A probe then counts as successful, however long its answer takes."""
        if self._probe:
            self._note_success()
            self._probe = False

    def succeeded(self) -> None:
        """Settle a call that went well."""
        self._note_success()
        self._free()

    def failed(self, failure: UpstreamFailure) -> None:
        """Settle a call that failed. It counts against the upstream only when the upstream is to blame."""
        upstream, pool = self.upstream, self._pool
        if failure.retry_after is not None:
            upstream.cool_down(pool.now(), failure.retry_after)
        if counts_against(failure):
            upstream.breaker = breaker.failed(upstream.breaker, pool.now(), pool.config.breaker, probe=self._probe)
        else:
            self._note_success()
        self._free()

    def abandoned(self) -> None:
        """Settle a call that neither succeeded nor failed. Does nothing if the slot is settled already."""
        if self._held:
            self.upstream.breaker = breaker.abandoned(self.upstream.breaker, probe=self._probe)
            self._free()

    def _note_success(self) -> None:
        upstream, pool = self.upstream, self._pool
        upstream.breaker = breaker.succeeded(upstream.breaker, pool.now(), pool.config.breaker, probe=self._probe)

    def _free(self) -> None:
        self._held = False
        self.upstream.pending -= 1
        self._pool.serve_queue()


@dataclass(slots=True, eq=False)
class _Waiter:
    route: routing.Route
    tried: frozenset[str]
    slot: asyncio.Future[Slot]


class Pool:
    """All upstreams of the current configuration.

    `defaults` are the timeouts of an upstream that has none of its own. `clock` returns monotonic seconds.
    """

    def __init__(self, config: GatewayConfig, defaults: Timeouts, clock: Clock) -> None:
        self.now = clock
        self._defaults = defaults
        self._turn = 0
        self._queue: list[_Waiter] = []
        self._routes: dict[str, routing.Route | None] = {}
        self._upstreams: dict[str, Upstream] = {}
        self.reload(config)

    def reload(self, config: GatewayConfig) -> None:
        """Use a new configuration. Running calls are not affected. An upstream that stays keeps its state."""
        self.config = config
        kept = {}
        for part in config.upstreams:
            old = self._upstreams.get(part.name)
            if old is not None and old.config.base_url == part.base_url:
                old.configure(part, self._defaults)
                kept[part.name] = old
            else:
                kept[part.name] = Upstream(part, self._defaults)
        self._upstreams = kept
        self._routes.clear()
        self.serve_queue()

    @property
    def upstreams(self) -> Sequence[Upstream]:
        """The upstreams, in the file's order."""
        return list(self._upstreams.values())

    @property
    def queued(self) -> int:
        """The number of requests that wait for a free upstream."""
        return len(self._queue)

    def note_listed(self, upstream: Upstream, models: tuple[str, ...]) -> None:
        """Remember which models an upstream says it serves."""
        if upstream.listed != models:
            upstream.listed = models
            self._routes.clear()

    def note_health(self, upstream: Upstream, *, healthy: bool) -> None:
        """Remember the outcome of an active check."""
        upstream.healthy = healthy
        if healthy:
            self.serve_queue()

    def public_models(self) -> list[str]:
        """Return the names of all models that clients can ask for."""
        return routing.public_models(self.config, [name for u in self._upstreams.values() for name in u.listed])

    def resolve(self, asked: str) -> routing.Route:
        """Return the route of a model. Raises `NotFound` (`model-not-found`)."""
        if asked not in self._routes:
            if len(self._routes) > MOST_ROUTES:
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
        """Return True when an upstream outside `tried` may be asked now, or as soon as it has a free slot."""
        now = self.now()
        return any(
            candidate.upstream not in tried and upstream.may_be_asked(now)
            for candidate, upstream in self._candidates(route)
        )

    async def acquire(self, route: routing.Route, tried: frozenset[str], deadline: float) -> Slot:
        """Return a slot for one call. Wait in the queue while all upstreams are busy.

        `tried` names the upstreams that have failed this request. `deadline` is on the pool's clock. Raises `TooMany`
        when the queue is full or all upstreams asked for a pause, `Unavailable` when none may be asked, and
        `UpstreamError` (504, `deadline-exceeded`) when the deadline passes first.
        """
        found = self._take_slot(route, tried)
        if isinstance(found, Slot):
            return found
        if found is routing.NoCandidate.BUSY:
            return await self._wait(route, tried, deadline)
        raise self._refusal(route, found)

    def _candidates(self, route: routing.Route) -> list[tuple[routing.Candidate, Upstream]]:
        """Return the candidates with their upstreams, without those that a reload has removed."""
        return [(c, self._upstreams[c.upstream]) for c in route.candidates if c.upstream in self._upstreams]

    def _take_slot(self, route: routing.Route, tried: frozenset[str]) -> Slot | routing.NoCandidate:
        now = self.now()
        known = self._candidates(route)
        self._turn += 1
        states = [upstream.state(now, tried=candidate.upstream in tried) for candidate, upstream in known]
        chosen = routing.choose(states, self._turn)
        if isinstance(chosen, routing.NoCandidate):
            return chosen
        candidate, upstream = known[chosen]
        upstream.pending += 1
        probe = upstream.breaker.opened is not None
        upstream.breaker = breaker.started(upstream.breaker)
        return Slot(upstream, candidate.model, self, probe)

    async def _wait(self, route: routing.Route, tried: frozenset[str], deadline: float) -> Slot:
        if len(self._queue) >= self.config.queue.size:
            raise TooMany("queue-full", "All model servers are busy and the queue is full.", retry_after=1)
        waiter = _Waiter(route, tried, asyncio.get_running_loop().create_future())
        self._queue.append(waiter)
        try:
            async with asyncio.timeout(max(0.0, deadline - self.now())):
                return await waiter.slot
        except TimeoutError:
            _give_back(waiter)
            raise deadline_exceeded("waiting for a free model server") from None
        except asyncio.CancelledError:
            _give_back(waiter)
            raise
        finally:
            if waiter in self._queue:
                self._queue.remove(waiter)

    def serve_queue(self) -> None:
        """Give free slots to the requests that wait, in the order in which they came."""
        if not self._queue:
            return
        for waiter in list(self._queue):
            if waiter.slot.done():
                continue
            found = self._take_slot(waiter.route, waiter.tried)
            if found is routing.NoCandidate.BUSY:
                continue
            self._queue.remove(waiter)
            if isinstance(found, Slot):
                waiter.slot.set_result(found)
            else:
                waiter.slot.set_exception(self._refusal(waiter.route, found))

    def _refusal(self, route: routing.Route, reason: routing.NoCandidate) -> ServiceError:
        now = self.now()
        upstreams = [upstream for _, upstream in self._candidates(route)]
        if reason is routing.NoCandidate.COOLING:
            pause = min((upstream.cooling_until - now for upstream in upstreams), default=1.0)
            detail = f"The model servers for {route.public} asked for a pause."
            return TooMany("upstream-rate-limited", detail, retry_after=max(1, round(pause)))
        opens_in = min((breaker.opens_in(upstream.breaker, now) for upstream in upstreams), default=1.0)
        return Unavailable(
            "no-upstream",
            f"No model server for {route.public} answers at the moment.",
            headers={"Retry-After": str(max(1, round(opens_in)))},
        )


def _give_back(waiter: _Waiter) -> None:
    """Free the slot of a waiter that was cancelled after it got the slot and before it used it."""
    if waiter.slot.done() and not waiter.slot.cancelled() and waiter.slot.exception() is None:
        waiter.slot.result().abandoned()


def deadline_exceeded(doing: str) -> UpstreamError:
    """Return the error 504 for a request whose time is up. `doing` says what it waited for."""
    return UpstreamError("deadline-exceeded", f"The time for this request was up while {doing}.", status=504)
