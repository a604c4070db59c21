"""The fusion of two rankings into one."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiwen.common.models import Fusion
from zhiwen.query.search.fusion import Halves, scaled

FUSIONS: tuple[Fusion, ...] = get_args(Fusion)


def test_relevance_is_a_weighted_mean_best_first() -> None:
    relevance = Halves({"a": 0.8, "b": 0.2}, {"b": 1.0, "c": 0.4}, 2, 1.0).relevance()
    assert relevance == {"a": (0.8 + 0.4) / 2, "b": (0.2 + 1.0) / 2, "c": (0.2 + 0.4) / 2}
    assert list(relevance)[-1] == "c"
    assert Halves({"a": 0.5}, {"a": 0.2}, 1, 0.2).relevance() == {"a": pytest.approx(0.54 / 1.2)}


def test_chunk_that_a_half_with_room_did_not_return_scores_zero_in_it() -> None:
    relevance = Halves({"a": 0.8}, {"b": 1.0, "c": 0.4}, 2, 1.0).relevance()
    assert relevance == {"a": (0.8 + 0.4) / 2, "b": (0.0 + 1.0) / 2, "c": (0.0 + 0.4) / 2}


def test_min_max_scales_each_half() -> None:
    assert scaled({"a": 0.4, "b": 0.3, "c": 0.2}) == {"a": 1.0, "b": pytest.approx(0.5), "c": 0.0}
    assert (scaled({}), scaled({"a": 0.3, "b": 0.3})) == ({}, {"a": 1.0, "b": 1.0})
    halves = Halves({"a": 0.4, "b": 0.3, "c": 0.2}, {"c": 0.9, "a": 0.8}, 3, 0.5)
    assert halves.min_max() == {"a": 1 / 1.5, "b": pytest.approx(0.5 / 1.5), "c": 0.5 / 1.5}


def test_reciprocal_ranks_are_summed() -> None:
    halves = Halves({"a": 0.9, "b": 0.1}, {"b": 0.8, "c": 0.7}, 2, 0.3)
    assert halves.rrf() == {"a": 1 / 61, "b": 1 / 62 + 1 / 61, "c": 1 / 62}
    assert list(halves.rrf()) == ["b", "a", "c"]


scored = st.dictionaries(st.sampled_from("abcdef"), st.floats(0, 1), max_size=6).map(
    lambda half: dict(sorted(half.items(), key=lambda item: -item[1]))
)


@given(scored, scored, st.floats(0, 3), st.integers(1, 6))
def test_every_fusion_keeps_every_chunk_once_with_its_relevance(
    lexical: dict[str, float], dense: dict[str, float], weight: float, limit: int
) -> None:
    halves = Halves(lexical, dense, limit, weight)
    relevance = halves.relevance()
    assert set(relevance) == {*lexical, *dense}
    assert list(relevance.values()) == sorted(relevance.values(), reverse=True)
    assert all(0 <= score <= 1 for score in relevance.values())
    for fusion in FUSIONS:
        assert halves.fused(fusion) == relevance
    assert list(halves.fused("rrf")) == list(halves.rrf())
    assert list(halves.fused("min_max")) == list(halves.min_max())
