"""The options of an upload, for all its files: their metadata, and what to do with bytes that are already stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

import orjson

from zhiwen.common.errors import InvalidRequest
from zhiwen.common.ledger import OnDuplicate

MAX_METADATA_BYTES = 60_000  # Milvus stores at most 65,536 bytes of JSON
MAX_METADATA_DEPTH = 32
ON_DUPLICATE: tuple[OnDuplicate, ...] = get_args(OnDuplicate)


@dataclass(frozen=True, slots=True)
class UploadOptions:
    """The options of an upload. `metadata` None: a document keeps its present metadata."""

    metadata: Mapping[str, Any] | None = None
    on_duplicate: OnDuplicate = "keep"


def checked_options(metadata: str | None, on_duplicate: str | None) -> UploadOptions:
    """Return the options that a client sent as text. None means the default, and so does an empty `metadata`.

    Raises `InvalidRequest` (`invalid-json`, `bad-metadata`, `bad-on-duplicate`).
    """
    return UploadOptions(_checked_metadata(metadata), _checked_on_duplicate(on_duplicate))


def _checked_metadata(text: str | None) -> Mapping[str, Any] | None:
    if not text:
        return None
    try:
        value = orjson.loads(text)
    except ValueError as exc:
        raise InvalidRequest("invalid-json", "The field metadata is not valid JSON.") from exc
    if not isinstance(value, dict):
        raise InvalidRequest("bad-metadata", "The field metadata must be a JSON object.")
    if _depth(value) > MAX_METADATA_DEPTH or len(orjson.dumps(value)) > MAX_METADATA_BYTES:
        raise InvalidRequest(
            "bad-metadata", f"metadata may have at most {MAX_METADATA_BYTES} bytes and {MAX_METADATA_DEPTH} levels."
        )
    return value


def _depth(value: Any) -> int:
    """Return the number of nested levels of objects and lists in a JSON value. `orjson` refuses more than 1024."""
    level, levels = [value], 0
    while level := [item for item in level if isinstance(item, dict | list)]:
        levels += 1
        level = [child for item in level for child in (item.values() if isinstance(item, dict) else item)]
    return levels


def _checked_on_duplicate(value: str | None) -> OnDuplicate:
    for known in ON_DUPLICATE:
        if value == known:
            return known
    if value is None:
        return "keep"
    raise InvalidRequest("bad-on-duplicate", f"on_duplicate must be one of {', '.join(ON_DUPLICATE)}.")
