"""The fusion of two rankings into one."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiwen.common.embedding.background import Standard
from zhiwen.common.models import Fusion
from zhiwen.common.store import Ranking
from zhiwen.query.search.fusion import Halves, Measure, Weighing, scaled
from zhiwen.query.search.relevance import DenseWeight

FUSIONS: tuple[Fusion, ...] = get_args(Fusion)


def halves(lexical: Ranking, dense: Ranking, limit: int, weight: float, *, estimated: bool = False) -> Halves:
    """Return halves in a collection of 50 chunks where unrelated cosines are 0.2 ± 0.1."""
    measure = Measure(Standard(0.2, 0.1), 0.4, 50)
    return Halves(lexical, dense, limit, Weighing(DenseWeight(weight, estimated), measure, 45.0, 1.0))


def test_chunk_with_more_of_either_half_is_more_relevant() -> None:
    relevance = halves({"a": 0.8, "b": 0.8, "c": 0.2}, {"a": 0.9, "b": 0.4, "c": 0.4}, 10, 0.3).relevance()
    assert list(relevance) == ["a", "b", "c"]


def test_chunk_outside_a_full_half_counts_as_its_last_chunk_and_otherwise_as_nothing() -> None:
    full = halves({"a": 0.8, "b": 0.4}, {"b": 0.9, "c": 0.5}, 2, 0.3)
    filled_in = halves({"a": 0.8, "b": 0.4, "c": 0.4}, {"b": 0.9, "c": 0.5, "a": 0.5}, 3, 0.3)
    assert full.relevance() == filled_in.relevance()
    assert full.parts() == filled_in.parts()
    assert halves({"a": 0.8}, {"c": 0.5}, 2, 0.3).parts()["c"][0] == 0.0
    assert halves({"a": 0.8}, {"c": 0.5}, 2, 0.3).parts()["a"][1] == pytest.approx(0)


def test_weight_of_nothing_leaves_the_words_alone() -> None:
    lexical = {"a": 0.8, "b": 0.4, "c": 0.1}
    assert list(halves(lexical, {"c": 0.9, "b": 0.8}, 3, 0.0).relevance()) == ["a", "b", "c"]


def test_unknown_model_leads_where_a_cosine_is_far_beyond_chance() -> None:
    lexical, dense = {"a": 0.6, "b": 0.1}, {"b": 0.95, "a": 0.3}
    assert list(halves(lexical, dense, 10, 0.0, estimated=True).relevance()) == ["b", "a"]
    assert list(halves(lexical, {"b": 0.45, "a": 0.3}, 10, 0.0, estimated=True).relevance()) == ["a", "b"]


def test_parts_of_a_search_in_vectors_alone_have_no_words() -> None:
    (words, low), (_, high) = Measure(Standard(0.2, 0.1), 0.4, 50).parts({"a": 0.2, "b": 0.9}).values()
    assert words is None
    assert low is not None
    assert high is not None
    assert 0 < low < 0.2
    assert 0.8 < high < 1


def test_min_max_scales_each_half() -> None:
    assert scaled({"a": 0.4, "b": 0.3, "c": 0.2}) == {"a": 1.0, "b": pytest.approx(0.5), "c": 0.0}
    assert (scaled({}), scaled({"a": 0.3, "b": 0.3})) == ({}, {"a": 1.0, "b": 1.0})
    found = halves({"a": 0.4, "b": 0.3, "c": 0.2}, {"c": 0.9, "a": 0.8}, 3, 0.5)
    assert found.min_max() == {"a": 1 / 1.5, "b": pytest.approx(0.5 / 1.5), "c": 0.5 / 1.5}


def test_reciprocal_ranks_are_summed() -> None:
    found = halves({"a": 0.9, "b": 0.1}, {"b": 0.8, "c": 0.7}, 2, 0.3)
    assert found.rrf() == {"a": 1 / 61, "b": 1 / 62 + 1 / 61, "c": 1 / 62}
    assert list(found.rrf()) == ["b", "a", "c"]


scored = st.dictionaries(st.sampled_from("abcdef"), st.floats(0, 1), max_size=6).map(
    lambda half: dict(sorted(half.items(), key=lambda item: -item[1]))
)


@given(scored, scored, st.floats(0, 3), st.integers(1, 6), st.booleans())
def test_every_fusion_keeps_every_chunk_once_with_its_relevance(
    lexical: dict[str, float], dense: dict[str, float], weight: float, limit: int, estimated: bool
) -> None:
    found = halves(lexical, dense, limit, weight, estimated=estimated)
    relevance = found.relevance()
    assert set(relevance) == set(found.parts()) == {*lexical, *dense}
    assert list(relevance.values()) == sorted(relevance.values(), reverse=True)
    assert all(0 <= score <= 1 for score in relevance.values())
    for fusion in FUSIONS:
        assert found.fused(fusion) == relevance
    assert list(found.fused("rrf")) == list(found.rrf())
    assert list(found.fused("min_max")) == list(found.min_max())


@given(scored, scored, st.floats(0, 3), st.integers(1, 6), st.booleans())
def test_no_chunk_outside_both_halves_has_more_than_the_rest(
    lexical: dict[str, float], dense: dict[str, float], weight: float, limit: int, estimated: bool
) -> None:
    cut = [dict(list(half.items())[:limit]) for half in (lexical, dense)]
    found = halves(cut[0], cut[1], limit, weight, estimated=estimated)
    whole = halves(lexical, dense, 7, weight, estimated=estimated).relevance()
    outside = [score for id, score in whole.items() if id not in found.relevance()]
    assert all(score <= found.rest + 1e-12 for score in outside)
