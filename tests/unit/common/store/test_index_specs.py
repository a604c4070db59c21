"""Index types, metrics and parameters are checked before anything is created."""

from __future__ import annotations

from typing import Any

import pytest

from zhiwen.common.errors import InvalidRequest
from zhiwen.common.models import IndexSpec
from zhiwen.common.store.index_specs import (
    BUILD,
    DEFAULTS,
    METRICS,
    SEARCH,
    fitted_search,
    validated_index,
    validated_search,
)

EVERYTHING = frozenset(BUILD)


def validated(spec: IndexSpec, dimension: int = 384, available: frozenset[str] = EVERYTHING) -> IndexSpec:
    return validated_index(spec, dimension=dimension, available=available)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("index_type", BUILD)
def test_every_index_and_metric_has_valid_defaults(index_type: str, metric: str) -> None:
    assert validated(IndexSpec(index_type, metric)) == IndexSpec(index_type, metric, DEFAULTS.get(index_type, {}), {})


@pytest.mark.parametrize(
    ("index_type", "name", "low", "high"),
    [(index_type, name, *bounds) for index_type, known in BUILD.items() for name, bounds in known.items()],
)
def test_build_parameters_keep_to_their_range(index_type: str, name: str, low: int, high: int) -> None:
    for value in (low, min(high, 32)):
        params: dict[str, Any] = {name: value}
        if name != "m" or not 384 % value:
            assert validated(IndexSpec(index_type, params=params)).params[name] == value
    for wrong in (low - 1, high + 1, 1.5, "16", True, None):
        with pytest.raises(InvalidRequest, match=f"bad-index-parameter.*{name}.*{low} to {high}"):
            validated(IndexSpec(index_type, params={name: wrong}))


@pytest.mark.parametrize(
    ("index_type", "name", "low", "high"),
    [(index_type, name, *bounds) for index_type, known in SEARCH.items() for name, bounds in known.items()],
)
def test_search_parameters_keep_to_their_range(index_type: str, name: str, low: int, high: int) -> None:
    index = validated(IndexSpec(index_type))
    assert validated_search(index, {name: low}) == {name: low}
    for wrong in (low - 1, high + 1, 1.5, "16", True, None):
        with pytest.raises(InvalidRequest, match=f"bad-search-parameter.*{name}.*{low} to {high}"):
            validated_search(index, {name: wrong})
    with pytest.raises(InvalidRequest, match="bad-search-parameter"):
        validated(IndexSpec(index_type, search={name: high + 1}))


@pytest.mark.parametrize(
    ("spec", "dimension", "code"),
    [
        (IndexSpec("HNSWW"), 384, "unknown-index-type.*HNSWW.*IVF_FLAT"),
        (IndexSpec("FLAT", "COSINUS"), 384, "unknown-metric.*COSINUS.*COSINE, IP, L2"),
        (IndexSpec("HNSW", params={"nlist": 10}), 384, "bad-index-parameter.*nlist.*M, efConstruction"),
        (IndexSpec("FLAT", params={"M": 10}), 384, "bad-index-parameter.*M is not known; there are: none"),
        (IndexSpec("IVF_PQ"), 100, "bad-index-parameter.*8 does not divide 100"),
        (IndexSpec("SCANN"), 99, "bad-index-parameter.*99 is odd"),
        (IndexSpec("IVF_FLAT", params={"nlist": 16}, search={"nprobe": 17}), 384, "bad-search-parameter.*17.*16 lists"),
        (IndexSpec("HNSW", search={"nprobe": 8}), 384, "bad-search-parameter.*nprobe.*ef"),
    ],
    ids=str,
)
def test_what_is_wrong_is_named(spec: IndexSpec, dimension: int, code: str) -> None:
    with pytest.raises(InvalidRequest, match=code):
        validated(spec, dimension)


def test_index_that_the_server_lacks_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequest, match=r"index-not-available.*HNSW; it has AUTOINDEX, FLAT"):
        validated(IndexSpec("HNSW"), available=frozenset({"FLAT", "AUTOINDEX"}))


def test_a_request_overrules_the_knowledge_base() -> None:
    index = IndexSpec("IVF_FLAT", params={"nlist": 64}, search={"nprobe": 8})
    assert fitted_search(index, {}, 100) == {"nprobe": 8}
    assert fitted_search(index, {"nprobe": 32}, 100) == {"nprobe": 32}


def test_breadth_is_never_below_what_is_asked_for() -> None:
    index = IndexSpec("HNSW", search={"ef": 64})
    assert fitted_search(index, {}, 10) == {"ef": 64}
    assert fitted_search(index, {}, 110) == {"ef": 110}
    assert fitted_search(index, {"ef": 200}, 110) == {"ef": 200}
    assert fitted_search(IndexSpec("HNSW"), {}, 110) == {}
