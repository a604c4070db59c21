"""The documentation names files, tests and headings that exist, and lists every decision."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import zhiwen

ROOT = Path(__file__).parents[2]
PAGES = ("CONTRIBUTING.md", "SECURITY.md", "docs/architecture.md", "docs/adr/README.md", "README.md", "README.zh-CN.md")
DECISIONS = sorted(path.name for path in (ROOT / "docs/adr").glob("[0-9]*.md"))
SECTIONS = ["Context", "Decision", "Measured", "Consequences"]
"""Of every decision, in this order; `Measured` only where something was measured."""
CODE = re.compile(r"`([^`\s]+)`")
FOLDERS = ("services/", "tests/", "bench/", "training/", "deploy/", "docs/", "examples/", ".ci/", ".github/")


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def named_paths(page: str) -> list[str]:
    """Paths of the repository in code spans: `services/…`, also with a test's name behind `::`."""
    return [span for span in CODE.findall(text_of(page)) if span.startswith(FOLDERS) and "…" not in span]


@pytest.mark.parametrize("page", [*PAGES, *(f"docs/adr/{name}" for name in DECISIONS)])
def test_every_path_that_is_named_exists(page: str) -> None:
    paths = {span.partition("::")[0] for span in named_paths(page)}
    assert sorted(path for path in paths if not (ROOT / path).exists()) == []


def test_every_guarantee_names_a_test() -> None:
    rows = re.findall(r"(?m)^\| \*\*.+", text_of("docs/architecture.md"))
    assert len(rows) > 10
    assert [row for row in rows if "::test_" not in row] == []


def test_every_decision_is_in_the_index() -> None:
    listed = re.findall(r"\]\(([0-9]{4}-[^)]+)\)", text_of("docs/adr/README.md"))
    assert listed == DECISIONS


@pytest.mark.parametrize("name", DECISIONS)
def test_decision_has_the_sections_of_the_template(name: str) -> None:
    text = text_of(f"docs/adr/{name}")
    assert text.startswith(f"# {int(name[:4])}. ")
    sections = re.findall(r"(?m)^## (.+)$", text)
    assert sections == [title for title in SECTIONS if title != "Measured" or title in sections]


def test_packages_that_the_tests_need_are_the_same_everywhere() -> None:
    (needed,) = re.findall(r"packages=\((.+)\)", text_of(".ci/run"))
    (contributing,) = re.findall(r"`apt-get install (.+?)`", text_of("CONTRIBUTING.md"))
    (container,) = re.findall(r"--no-install-recommends (.+?)\"", text_of(".devcontainer/devcontainer.json"))
    assert contributing == needed == container


def test_the_forge_runs_what_ci_runs() -> None:
    assert re.findall(r"(?m)- run: (.+)$", text_of(".github/workflows/ci.yml")) == [".ci/run"]


def test_every_hook_is_a_tool_of_the_virtual_environment() -> None:
    entries = re.findall(r"(?m)^ +entry: (\S+)", text_of(".pre-commit-config.yaml"))
    assert entries
    assert [entry for entry in entries if not entry.startswith(".venv/bin/")] == []


def test_changelog_has_dated_releases_and_the_newest_is_this_version() -> None:
    first, *releases = re.findall(r"(?m)^## (.+)$", text_of("CHANGELOG.md"))
    assert first == "[Unreleased]"
    dated = [re.fullmatch(r"\[(\d+\.\d+\.\d+)\] - \d{4}-\d{2}-\d{2}", release) for release in releases]
    assert all(dated)
    assert next(match[1] for match in dated if match) == zhiwen.__version__
