"""Every public module, class and function of the services has a docstring, and its first line is a sentence.

A public function with more than four parameters also names each of them in its docstring. The module's docstring may
name a parameter in backticks for all functions of the module.

Exempt from a docstring are:

- names that begin with `_`, and what is defined inside a function,
- properties, whose name is enough,
- a method that a base class or a protocol of ours documents,
- Alembic's revisions, which are generated,
- modules without code.

Exempt from naming parameters are routes and the modules of the commands: OpenAPI and `--help` describe theirs.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

SERVICES = Path(__file__).parents[2] / "services"
GENERATED = SERVICES / "common" / "ledger" / "migrations"
FEW_PARAMETERS = 4
COMMANDS = SERVICES / "cli" / "commands"
ROUTES = frozenset({"get", "post", "put", "patch", "delete"})
"""The decorators that make a function a route."""

Function = ast.FunctionDef | ast.AsyncFunctionDef
Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Source:
    """A module: its path, and its syntax tree."""

    path: Path
    tree: ast.Module


@dataclass(frozen=True, slots=True)
class Public:
    """A public module, class or function: where it stands, and the class around it."""

    source: Source
    node: Documented
    owner: ast.ClassDef | None = None

    def __str__(self) -> str:
        name = "" if isinstance(self.node, ast.Module) else f" {self.node.name}"
        line = getattr(self.node, "lineno", 1)
        return f"{self.source.path.relative_to(SERVICES.parent)}:{line}{name}"


@cache
def sources() -> list[Source]:
    """Return the modules of the services that have code."""
    paths = [path for path in sorted(SERVICES.rglob("*.py")) if GENERATED not in path.parents]
    found = [Source(path, ast.parse(path.read_text(encoding="utf-8"))) for path in paths]
    return [source for source in found if source.tree.body]


def publics() -> Iterator[Public]:
    """Yield every public module, class and function."""
    for source in sources():
        yield Public(source, source.tree)
        yield from _members(source, source.tree, None)


def _members(source: Source, parent: ast.Module | ast.ClassDef, owner: ast.ClassDef | None) -> Iterator[Public]:
    for node in parent.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("_"):
            continue
        yield Public(source, node, owner)
        if isinstance(node, ast.ClassDef):
            yield from _members(source, node, node)


def decorators_of(node: Function) -> set[str]:
    """Return the last names of the decorators of a function: `get` for `@router.get(...)`."""
    called = (decorator.func if isinstance(decorator, ast.Call) else decorator for decorator in node.decorator_list)
    return {ast.unparse(decorator).rpartition(".")[2] for decorator in called}


@dataclass(frozen=True, slots=True)
class Class:
    """A class of ours: its bases, its methods, and those methods that have docstrings."""

    bases: frozenset[str]
    methods: frozenset[str]
    documented: frozenset[str]


@cache
def classes() -> dict[str, Class]:
    """Return our classes by name."""
    return {
        node.name: class_of(node)
        for source in sources()
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ClassDef)
    }


def class_of(node: ast.ClassDef) -> Class:
    """Return what a class definition holds."""
    methods = [member for member in node.body if isinstance(member, Function)]
    return Class(
        frozenset(ast.unparse(base) for base in node.bases),
        frozenset(method.name for method in methods),
        frozenset(method.name for method in methods if ast.get_docstring(method)),
    )


def is_documented_elsewhere(public: Public) -> bool:
    """Return whether a base class documents this method, or a protocol that its class implements."""
    if public.owner is None or isinstance(public.node, ast.Module):
        return False
    own = class_of(public.owner)
    return any(
        public.node.name in other.documented
        for name, other in classes().items()
        if name in own.bases
        or ("Protocol" in other.bases and other.methods <= own.methods and "Protocol" not in own.bases)
    )


def needs_docstring(public: Public) -> bool:
    """Return whether none of the exemptions from a docstring holds."""
    is_property = isinstance(public.node, Function) and "property" in decorators_of(public.node)
    return not is_property and not is_documented_elsewhere(public)


def parameters_of(node: Function) -> list[str]:
    """Return the names of a function's parameters, without `self` and `cls`."""
    arguments = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
    return [argument.arg for argument in arguments if argument.arg not in {"self", "cls"}]


def unnamed_parameters(public: Public) -> list[str]:
    """Return the parameters of a function that neither its docstring nor the module's names; none if it has few."""
    node = public.node
    if not isinstance(node, Function) or decorators_of(node) & ROUTES or COMMANDS in public.source.path.parents:
        return []
    parameters = parameters_of(node)
    text = ast.get_docstring(node) or ""
    if len(parameters) <= FEW_PARAMETERS or (not text and is_documented_elsewhere(public)):
        return []
    own = set(re.findall(r"\w+", text))
    for_all = set(re.findall(r"`(\w+)`", ast.get_docstring(public.source.tree) or ""))
    return [name for name in parameters if name not in own | for_all]


def constructors() -> Iterator[Public]:
    """Yield the constructors of public classes."""
    for public in publics():
        if isinstance(public.node, ast.ClassDef):
            for node in public.node.body:
                if isinstance(node, ast.FunctionDef) and node.name == "__init__":
                    yield Public(public.source, node, public.node)


def test_everything_public_has_a_docstring() -> None:
    lacking = [str(public) for public in publics() if needs_docstring(public) and not ast.get_docstring(public.node)]

    assert not lacking, "\n".join(["these have no docstring:", *lacking])


def test_first_line_of_a_docstring_is_a_sentence() -> None:
    documented = [(public, ast.get_docstring(public.node)) for public in publics()]
    broken = [str(public) for public, text in documented if text and not text.splitlines()[0].endswith((".", ":"))]

    assert not broken, "\n".join(
        ["the first lines of these docstrings do not end with a full stop or a colon:", *broken]
    )


def test_many_parameters_are_named_in_the_docstring() -> None:
    lacking = {str(public): names for public in publics() if (names := unnamed_parameters(public))}
    for constructor in constructors():
        class_text = ast.get_docstring(constructor.owner) if constructor.owner else ""
        in_class = set(re.findall(r"\w+", class_text or ""))
        if names := [name for name in unnamed_parameters(constructor) if name not in in_class]:
            lacking[str(constructor)] = names

    assert not lacking, "\n".join(
        ["these docstrings do not name these parameters:", *(f"{where}: {names}" for where, names in lacking.items())]
    )
