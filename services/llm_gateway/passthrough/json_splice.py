"""Changes single top-level members of a JSON object and leaves every other byte unchanged.

Parsing and serializing the object again would change how numbers, escapes and white space are written. The gateway
promises to pass a body on byte for byte. The caller has already parsed the input as valid JSON (RFC 8259).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import orjson

_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_KEY = re.compile(rb"[\s,]*+(" + _STRING + rb")\s*+:\s*+", re.DOTALL)
_SCALAR = re.compile(_STRING + rb"|[^,}\]\s]++", re.DOTALL)
_NESTING = re.compile(_STRING + rb"|[{}\[\]]", re.DOTALL)


class Member(NamedTuple):
    """One top-level member. `start`, `value` and `end` are offsets of its key, of its value and just past its value."""

    key: str
    start: int
    value: int
    end: int


def members(body: bytes) -> list[Member]:
    """Return the top-level members of the object `body` in order, repeated keys included.

    Raises `ValueError` when `body` is not a JSON object.
    """
    position = body.find(b"{") + 1
    if position == 0:
        raise ValueError("not a JSON object")
    found = []
    while match := _KEY.match(body, position):
        end = _value_end(body, match.end())
        found.append(Member(orjson.loads(match[1]), match.start(1), match.end(), end))
        position = end
    return found


def _value_end(body: bytes, start: int) -> int:
    if body[start : start + 1] not in (b"{", b"["):
        if scalar := _SCALAR.match(body, start):
            return scalar.end()
        raise ValueError("not valid JSON")
    depth = 0
    for token in _NESTING.finditer(body, start):
        match token[0]:
            case b"{" | b"[":
                depth += 1
            case b"}" | b"]":
                depth -= 1
                if depth == 0:
                    return token.end()
    raise ValueError("not valid JSON")


def splice(body: bytes, replace: Mapping[str, bytes]) -> bytes:
    """Return `body` with the given top-level members set to these JSON values. New keys are put first.

    A key that occurs twice is replaced twice, so that no reader sees the old value. Raises `ValueError` like `members`.
    """
    spans = members(body)
    present = {member.key for member in spans}
    out: list[bytes] = []
    position = body.find(b"{") + 1
    out.append(body[:position])
    added = [orjson.dumps(key) + b":" + value for key, value in replace.items() if key not in present]
    if added:
        out.append(b",".join(added) + (b"," if spans else b""))
    for member in spans:
        if member.key in replace:
            out += (body[position : member.value], replace[member.key])
            position = member.end
    out.append(body[position:])
    return b"".join(out)


def without(body: bytes, key: str) -> bytes:
    """Return `body` without its top-level member `key` and the comma beside it."""
    while True:
        spans = members(body)
        index = next((i for i, member in enumerate(spans) if member.key == key), None)
        if index is None:
            return body
        if index + 1 < len(spans):
            body = body[: spans[index].start] + body[spans[index + 1].start :]
        else:
            begin = spans[index - 1].end if index else spans[index].start
            body = body[:begin] + body[spans[index].end :]
