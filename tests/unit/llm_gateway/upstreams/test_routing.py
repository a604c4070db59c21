"""Where a request goes: resolving a model, and choosing among its upstreams."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiwen.llm_gateway.config import parse_config
from zhiwen.llm_gateway.upstreams.routing import (
    Candidate,
    CandidateState,
    NoCandidate,
    choose,
    may_use,
    public_models,
    resolve,
)


def config(**parts: Any) -> Any:
    return parse_config(parts, source="test")


def upstream(name: str, *models: Any) -> dict[str, Any]:
    return {"name": name, "base_url": f"http://{name}.test/v1", "models": list(models)}


TWO = config(
    upstreams=[
        upstream("a", {"name": "Qwen2.5-7B", "aliases": ["qwen"]}, "shared", "gpt-*"),
        upstream("b", "shared", "*", "gpt-4*"),
    ],
    default_model="qwen",
)


@pytest.mark.parametrize(
    ("asked", "public", "candidates"),
    [
        ("qwen", "qwen", [("a", "Qwen2.5-7B")]),
        ("Qwen2.5-7B", "Qwen2.5-7B", [("a", "Qwen2.5-7B")]),
        ("shared", "shared", [("a", "shared"), ("b", "shared")]),
        ("gpt-4o", "gpt-4o", [("b", "gpt-4o")]),
        ("gpt-3.5", "gpt-3.5", [("a", "gpt-3.5")]),
        ("anything", "anything", [("b", "anything")]),
        ("", "qwen", [("a", "Qwen2.5-7B")]),
        ("default", "qwen", [("a", "Qwen2.5-7B")]),
    ],
)
def test_exact_before_wildcard_and_longer_before_shorter(asked: str, public: str, candidates: list[Any]) -> None:
    route = resolve(TWO, asked, default="")
    assert route is not None
    assert route.public == public
    assert route.candidates == tuple(Candidate(*pair) for pair in candidates)


def test_an_unknown_model_has_no_route() -> None:
    assert resolve(config(upstreams=[upstream("a", "one")]), "two", default="one") is None


def test_without_upstreams_the_built_in_answerer_is_the_default() -> None:
    route = resolve(config(), "", default="zhiwen-extractive")
    assert route is not None
    assert route.built_in
    assert resolve(config(), "gpt-4", default="zhiwen-extractive") is None


def test_with_upstreams_the_built_in_answerer_serves_only_where_asked_for() -> None:
    assert resolve(config(upstreams=[upstream("a", "one")]), "zhiwen-extractive", default="one") is None
    both = config(upstreams=[upstream("a", "one")], extractive=True)
    route = resolve(both, "zhiwen-extractive", default="one")
    assert route is not None
    assert route.built_in


def test_models_are_listed_once_with_aliases_and_what_wildcards_stand_for() -> None:
    assert public_models(TWO, ["gpt-4o", "shared"]) == ["Qwen2.5-7B", "qwen", "shared", "gpt-4o"]
    assert public_models(config()) == ["zhiwen-extractive"]


def test_a_key_may_use_what_its_patterns_name() -> None:
    assert may_use(("qwen", "gpt-*"), "gpt-4o")
    assert not may_use(("qwen",), "qwen2")
    assert not may_use((), "qwen")


def view(**changes: Any) -> CandidateState:
    values: dict[str, Any] = {"priority": 0, "weight": 1.0, "pending": 0, "limit": 2}
    return CandidateState(**{**values, **changes})


def test_least_pending_by_weight() -> None:
    assert choose([view(pending=1), view(pending=0)], 0) == 1
    assert choose([view(pending=2, weight=4.0, limit=9), view(pending=0)], 0) == 0


def test_weights_share_the_calls_in_proportion() -> None:
    pending = [0, 0]
    for turn in range(30):
        chosen = choose([view(weight=2.0, pending=pending[0], limit=99), view(pending=pending[1], limit=99)], turn)
        assert isinstance(chosen, int)
        pending[chosen] += 1
    assert pending == [20, 10]


def test_equals_take_turns() -> None:
    assert {choose([view(), view(), view()], turn) for turn in range(3)} == {0, 1, 2}


def test_the_best_priority_is_asked_first_and_does_not_spill_when_full() -> None:
    assert choose([view(priority=1), view(priority=0, pending=1)], 0) == 1
    assert choose([view(priority=1), view(priority=0, pending=2)], 0) is NoCandidate.BUSY
    assert choose([view(priority=1), view(priority=0, healthy=False)], 0) == 0
    assert choose([view(priority=1), view(priority=0, allowed=False)], 0) == 0
    assert choose([view(priority=1), view(priority=0, cooling=True)], 0) == 0
    assert choose([view(priority=1), view(priority=0, tried=True)], 0) == 0


def test_where_checks_call_all_ill_they_are_asked_anyway() -> None:
    assert choose([view(healthy=False), view(healthy=False, pending=1)], 0) == 0


def test_none_is_left() -> None:
    assert choose([], 0) is NoCandidate.NONE
    assert choose([view(tried=True), view(allowed=False)], 0) is NoCandidate.NONE
    assert choose([view(cooling=True), view(allowed=False)], 0) is NoCandidate.COOLING


ALL_VIEWS = [
    CandidateState(priority, weight, pending, 2, healthy, allowed, cooling, tried)
    for priority, weight, pending, healthy, allowed, cooling, tried in itertools.product(
        (0, 1), (1.0, 2.0), (0, 1, 2), (True, False), (True, False), (True, False), (True, False)
    )
]


@given(st.lists(st.sampled_from(ALL_VIEWS), max_size=5), st.integers(0, 10))
def test_a_choice_is_always_allowed_untried_calm_and_has_room(views: list[CandidateState], turn: int) -> None:
    chosen = choose(views, turn)
    usable = [v for v in views if v.allowed and not v.tried]
    if chosen is NoCandidate.NONE:
        assert not usable
    elif chosen is NoCandidate.COOLING:
        assert usable
        assert all(v.cooling for v in usable)
    elif chosen is NoCandidate.BUSY:
        assert any(v.pending >= v.limit for v in usable)
    else:
        assert isinstance(chosen, int)
        picked = views[chosen]
        assert picked in usable
        assert not picked.cooling
        assert picked.pending < picked.limit
        better = [v for v in usable if not v.cooling and v.healthy and v.priority < picked.priority]
        assert not better or not picked.healthy or not any(v.pending < v.limit for v in better)
        if any(v.healthy and not v.cooling for v in usable):
            assert picked.healthy
