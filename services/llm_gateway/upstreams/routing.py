"""Decides which upstream gets a request. Pure functions over the present state."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase

from zhiwen.common.prompts import EXTRACTIVE_MODEL
from zhiwen.llm_gateway.config import GatewayConfig


@dataclass(frozen=True, slots=True)
class Candidate:
    """An upstream that can serve a model, and its own name of that model."""

    upstream: str
    model: str


@dataclass(frozen=True, slots=True)
class Route:
    """The upstreams that serve a model, which clients call `public`. Without candidates, it is a built-in model."""

    public: str
    candidates: tuple[Candidate, ...] = ()

    @property
    def built_in(self) -> bool:
        """True when a built-in model serves the route."""
        return not self.candidates


@dataclass(frozen=True, slots=True)
class CandidateState:
    """The present state of one candidate.

    `priority` and `weight` are those of its upstream. `pending` is the number of running calls, and `limit` the most
    that may run. `healthy` is the result of its last health check. `allowed` is True when its breaker lets a call
    through, `cooling` while the server has asked for a pause, and `tried` when it has failed this request already.
    """

    priority: int
    weight: float
    pending: int
    limit: int
    healthy: bool = True
    allowed: bool = True
    cooling: bool = False
    tried: bool = False


class NoCandidate(Enum):
    """Why no candidate was chosen."""

    BUSY = "all are at their limit"
    COOLING = "all have asked for a pause"
    NONE = "none is left"


def resolve(config: GatewayConfig, asked: str, *, default: str) -> Route | None:
    """Return the route of the model that a client asked for, None when there is no such model.

    An exact name or alias wins over a wildcard, and a longer wildcard over a shorter one. The empty name and the name
    `default` mean the default model: that of the file, or else the argument `default`.
    """
    name = asked if asked not in ("", "default") else (config.default_model or default)
    if exact := _exact(config, name):
        return Route(name, exact)
    if name == EXTRACTIVE_MODEL and config.serves_extractive:
        return Route(name)
    if asked != name and not name:
        return None
    patterns = {
        model.name
        for upstream in config.upstreams
        for model in upstream.models
        if "*" in model.name and fnmatchcase(name, model.name)
    }
    if not name or not patterns:
        return None
    best = max(patterns, key=len)
    return Route(
        name, tuple(Candidate(u.name, name) for u in config.upstreams if any(m.name == best for m in u.models))
    )


def _exact(config: GatewayConfig, name: str) -> tuple[Candidate, ...]:
    found: dict[str, Candidate] = {}
    for upstream in config.upstreams:
        for model in upstream.models:
            if "*" not in model.name and name in (model.name, *model.aliases):
                found.setdefault(upstream.name, Candidate(upstream.name, model.name))
    return tuple(found.values())


def public_models(config: GatewayConfig, listed: Iterable[str] = ()) -> list[str]:
    """Return the models that can be asked for by name, in the file's order.

    These are all names and aliases of the file, the names in `listed` (what the upstreams say they serve) that match a
    wildcard, and the built-in answerer if it is on.
    """
    names: dict[str, None] = {}
    for upstream in config.upstreams:
        for model in upstream.models:
            if "*" not in model.name:
                names |= dict.fromkeys((model.name, *model.aliases))
    wildcards = [m.name for u in config.upstreams for m in u.models if "*" in m.name]
    names |= dict.fromkeys(name for name in listed if any(fnmatchcase(name, pattern) for pattern in wildcards))
    if config.default_model:
        names.setdefault(config.default_model)
    if config.serves_extractive:
        names.setdefault(EXTRACTIVE_MODEL)
    return list(names)


def may_use(patterns: Sequence[str], model: str) -> bool:
    """Return True when a key with these model patterns may ask for `model`."""
    return any(fnmatchcase(model, pattern) for pattern in patterns)


def choose(candidates: Sequence[CandidateState], turn: int) -> int | NoCandidate:
    """Return the index of the candidate to ask, or why there is none.

    Among the healthy candidates of the best priority, the one with the fewest pending calls for its weight is chosen.
    `turn` rotates among equals. When the best priority is full, the request waits and does not go to the next priority.
    When no candidate is healthy, those whose breaker lets a call through are asked anyway, because the health checks
    may be wrong.
    """
    usable = [i for i, candidate in enumerate(candidates) if candidate.allowed and not candidate.tried]
    if not usable:
        return NoCandidate.NONE
    calm = [i for i in usable if not candidates[i].cooling]
    if not calm:
        return NoCandidate.COOLING
    alive = [i for i in calm if candidates[i].healthy] or calm
    best = min(candidates[i].priority for i in alive)
    free = [i for i in alive if candidates[i].priority == best and candidates[i].pending < candidates[i].limit]
    if not free:
        return NoCandidate.BUSY
    lowest = min((candidates[i].pending + 1) / candidates[i].weight for i in free)
    equals = [i for i in free if (candidates[i].pending + 1) / candidates[i].weight == lowest]
    return equals[turn % len(equals)]
