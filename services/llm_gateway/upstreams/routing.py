"""Which upstream a request goes to: pure functions over what is known at that moment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase

from zhiwen.common.prompts import EXTRACTIVE_MODEL
from zhiwen.llm_gateway.config import GatewayConfig


@dataclass(frozen=True, slots=True)
class Candidate:
    """An upstream that can serve a model, and what it calls that model."""

    upstream: str
    model: str


@dataclass(frozen=True, slots=True)
class Route:
    """Where the model `public` is served; no candidates: by the built-in answerer."""

    public: str
    candidates: tuple[Candidate, ...] = ()

    @property
    def built_in(self) -> bool:
        return not self.candidates


@dataclass(frozen=True, slots=True)
class View:
    """What is known of one candidate now. `allowed`: its breaker lets a call through; `cooling`: it asked for quiet."""

    priority: int
    weight: float
    pending: int
    limit: int
    healthy: bool = True
    allowed: bool = True
    cooling: bool = False
    tried: bool = False


class Verdict(Enum):
    """Why no candidate was chosen."""

    FULL = "all at their limit"
    COOLING = "all asked for quiet"
    NONE = "none is left"


def resolve(config: GatewayConfig, asked: str, *, default: str) -> Route | None:
    """Return the route of the model a client asked for; None when there is no such model.

    Exact names and aliases come before wildcards, a longer wildcard before a shorter one; nothing or `default` asks
    for the default model.
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
    """Return what can be asked for by name, in the file's order: names, aliases, what upstreams list under their
    wildcards (`listed`), and the built-in answerer where it serves."""
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
    """True when a key with these model patterns may ask for `model`."""
    return any(fnmatchcase(model, pattern) for pattern in patterns)


def choose(views: Sequence[View], turn: int) -> int | Verdict:
    """Return the index of the candidate to ask: weighted least-pending among the healthy of the best priority.

    `turn` rotates among equals. Where active checks call all of them ill, those whose breaker is closed are asked
    anyway: the checks may be wrong, and the call itself is the proof. A full best priority queues and does not spill.
    """
    usable = [i for i, view in enumerate(views) if view.allowed and not view.tried]
    if not usable:
        return Verdict.NONE
    calm = [i for i in usable if not views[i].cooling]
    if not calm:
        return Verdict.COOLING
    alive = [i for i in calm if views[i].healthy] or calm
    best = min(views[i].priority for i in alive)
    free = [i for i in alive if views[i].priority == best and views[i].pending < views[i].limit]
    if not free:
        return Verdict.FULL
    lowest = min((views[i].pending + 1) / views[i].weight for i in free)
    equals = [i for i in free if (views[i].pending + 1) / views[i].weight == lowest]
    return equals[turn % len(equals)]
