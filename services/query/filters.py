"""The JSON filter of clients, compiled to Milvus's filter language. Pure.

Clients never send expressions: every name is looked up, every value is written as a literal, so that no input changes
the meaning of the expression. Grammar in design section 6:

    {"page": {"gte": 3}}   {"and": [f, f]}   {"or": [f, f]}   {"not": f}   {"metadata.部门": {"in": ["人事", "财务"]}}
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from services.common.errors import InvalidRequest
from services.common.store import quoted

FIELDS: Mapping[str, type] = {"source": str, "heading": str, "document_id": str, "page": int}
COMPARISONS: Mapping[str, str] = {"eq": "==", "ne": "!=", "lt": "<", "lte": "<=", "gt": ">", "gte": ">="}
MAX_DEPTH = 16
MAX_TERMS = 200
MAX_TEXT = 4000

Filter = Mapping[str, Any]


def compile_filter(filter: Filter | None) -> str:
    """Return the expression of a filter, "" for none. Raises `InvalidRequest` (`bad-filter`)."""
    if not filter:
        return ""
    terms = [0]
    return _compile(filter, 0, terms)


def _compile(node: Any, depth: int, terms: list[int]) -> str:
    terms[0] += 1
    if depth > MAX_DEPTH or terms[0] > MAX_TERMS:
        raise _bad(f"a filter may be {MAX_DEPTH} levels deep and have {MAX_TERMS} terms")
    if not isinstance(node, Mapping) or not node:
        raise _bad("each part of a filter is an object with at least one field")
    return " and ".join(_part(str(name), value, depth, terms) for name, value in node.items())


def _part(name: str, value: Any, depth: int, terms: list[int]) -> str:
    if name in {"and", "or"}:
        if not isinstance(value, list) or not value:
            raise _bad(f"{name} takes a list of filters")
        return "(" + f" {name} ".join(f"({_compile(item, depth + 1, terms)})" for item in value) + ")"
    if name == "not":
        return f"(not ({_compile(value, depth + 1, terms)}))"
    field, kind = _field(name)
    if not isinstance(value, Mapping) or not value:
        raise _bad(f"{name} takes an object such as {{'eq': …}}")
    conditions = [_condition(field, kind, str(operator), operand) for operator, operand in value.items()]
    terms[0] += len(conditions)
    return "(" + " and ".join(conditions) + ")"


def _field(name: str) -> tuple[str, type | None]:
    if name in FIELDS:
        return name, FIELDS[name]
    prefix, _, key = name.partition(".")
    if prefix == "metadata" and key and len(key) <= MAX_TEXT:
        return f"metadata[{_text(key)}]", None
    raise _bad(f"there is no field {name[:64]}; there are source, page, heading, document_id and metadata.<key>")


def _condition(field: str, kind: type | None, operator: str, operand: Any) -> str:
    if operator in COMPARISONS:
        return f"{field} {COMPARISONS[operator]} {_literal(operand, kind)}"
    if operator == "in":
        if not isinstance(operand, list) or not operand or len(operand) > MAX_TERMS:
            raise _bad(f"in takes a list of 1 to {MAX_TERMS} values")
        # Written out: Milvus's `in` over JSON fields compares only values of one type.
        return "(" + " or ".join(f"{field} == {_literal(value, kind)}" for value in operand) + ")"
    if operator == "prefix":
        if not isinstance(operand, str) or kind is int:
            raise _bad("prefix takes a text, for a field of text")
        return f"{field} like {_text(_like(operand) + '%')}"
    raise _bad(f"there is no operator {operator[:64]}; there are {', '.join([*COMPARISONS, 'in', 'prefix'])}")


def _like(text: str) -> str:
    if any(sign in text for sign in "%_\\"):
        raise _bad("a prefix cannot hold %, _ or \\")
    return text


def _literal(value: Any, kind: type | None) -> str:
    match value:
        case bool() if kind is None:
            return "true" if value else "false"
        case int() if kind in {None, int} and not isinstance(value, bool) and abs(value) < 2**63:
            return str(value)
        case float() if kind in {None, int} and math.isfinite(value):
            return repr(value)
        case str() if kind in {None, str}:
            return _text(value)
    raise _bad(f"{json.dumps(value, ensure_ascii=False, default=str)[:64]} does not fit the field")


def _text(text: str) -> str:
    if len(text) > MAX_TEXT or not text.isprintable():
        raise _bad(f"texts are printable and at most {MAX_TEXT} characters long")
    return quoted(text)


def _bad(detail: str) -> InvalidRequest:
    return InvalidRequest("bad-filter", f"The filter cannot be used: {detail}.")
