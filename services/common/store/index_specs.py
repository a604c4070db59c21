"""The index types and the bounds of their parameters. They are checked before anything is created. Pure.

Names and ranges are Milvus's: https://milvus.io/docs/index.md and the page of each index there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zhiwen.common.errors import InvalidRequest
from zhiwen.common.models import IndexSpec

METRICS = ("COSINE", "IP", "L2")

Range = tuple[int, int]

NLIST: Range = (1, 65536)
NPROBE: Range = (1, 65536)

# Parameters by name, with the smallest and the largest allowed number: BUILD to build an index, SEARCH to search it.
BUILD: Mapping[str, Mapping[str, Range]] = {
    "AUTOINDEX": {},
    "FLAT": {},
    "IVF_FLAT": {"nlist": NLIST},
    "IVF_SQ8": {"nlist": NLIST},
    "IVF_PQ": {"nlist": NLIST, "m": (1, 65536), "nbits": (1, 16)},
    "HNSW": {"M": (2, 2048), "efConstruction": (1, 1 << 20)},
    "SCANN": {"nlist": NLIST, "with_raw_data": (0, 1)},
    "DISKANN": {},
}
SEARCH: Mapping[str, Mapping[str, Range]] = {
    "AUTOINDEX": {},
    "FLAT": {},
    "IVF_FLAT": {"nprobe": NPROBE},
    "IVF_SQ8": {"nprobe": NPROBE},
    "IVF_PQ": {"nprobe": NPROBE},
    "HNSW": {"ef": (1, 32768)},
    "SCANN": {"nprobe": NPROBE, "reorder_k": (1, 16384)},
    "DISKANN": {"search_list": (1, 65535)},
}
# The search parameter that must be at least the number of rows asked for.
BREADTH: Mapping[str, str] = {"HNSW": "ef", "SCANN": "reorder_k", "DISKANN": "search_list"}
DEFAULTS: Mapping[str, Mapping[str, int]] = {
    "IVF_FLAT": {"nlist": 128},
    "IVF_SQ8": {"nlist": 128},
    "IVF_PQ": {"nlist": 128, "m": 8, "nbits": 8},
    "HNSW": {"M": 16, "efConstruction": 200},
    "SCANN": {"nlist": 128},
}


def validated_index(spec: IndexSpec, *, dimension: int, available: frozenset[str]) -> IndexSpec:
    """Return `spec` with the defaults of its index.

    `dimension` is the length of the vectors, and `available` are the index types that the server has. Raises
    `InvalidRequest` with a code for what is wrong: `unknown-index-type`, `unknown-metric`,
    `index-not-available`, `bad-index-parameter`, `bad-search-parameter`.
    """
    if spec.type not in BUILD:
        raise InvalidRequest(
            "unknown-index-type", f"There is no index type {spec.type}; known are {', '.join(sorted(BUILD))}."
        )
    if spec.metric not in METRICS:
        raise InvalidRequest("unknown-metric", f"There is no metric {spec.metric}; known are {', '.join(METRICS)}.")
    if spec.type not in available:
        raise InvalidRequest(
            "index-not-available",
            f"The connected Milvus has no index type {spec.type}; it has {', '.join(sorted(available))}.",
        )
    params = {**DEFAULTS.get(spec.type, {}), **spec.params}
    _check(params, BUILD[spec.type], f"{spec.type} index parameter", "bad-index-parameter")
    if spec.type == "IVF_PQ" and dimension % int(params["m"]):
        raise InvalidRequest(
            "bad-index-parameter",
            f"IVF_PQ needs a dimension that m divides; {params['m']} does not divide {dimension}.",
        )
    if spec.type == "SCANN" and dimension % 2:
        raise InvalidRequest("bad-index-parameter", f"SCANN needs an even dimension; {dimension} is odd.")
    built = IndexSpec(spec.type, spec.metric, params)
    return IndexSpec(spec.type, spec.metric, params, validated_search(built, spec.search))


def validated_search(index: IndexSpec, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the search parameters of a request, checked.

    Raises `InvalidRequest` (`bad-search-parameter`) for a parameter that the index does not have or that is out of
    bounds.
    """
    _check(params, SEARCH[index.type], f"{index.type} search parameter", "bad-search-parameter")
    lists = index.params.get("nlist")
    if lists is not None and params.get("nprobe", 0) > lists:
        raise InvalidRequest(
            "bad-search-parameter", f"nprobe is {params['nprobe']}, but the index has only {lists} lists (nlist)."
        )
    return dict(params)


def fitted_search(index: IndexSpec, params: Mapping[str, Any], limit: int) -> dict[str, Any]:
    """Return the search parameters of an index, replaced by those of a request, for a search for `limit` rows.

    Milvus refuses a search whose breadth is smaller than `limit`, so the breadth is raised to it.
    """
    fitted = {**index.search, **params}
    breadth = BREADTH.get(index.type)
    if breadth in fitted:
        fitted[breadth] = max(fitted[breadth], min(limit, SEARCH[index.type][breadth][1]))
    return fitted


def _check(params: Mapping[str, Any], allowed: Mapping[str, Range], what: str, code: str) -> None:
    for name, value in params.items():
        if name not in allowed:
            known = ", ".join(sorted(allowed)) or "none"
            raise InvalidRequest(code, f"{what} {name} is not known; there are: {known}.")
        low, high = allowed[name]
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise InvalidRequest(code, f"{what} {name} must be a whole number from {low} to {high}.")
