"""No source, test, decision or document cites a file, a module or a decision that the repository lacks.

Read are comments, docstrings and pages, without blocks of code and without addresses on the web.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("services", "tests", "training", "bench", "deploy", "docs", "examples", ".ci", ".github", ".devcontainer")
SUFFIXES = {"", ".css", ".js", ".md", ".py", ".sh", ".toml", ".yaml", ".yml"}
SAMPLES = ROOT / "examples"
"""Documents to ask questions about. What they cite is their own affair."""
HISTORY = ROOT / "CHANGELOG.md"
"""It names files that later releases have moved."""
ELSEWHERE = {
    "docker-compose.override.yml": "an operator may write one",
    "fastchat/constants.py": "FastChat's",
}

FILE = re.compile(
    r"(?<![\w/.@:*}>~-])(?P<path>(?:[\w.-]+/)*[\w-][\w.-]*\.(?:md|py|svg|sh|toml|yaml|yml))\b(?:::(?P<test>\w+))?(?![\w/*])"
)
IN_DOCS = re.compile(r"(?<![\w/.:-])docs/[\w./-]*\w")
MODULE = re.compile(
    r"`((?:zhiwen|common|ingest|query|llm_gateway|webui|cli|client|training|bench)(?:\.\w+)+)(?:\(\))?`"
)
DECISION = re.compile(r"\b(?:ADR|adr/)[ -]?(\d{1,4})\b")
DESIGN_PAGE = re.compile(r"\bdesign,? (?:page,? )?sections?\b", re.IGNORECASE)
ADDRESS = re.compile(r"https?://\S+")
FENCED = re.compile(r"(?ms)^[ \t]*```.*?^[ \t]*```")


@dataclass(frozen=True, slots=True)
class Passage:
    """Some text of a file, and the number of its first line."""

    file: Path
    line: int
    text: str


def sources() -> list[Path]:
    """Return every file whose citations count."""
    found = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*")] + list(ROOT.iterdir())
    return sorted(
        path
        for path in found
        if path.suffix in SUFFIXES and path.is_file() and SAMPLES not in path.parents and path != HISTORY
    )


@cache
def prose() -> tuple[Passage, ...]:
    """Return what the files say to their readers."""
    return tuple(passage for path in sources() for passage in prose_of(path, read(path)))


@cache
def whole_texts() -> tuple[Passage, ...]:
    """Return all files whole, but for this one, which shows what it looks for."""
    return tuple(Passage(path, 1, read(path)) for path in sources() if path != Path(__file__))


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def prose_of(path: Path, text: str) -> Iterator[Passage]:
    match path.suffix:
        case ".py":
            yield from comments_and_docstrings(path, text)
        case ".md":
            yield Passage(path, 1, FENCED.sub(lambda block: "\n" * block[0].count("\n"), text))
        case _:
            for number, line in enumerate(text.split("\n"), 1):
                if comment := re.search(r"(?:^|\s)#.*", line):
                    yield Passage(path, number, comment[0])


def comments_and_docstrings(path: Path, text: str) -> Iterator[Passage]:
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Expr(value=ast.Constant(value=str(docstring)), lineno=line):
                yield Passage(path, line, docstring)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield Passage(path, token.start[0], token.string)


@dataclass(frozen=True, slots=True)
class Citation:
    """What a pattern found, and in which file and line."""

    file: Path
    line: int
    found: re.Match[str]

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line} cites {self.found[0]}"


def citations(pattern: re.Pattern[str], passages: Iterable[Passage]) -> Iterator[Citation]:
    for passage in passages:
        for number, line in enumerate(passage.text.split("\n"), passage.line):
            for found in pattern.finditer(ADDRESS.sub("", line)):
                yield Citation(passage.file, number, found)


def none_of(missing: Iterable[Citation]) -> None:
    """Fail with a line for each citation."""
    lines = [str(citation) for citation in missing]
    assert not lines, "\n".join(["", *lines])


@cache
def known_paths() -> frozenset[str]:
    """Return every path of the repository, and every end of one that is a path as well."""
    paths = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*")] + list(ROOT.iterdir())
    parts = [path.relative_to(ROOT).parts for path in paths]
    return frozenset("/".join(part[start:]) for part in parts for start in range(len(part)))


def is_there(path: str, cited_in: Path) -> bool:
    """Return whether a cited path leads somewhere: from the root, from its end, or from the file that cites it."""
    return path.removeprefix("./") in known_paths() or (cited_in.parent / path).exists()


def defines(path: Path, name: str) -> bool:
    """Return whether a Python file, or the `__init__.py` of a package, has a name."""
    source = path / "__init__.py" if path.is_dir() else path
    return source.exists() and re.search(rf"\b{name}\b", read(source)) is not None


def module_is_there(dotted: str) -> bool:
    """Return whether a dotted name leads to a module, and to a name in it where it goes on."""
    parts = dotted.removeprefix("zhiwen.").split(".")
    place = ROOT if parts[0] in {"training", "bench"} else ROOT / "services"
    for part in parts:
        if (place / part).is_dir():
            place /= part
        elif (place / f"{part}.py").exists():
            place /= f"{part}.py"
        else:
            return place != ROOT / "services" and defines(place, part)
    return True


def test_files_that_are_cited_exist() -> None:
    none_of(
        citation
        for citation in citations(FILE, prose())
        if not is_there(path := citation.found["path"], citation.file) and path not in ELSEWHERE and "NNNN" not in path
    )


def test_tests_that_are_cited_exist() -> None:
    def has_test(path: str, test: str) -> bool:
        return any(defines(file, test) for file in sources() if file.as_posix().endswith(f"/{path}"))

    none_of(
        citation
        for citation in citations(FILE, prose())
        if citation.found["test"] and not has_test(citation.found["path"], citation.found["test"])
    )


def test_pages_of_the_docs_that_are_cited_exist() -> None:
    none_of(
        citation
        for citation in citations(IN_DOCS, whole_texts())
        if not is_there(citation.found[0], citation.file) and not list(ROOT.glob(f"{citation.found[0]}-*.md"))
    )


def test_modules_that_are_cited_exist() -> None:
    none_of(
        citation
        for citation in citations(MODULE, prose())
        if not module_is_there(citation.found[1]) and not is_there(citation.found[1], citation.file)
    )


def test_decisions_that_are_cited_exist() -> None:
    decisions = {path.name[:4] for path in (ROOT / "docs/adr").glob("[0-9]*.md")}
    none_of(citation for citation in citations(DECISION, whole_texts()) if citation.found[1].zfill(4) not in decisions)


def test_no_source_cites_a_design_page() -> None:
    none_of(citations(DESIGN_PAGE, whole_texts()))


@pytest.mark.parametrize("name", ["zhiwen.common.store.ChunkStore", "common.web", "query.search", "common.errors"])
def test_module_is_found(name: str) -> None:
    assert module_is_there(name)


@pytest.mark.parametrize(
    "name", ["common.nothing", "query.nothing.more", "common.errors.NoSuchError", "common.store.No"]
)
def test_module_that_is_not_there_is_not_found(name: str) -> None:
    assert not module_is_there(name)
