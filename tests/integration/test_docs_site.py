"""The documentation site builds, in both languages, with no dead link and nothing from another machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from docs import build
from tests.conftest import ROOT

PAGE = '<html><head><link rel="canonical" href="https://example.org/"></head><body id="top">{}</body></html>'


def test_site_builds() -> None:
    done = subprocess.run([sys.executable, "docs/build.py"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for place in build.places().values():
        assert (build.SITE / place.replace(".md", ".html")).is_file(), place
    chinese = (build.SITE / "index.zh-CN.html").read_text(encoding="utf-8")
    assert "用 curl 调用" in chinese
    assert 'href="index.html"' in chinese


def site_of(folder: Path, body: str) -> Path:
    (folder / "index.html").write_text(PAGE.format(body), encoding="utf-8")
    (folder / "other.html").write_text(PAGE.format('<h2 id="here">标题</h2>'), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    "body",
    [
        '<a href="other.html#here"></a><a href="#top"></a><a href="/other.html"></a>',
        '<a href="https://example.org/a"></a><a href="mailto:a@example.org"></a>',
        '<img src="data:image/png;base64,"><a href="./other.html#%68ere"></a>',
    ],
)
def test_links_that_lead_somewhere_are_no_fault(body: str, tmp_path: Path) -> None:
    assert list(build.faults(site_of(tmp_path, body))) == []


@pytest.mark.parametrize(
    "body",
    [
        '<a href="gone.html"></a>',
        '<img src="gone.png">',
        '<a href="other.html#gone"></a>',
        '<a href="#gone"></a>',
        '<script src="https://example.org/a.js"></script>',
        '<link rel="stylesheet" href="//example.org/a.css">',
    ],
)
def test_every_dead_link_and_foreign_file_is_a_fault(body: str, tmp_path: Path) -> None:
    assert len(list(build.faults(site_of(tmp_path, body)))) == 1


@pytest.mark.parametrize(
    ("markdown", "source", "expected"),
    [
        ("[a](docs/errors.md#upload)", "README.md", "[a](errors.md#upload)"),
        ("[a](docs/adr)", "README.md", "[a](adr/index.md)"),
        ("![a](docs/architecture.svg)", "README.zh-CN.md", "![a](architecture.svg)"),
        ('<img src="docs/images/page.png" width="9">', "README.md", '<img src="images/page.png" width="9">'),
        ("[a](../CHANGELOG.md)", "deploy/README.md", "[a](changelog.md)"),
        ("[a](.env.example)", "deploy/README.md", "[a](files/env.example.txt)"),
        ("[a](../../SECURITY.md)", "docs/adr/README.md", "[a](../security.md)"),
        ("[a](https://example.org/README.md) [b](#c)", "README.md", "[a](https://example.org/README.md) [b](#c)"),
        ("[a](Makefile)", "README.md", "[a](Makefile)"),
    ],
)
def test_links_of_the_repository_become_links_of_the_site(markdown: str, source: str, expected: str) -> None:
    assert build.site_links(markdown, source, build.places()) == expected
