"""Compiles the JSON filter of a client to Milvus's filter language. Pure.

Clients never send expressions. Every name is looked up and every value is written as a literal, so that no input
changes the meaning of the expression. A filter is one of these, or an object of several that must all hold:

    {"page": {"gte": 3}}   {"and": [f, f]}   {"or": [f, f]}   {"not": f}   {"metadata.部门": {"in": ["人事", "财务"]}}

A field that a passage lacks (a page, a metadata key) equals no value, and is neither less nor greater than any value.
Only `ne`, and the `not` of `eq` and `in`, are true for it. This also holds inside a `not`.

Milvus Lite evaluates neither `not` nor a chain of more than about 60 parts. So a `not` is moved into the comparisons
(De Morgan), a prefix becomes a range of texts, and a chain becomes a balanced tree.
"""

from __future__ import annotations

import json
import math
import operator as operators
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from zhiwen.common.errors import InvalidRequest
from zhiwen.common.names import is_plain
from zhiwen.common.store import quoted

FIELDS: Mapping[str, type] = {"source": str, "heading": str, "document_id": str, "page": int}
COMPARISONS: Mapping[str, str] = {"eq": "==", "ne": "!=", "lt": "<", "lte": "<=", "gt": ">", "gte": ">="}
HOLDS: Mapping[str, Callable[[int, int], bool]] = {
    "eq": operators.eq,
    "lt": operators.lt,
    "lte": operators.le,
    "gt": operators.gt,
    "gte": operators.ge,
}
OPPOSITES: Mapping[str, str] = {"eq": "ne", "ne": "eq", "lt": "gte", "gte": "lt", "gt": "lte", "lte": "gt"}
MAX_DEPTH = 16
"""Deepest nesting of `and`, `or` and `not`."""
MAX_TERMS = 400
"""Most terms of one filter: its conditions, and each value of an `in`."""
MAX_TEXT = 4000
"""Longest text in a filter, in characters."""
LAST_CHARACTER = "\U0010ffff"

Filter = Mapping[str, Any]


def compile_filter(filter: Filter | None) -> str:
    """Return the expression of a filter, "" for none. Raises `InvalidRequest` (`bad-filter`)."""
    if not filter:
        return ""
    return _Compiler().node(filter, 0, negated=False)


class _Compiler:
    """Compiles one filter, and counts its terms: conditions, and each value of an `in`."""

    def __init__(self) -> None:
        self._terms = 0

    def _count(self, terms: int) -> None:
        self._terms += terms
        if self._terms > MAX_TERMS:
            raise _bad(f"a filter may have at most {MAX_TERMS} terms")

    def node(self, node: Any, depth: int, *, negated: bool) -> str:
        """Return the expression of a filter, or of its negation when `negated`."""
        self._count(1)
        if depth > MAX_DEPTH:
            raise _bad(f"a filter may be at most {MAX_DEPTH} levels deep")
        if not isinstance(node, Mapping) or not node:
            raise _bad("each part of a filter is an object with at least one field")
        return _joined(
            "or" if negated else "and",
            [self._part(str(name), value, depth, negated=negated) for name, value in node.items()],
        )

    def _part(self, name: str, value: Any, depth: int, *, negated: bool) -> str:
        if name in {"and", "or"}:
            if not isinstance(value, list) or not value:
                raise _bad(f"{name} takes a list of filters")
            parts = [self.node(item, depth + 1, negated=negated) for item in value]
            return _joined("or" if (name == "or") != negated else "and", parts)
        if name == "not":
            return self.node(value, depth + 1, negated=not negated)
        field, kind = _field(name)
        if not isinstance(value, Mapping) or not value:
            raise _bad(f"{name} takes an object such as {{'eq': …}}")
        self._count(len(value))
        conditions = [self._condition(field, kind, str(op), operand, negated=negated) for op, operand in value.items()]
        return _joined("or" if negated else "and", conditions)

    def _condition(self, field: str, kind: type | None, operator: str, operand: Any, *, negated: bool) -> str:
        """Return the expression of one condition, or of its negation when `negated`.

        `field` is the field's name in Milvus. `kind` is its type, None for metadata of any type. `operator` and
        `operand` come from the client.
        """
        if operator in COMPARISONS:
            return _comparison(field, kind, OPPOSITES[operator] if negated else operator, operand)
        if operator == "in":
            if not isinstance(operand, list) or not operand:
                raise _bad("in takes a list of values")
            self._count(len(operand))
            # Not Milvus's own `in`: over JSON fields it compares only values of one type.
            each = "ne" if negated else "eq"
            return _joined("and" if negated else "or", [_comparison(field, kind, each, value) for value in operand])
        if operator == "prefix":
            if not isinstance(operand, str) or kind is int:
                raise _bad("prefix takes a text, for a field of text")
            return _prefix(field, operand, negated=negated)
        raise _bad(f"there is no operator {operator[:64]}; there are {', '.join([*COMPARISONS, 'in', 'prefix'])}")


def _joined(operator: str, parts: Sequence[str]) -> str:
    """Join expressions as a balanced tree."""
    if len(parts) == 1:
        return parts[0]
    middle = len(parts) // 2
    return f"({_joined(operator, parts[:middle])} {operator} {_joined(operator, parts[middle:])})"


def _field(name: str) -> tuple[str, type | None]:
    if name in FIELDS:
        return name, FIELDS[name]
    prefix, _, key = name.partition(".")
    if prefix == "metadata" and key and len(key) <= MAX_TEXT:
        return f"metadata[{_text(key)}]", None
    raise _bad(f"there is no field {name[:64]}; there are source, page, heading, document_id and metadata.<key>")


def _comparison(field: str, kind: type | None, operator: str, value: Any) -> str:
    literal = _literal(value, kind)
    condition = f"({field} {COMPARISONS[operator]} {literal})"
    if kind is int:  # 0 stands for "no page", which differs from every number
        if operator == "ne":
            return condition if int(value) else f"({field} >= 0)"
        if HOLDS[operator](0, value):
            return f"({condition} and ({field} > 0))"
    return condition


def _prefix(field: str, prefix: str, *, negated: bool) -> str:
    """Return the condition that a text begins with `prefix`, as a range, because Milvus compares by code points."""
    low, high = _text(prefix), _after(prefix)
    if negated:
        return f"(({field} < {low}) or ({field} >= {quoted(high)}))" if high else f"({field} < {low})"
    return f"(({field} >= {low}) and ({field} < {quoted(high)}))" if high else f"({field} >= {low})"


def _after(prefix: str) -> str:
    """Return the first text that comes after all texts that begin with `prefix`, "" when there is none."""
    head = prefix.rstrip(LAST_CHARACTER)
    if not head:
        return ""
    code = ord(head[-1]) + 1
    return head[:-1] + chr(0xE000 if 0xD800 <= code <= 0xDFFF else code)


def _literal(value: Any, kind: type | None) -> str:
    match value:
        case bool() if kind is None:
            return "true" if value else "false"
        case int() if kind in {None, int} and not isinstance(value, bool) and abs(value) < 2**63:
            return str(value)
        case float() if kind is int and value.is_integer() and abs(value) < 2**53:
            return str(int(value))
        case float() if kind is None and math.isfinite(value):
            return repr(value)
        case str() if kind in {None, str}:
            return _text(value)
    raise _bad(f"{_shown(value)} does not fit the field")


def _shown(value: Any) -> str:
    return json.dumps(value, default=str)[:64]


def _text(text: str) -> str:
    if len(text) > MAX_TEXT or not is_plain(text):
        raise _bad(f"texts are at most {MAX_TEXT} characters long and hold no control characters")
    return quoted(text)


def _bad(detail: str) -> InvalidRequest:
    return InvalidRequest("bad-filter", f"The filter cannot be used: {detail}.")
