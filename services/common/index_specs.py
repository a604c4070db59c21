"""Which vector indexes exist, their parameters and bounds: checked before anything is created. Pure.

Names and ranges are Milvus's: https://milvus.io/docs/index.md
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.common.errors import InvalidRequest
from services.common.models import IndexSpec

METRICS = ("COSINE", "IP", "L2")

Range = tuple[int, int]

NLIST: Range = (1, 65536)
NPROBE: Range = (1, 65536)

BUILD: Mapping[str, Mapping[str, Range]] = {
    "AUTOINDEX": {},
    "FLAT": {},
    "IVF_FLAT": {"nlist": NLIST},
    "IVF_SQ8": {"nlist": NLIST},
    "IVF_PQ": {"nlist": NLIST, "m": (1, 65536), "nbits": (1, 24)},
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
DEFAULTS: Mapping[str, Mapping[str, int]] = {
    "IVF_FLAT": {"nlist": 128},
    "IVF_SQ8": {"nlist": 128},
    "IVF_PQ": {"nlist": 128, "m": 8, "nbits": 8},
    "HNSW": {"M": 16, "efConstruction": 200},
    "SCANN": {"nlist": 128},
}


def validated_index(spec: IndexSpec, *, dimension: int, available: frozenset[str]) -> IndexSpec:
    """Return `spec` with defaults filled in.

    `available` are the index types that the connected server has. Raises `InvalidRequest` naming what is wrong:
    `unknown-index-type`, `unknown-metric`, `index-not-available`, `bad-index-parameter`.
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
    _check(params, BUILD[spec.type], f"{spec.type} index parameter")
    _check(spec.search, SEARCH[spec.type], f"{spec.type} search parameter")
    if spec.type == "IVF_PQ" and dimension % int(params["m"]):
        raise InvalidRequest(
            "bad-index-parameter",
            f"IVF_PQ needs a dimension that m divides; {params['m']} does not divide {dimension}.",
        )
    return IndexSpec(spec.type, spec.metric, params, dict(spec.search))


def _check(params: Mapping[str, Any], allowed: Mapping[str, Range], what: str) -> None:
    for name, value in params.items():
        if name not in allowed:
            known = ", ".join(sorted(allowed)) or "none"
            raise InvalidRequest("bad-index-parameter", f"{what} {name} is not known; there are: {known}.")
        low, high = allowed[name]
        if not isinstance(value, int) or not low <= value <= high:
            raise InvalidRequest("bad-index-parameter", f"{what} {name} must be a whole number from {low} to {high}.")
