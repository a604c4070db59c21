"""`docs/errors.md` lists every error code that the services raise, and none that they do not know."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "services").rglob("*.py"))}
CODE = re.compile(r"[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*")
DOCUMENTED = {
    code
    for row in re.findall(r"(?m)^\| (`.+?`) \|", (ROOT / "docs/errors.md").read_text(encoding="utf-8"))
    for code in re.findall(r"`([^`]+)`", row)
}
FROM_THE_FRAMEWORK = {"method-not-allowed"}
"""Codes that `common.web` makes from the phrase of a status."""


def error_classes() -> set[str]:
    """Names of `ServiceError` and of every class below it, however deep."""
    bases = {
        node.name: {name_of(base) for base in node.bases}
        for tree in TREES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    known = {"ServiceError"}
    while grown := {name for name, parents in bases.items() if parents & known} - known:
        known |= grown
    return known


def name_of(node: ast.expr) -> str:
    """The last part of a dotted name."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def texts(node: ast.expr, assigned: dict[str, list[ast.expr]]) -> Iterator[str]:
    """The literal texts that an expression can be: a text, one of two, a look-up, or a variable given such texts."""
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.IfExp(body=body, orelse=orelse):
            yield from texts(body, assigned)
            yield from texts(orelse, assigned)
        case ast.Subscript(value=ast.Dict(values=values)):
            for value in values:
                yield from texts(value, assigned)
        case ast.Name(id=name):
            for value in assigned.get(name, []):
                yield from texts(value, {})


def assignments(tree: ast.AST) -> dict[str, list[ast.expr]]:
    """Simple assignments anywhere in the file: variable -> values."""
    found: dict[str, list[ast.expr]] = {}
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                found.setdefault(name, []).append(value)
            case ast.Assign(targets=[ast.Tuple(elts=names)], value=ast.Tuple(elts=values)):
                for target, value in zip(names, values, strict=False):
                    found.setdefault(name_of(target), []).append(value)
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                found.setdefault(name, []).append(value)
    return found


def makers(tree: ast.AST, *, private: bool) -> dict[str, int]:
    """Functions of a file with a parameter `code: str`, such as `_invalid(code, detail)` -> position of the code."""
    return {
        function.name: position
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef) and function.name.startswith("_") is private
        for position, parameter in enumerate(a for a in function.args.args if a.arg not in {"self", "cls"})
        if parameter.arg == "code" and parameter.annotation and ast.unparse(parameter.annotation) == "str"
    }


def codes_of(call: ast.Call, found: dict[str, int]) -> list[ast.expr]:
    """The argument of `call` that is a code, if it makes an error."""
    position = found.get(name_of(call.func))
    if position is None:
        return []
    return [*call.args[position : position + 1], *(k.value for k in call.keywords if k.arg == "code")]


def raised() -> dict[str, str]:
    """Code -> one place where an error with that code is made."""
    found = {}
    everywhere = dict.fromkeys(error_classes(), 0)
    for tree in TREES.values():
        everywhere |= makers(tree, private=False)
    for path, tree in TREES.items():
        assigned, known = assignments(tree), everywhere | makers(tree, private=True)
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            for code in codes_of(call, known):
                for text in texts(code, assigned):
                    found[text] = f"{path.relative_to(ROOT)}:{call.lineno}"
    return found


def test_sources_are_understood() -> None:
    assert {"invalid-request", "invalid-json", "missing-key", "internal-error"} <= raised().keys()


def test_every_code_is_documented() -> None:
    assert {code: where for code, where in raised().items() if code not in DOCUMENTED} == {}


def test_every_documented_code_is_in_the_sources() -> None:
    literals = {
        node.value
        for tree in TREES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert sorted(DOCUMENTED - literals - FROM_THE_FRAMEWORK) == []


def test_codes_are_spelled_as_the_rest() -> None:
    assert [code for code in raised() if not CODE.fullmatch(code)] == []
