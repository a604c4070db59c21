"""Both READMEs show the same commands, name real settings with their defaults, and link to files that exist."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
READMES = ("README.md", "README.zh-CN.md")
PAGES = (
    *READMES,
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "deploy/README.md",
    "docs/adr/README.md",
    "docs/architecture.md",
    "docs/errors.md",
    "examples/README.md",
)
PICTURE_BYTES = 150_000
FENCE = re.compile(r"(?ms)^(?P<mark><!-- .+? -->\n)?```(?P<language>\w+)\n(?P<code>.*?)^```$")


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def code_blocks(page: str) -> list[tuple[str, str, str]]:
    """(mark, language, code without comments) of each fenced block."""
    return [
        (block["mark"] or "", block["language"], re.sub(r"(?m)\s+#.*$", "", block["code"]))
        for block in FENCE.finditer(text_of(page))
    ]


def configuration_rows(page: str) -> list[tuple[str, list[str]]]:
    """(setting, the default's literal values) of each row of the configuration table."""
    rows = []
    for names, defaults in re.findall(r"(?m)^\| ((?:`ZHIWEN_[A-Z_]+`[,、]? ?)+) \| (.*?) \| .* \|$", text_of(page)):
        rows.append((names.strip(), re.findall(r"`([^`]*)`", defaults)))
    return rows


def documented_settings() -> dict[str, str]:
    """Every setting with its default, from the example that another test holds complete."""
    return dict(re.findall(r"(?m)^(?:# )?([A-Z][A-Z0-9_]+)=(.*)$", text_of("deploy/.env.example")))


def test_the_twins_show_the_same_commands() -> None:
    english, chinese = (code_blocks(page) for page in READMES)
    assert english == chinese


def test_the_twins_have_the_same_tables_of_settings() -> None:
    english, chinese = (configuration_rows(page) for page in READMES)
    assert len(english) > 10
    assert [defaults for _, defaults in english] == [defaults for _, defaults in chinese]
    assert [re.findall(r"\w+", names) for names, _ in english] == [re.findall(r"\w+", names) for names, _ in chinese]


@pytest.mark.parametrize("page", PAGES)
def test_page_names_settings_that_exist(page: str) -> None:
    named = set(re.findall(r"\bZHIWEN_[A-Z0-9_]*[A-Z0-9]\b(?!_…)", text_of(page)))
    assert sorted(named - documented_settings().keys()) == []


@pytest.mark.parametrize("page", READMES)
def test_table_of_settings_shows_the_defaults(page: str) -> None:
    known = documented_settings()
    for names, shown in configuration_rows(page):
        defaults = [known[name] for name in re.findall(r"\w+", names)]
        assert shown in (defaults, []), names


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files(page: str) -> None:
    links = re.findall(r"""(?:\]\(|\ssrc=")([^)#\s"]+)(?:#[^)\s]*)?[)"]""", text_of(page))
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (ROOT / page).parent.joinpath(link).exists()] == []


@pytest.mark.parametrize("page", READMES)
def test_files_that_the_commands_upload_exist(page: str) -> None:
    files = re.findall(r"file=@([^']+)'", text_of(page))
    assert files
    assert [file for file in files if not (ROOT / file).is_file()] == []


@pytest.mark.parametrize("page", READMES)
def test_pictures_are_small(page: str) -> None:
    pictures = re.findall(r'<img src="([^"]+)"', text_of(page))
    assert pictures
    assert [name for name in pictures if (ROOT / name).stat().st_size > PICTURE_BYTES] == []


def test_example_questions_name_documents_that_exist() -> None:
    lines = text_of("examples/questions.jsonl").splitlines()
    questions = [json.loads(line) for line in lines]
    documents = {path.name for path in (ROOT / "examples/documents").iterdir()}
    for question in questions:
        assert set(question) == {"question", "lang", "answerable", "answer_contains", "source", "demo"}
        assert (question["source"] in documents) is question["answerable"] is bool(question["answer_contains"])
    demo = [(question["lang"], question["answerable"]) for question in questions if question["demo"]]
    assert sorted(demo) == [("en", True), ("zh", False), ("zh", True)]


def test_every_example_document_is_described_and_asked_about() -> None:
    documents = {path.name for path in (ROOT / "examples/documents").iterdir()}
    described = set(re.findall(r"`documents/([^`]+)`", text_of("examples/README.md")))
    asked = {json.loads(line)["source"] for line in text_of("examples/questions.jsonl").splitlines()}
    assert documents == described == asked - {None}
