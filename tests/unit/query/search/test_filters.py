"""The compiler of filters: what it accepts, what it refuses, and that no input changes the meaning."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiwen.common.errors import InvalidRequest
from zhiwen.query.search.filters import MAX_DEPTH, MAX_TERMS, compile_filter

LITERAL = re.compile(r'"(?:[^"\\]|\\.)*"')
FIELD = re.compile(r'(?:source|heading|document_id|page|metadata\["(?:[^"\\]|\\.)*"\])')


@pytest.mark.parametrize(
    ("filter", "expression"),
    [
        (None, ""),
        ({}, ""),
        ({"source": {"eq": "手册.txt"}}, '(source == "手册.txt")'),
        ({"page": {"gte": 3}}, "(page >= 3)"),
        ({"page": {"lt": 3}}, "((page < 3) and (page > 0))"),
        ({"page": {"eq": 2.0}}, "(page == 2)"),
        ({"page": {"gte": 0}}, "((page >= 0) and (page > 0))"),
        ({"page": {"gt": -1}}, "((page > -1) and (page > 0))"),
        ({"page": {"eq": 0}}, "((page == 0) and (page > 0))"),
        ({"page": {"ne": 0}}, "(page >= 0)"),
        ({"page": {"lt": 0}}, "(page < 0)"),
        ({"not": {"page": {"lt": 0}}}, "((page >= 0) and (page > 0))"),
        ({"metadata.a.b": {"ne": True}}, '(metadata["a.b"] != true)'),
        ({"metadata.年": {"in": [1, "1"]}}, '((metadata["年"] == 1) or (metadata["年"] == "1"))'),
        ({"source": {"prefix": "手册/"}}, '((source >= "手册/") and (source < "手册0"))'),
        ({"source": {"prefix": ""}}, '(source >= "")'),
        ({"not": {"page": {"eq": 1}}}, "(page != 1)"),
        ({"not": {"not": {"page": {"gt": 1}}}}, "(page > 1)"),
        ({"not": {"page": {"gt": 1, "lt": 5}}}, "(((page <= 1) and (page > 0)) or (page >= 5))"),
        ({"not": {"and": [{"page": {"eq": 1}}, {"source": {"eq": "a"}}]}}, '((page != 1) or (source != "a"))'),
        ({"not": {"source": {"prefix": "ab"}}}, '((source < "ab") or (source >= "ac"))'),
        ({"source": {"eq": "a"}, "page": {"eq": 1}}, '((source == "a") and (page == 1))'),
    ],
    ids=str,
)
def test_expression(filter: dict[str, Any] | None, expression: str) -> None:
    assert compile_filter(filter) == expression


@pytest.mark.parametrize(
    "filter",
    [
        {"owner": {"eq": 1}},
        {"metadata": {"eq": 1}},
        {"metadata.": {"eq": 1}},
        {"source": {"eq": 1}},
        {"source": {"eq": None}},
        {"source": "a"},
        {"source": {}},
        {"source": {"like": "a"}},
        {"source": {"eq": "a\0"}},
        {"source": {"eq": "a\n"}},
        {"source": {"eq": "\ud800"}},
        {"source": {"eq": "a" * 4001}},
        {"page": {"eq": True}},
        {"page": {"eq": "1"}},
        {"page": {"eq": 1.5}},
        {"page": {"eq": float("nan")}},
        {"page": {"eq": float("inf")}},
        {"page": {"eq": 2**63}},
        {"page": {"prefix": "1"}},
        {"metadata.a": {"eq": [1]}},
        {"metadata.a": {"eq": None}},
        {"metadata.a": {"eq": float("nan")}},
        {"metadata.a\n": {"eq": 1}},
        {"source": {"in": []}},
        {"source": {"in": "abc"}},
        {"source": {"in": ["a"] * (MAX_TERMS + 1)}},
        {"and": []},
        {"and": {}},
        {"or": [[]]},
        {"or": [{}]},
        {"not": []},
        {"not": {}},
        {"and": [{"page": {"eq": 1}}] * MAX_TERMS},
    ],
    ids=lambda f: ascii(f)[:50],
)
def test_what_is_no_filter_is_refused(filter: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="bad-filter"):
        compile_filter(filter)


def test_depth_is_limited() -> None:
    filter: dict[str, Any] = {"page": {"eq": 1}}
    for _ in range(MAX_DEPTH):
        filter = {"not": filter}
    assert compile_filter(filter) == "(page == 1)"
    with pytest.raises(InvalidRequest, match="levels deep"):
        compile_filter({"not": filter})


@given(st.text(max_size=50), st.text(min_size=1, max_size=20))
def test_hostile_text_is_one_literal(value: str, key: str) -> None:
    try:
        expression = compile_filter({f"metadata.{key}": {"eq": value}})
    except InvalidRequest:
        return
    literals = LITERAL.findall(expression)
    assert [json.loads(literal) for literal in literals] == [key, value]
    assert LITERAL.sub("S", expression) == "(metadata[S] == S)"


values = st.one_of(
    st.booleans(), st.integers(-(2**62), 2**62), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=8)
)
conditions = st.builds(
    lambda key, operator, value: {f"metadata.{key}": {operator: value}},
    st.text(min_size=1, max_size=5),
    st.sampled_from(["eq", "ne", "lt", "lte", "gt", "gte"]),
    values,
)
trees = st.recursive(
    conditions,
    lambda children: st.one_of(
        st.builds(lambda items: {"and": items}, st.lists(children, min_size=1, max_size=3)),
        st.builds(lambda items: {"or": items}, st.lists(children, min_size=1, max_size=3)),
        st.builds(lambda item: {"not": item}, children),
    ),
    max_leaves=12,
)


@given(trees)
def test_any_tree_is_balanced_and_holds_nothing_but_the_grammar(tree: dict[str, Any]) -> None:
    try:
        expression = compile_filter(tree)
    except InvalidRequest:
        return
    bare = LITERAL.sub("S", expression)
    reduced = re.sub(r"\(metadata\[S\] (?:==|!=|<=?|>=?) (?:S|true|false|-?[\d.]+(?:e[+-]?\d+)?)\)", "C", bare)
    while (smaller := re.sub(r"\(C (?:and|or) C\)", "C", reduced)) != reduced:
        reduced = smaller
    assert reduced == "C"


def evaluate(tree: dict[str, Any], data: dict[str, int]) -> bool:
    """The meaning of a filter whose keys are all there, without the compiler."""
    ((name, value),) = tree.items()
    if name == "and":
        return all(evaluate(item, data) for item in value)
    if name == "or":
        return any(evaluate(item, data) for item in value)
    if name == "not":
        return not evaluate(value, data)
    ((operator, operand),) = value.items()
    mine = data[name.removeprefix("metadata.")]
    return bool(
        {"eq": mine == operand, "ne": mine != operand, "lt": mine < operand, "lte": mine <= operand}.get(
            operator, mine > operand if operator == "gt" else mine >= operand
        )
    )


numbers = st.recursive(
    st.builds(
        lambda key, operator, value: {f"metadata.{key}": {operator: value}},
        st.sampled_from("ab"),
        st.sampled_from(["eq", "ne", "lt", "lte", "gt", "gte"]),
        st.integers(0, 3),
    ),
    lambda children: st.one_of(
        st.builds(lambda items: {"and": items}, st.lists(children, min_size=1, max_size=3)),
        st.builds(lambda items: {"or": items}, st.lists(children, min_size=1, max_size=3)),
        st.builds(lambda item: {"not": item}, children),
    ),
    max_leaves=10,
)


@given(numbers, st.integers(0, 3), st.integers(0, 3))
def test_carrying_not_to_the_comparisons_changes_no_meaning(tree: dict[str, Any], a: int, b: int) -> None:
    data = {"a": a, "b": b}
    assert eval(compile_filter(tree), {"__builtins__": {}}, {"metadata": data}) == evaluate(tree, data)


@given(
    st.text(min_size=1, max_size=4, alphabet="ab中\ud7ff\ue000\U0010ffff"),
    st.text(max_size=6, alphabet="ab中\ud7ff\ue000\U0010ffff"),
)
def test_prefix_is_the_range_of_the_texts_that_begin_with_it(prefix: str, text: str) -> None:
    for negated in (False, True):
        condition = {"source": {"prefix": prefix}}
        expression = compile_filter({"not": condition} if negated else condition)
        assert eval(expression, {"__builtins__": {}}, {"source": text}) is (text.startswith(prefix) != negated)
