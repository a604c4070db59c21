"""Builds the documentation site: `python docs/build.py` writes `build/site` and fails where a link is dead.

The README, the changelog and other pages stay where a forge shows them, outside `docs/`. They are copied into the site,
and links between files of the repository become links of the site.
"""

from __future__ import annotations

import posixpath
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "build/site"
OUTSIDE = {
    "README.md": "index.md",
    "README.zh-CN.md": "index.zh-CN.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "deploy/README.md": "deploy.md",
    "examples/README.md": "examples.md",
    "LICENSE": "files/LICENSE.txt",
    "deploy/.env.example": "files/env.example.txt",
}
"""Path in the repository -> path in the site, for what lies outside `docs/`."""
SUFFIXES = {".md", ".png", ".svg"}
LINK = re.compile(r"""(?:(?<=\]\()|(?<=\ssrc="))([^)\s#"]+)((?:#[^)\s"]*)?[)"])""")
"""The address in `[text](address#heading)`, `![text](address)` and `<img src="address">`."""


def places() -> dict[str, str]:
    """Return path in the repository -> path in the site, for every file of the site."""
    inside = (path for path in (ROOT / "docs").rglob("*") if path.suffix in SUFFIXES)
    paths = {f"docs/{path}": path.replace("README.md", "index.md") for path in (_inside_docs(path) for path in inside)}
    return {**paths, **OUTSIDE}


def _inside_docs(path: Path) -> str:
    return path.relative_to(ROOT / "docs").as_posix()


def gather(target: Path) -> None:
    """Copy every page of the site to `target`, which is emptied first, with the links of the site."""
    shutil.rmtree(target, ignore_errors=True)
    known = places()
    for source, place in known.items():
        copy = target / place
        copy.parent.mkdir(parents=True, exist_ok=True)
        if copy.suffix == ".md":
            markdown = (ROOT / source).read_text(encoding="utf-8")
            copy.write_text(site_links(markdown, source, known), encoding="utf-8")
        else:
            shutil.copyfile(ROOT / source, copy)


def site_links(markdown: str, source: str, known: dict[str, str]) -> str:
    """Return the page with links of the site. A link to a file that the site lacks stays, and is found dead later.

    `source` is the page's path in the repository, `known` what `places` returns. A link to a folder means its README.
    """

    def rewritten(match: re.Match[str]) -> str:
        link, rest = match.groups()
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
        place = known.get(target) or known.get(f"{target}/README.md")
        return match[0] if place is None else posixpath.relpath(place, posixpath.dirname(known[source]) or ".") + rest

    return LINK.sub(rewritten, markdown)


class _Page(HTMLParser):
    """What a page of the built site leads to, what it loads, and the anchors it has."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.loaded: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value for name, value in attrs if value}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a":
            self.links |= {given[name] for name in ("href",) if name in given}
        elif given.get("rel") != "canonical":
            self.loaded |= {given[name] for name in ("href", "src") if name in given}


def faults(site: Path) -> Iterator[str]:
    """Yield a sentence for each link of the built site that leads nowhere, and each thing it loads from elsewhere."""
    pages = {path: _Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        name = path.relative_to(site)
        yield from (f"{name} loads {url} from another machine" for url in sorted(page.loaded) if _is_foreign(url))
        for link in sorted(page.links | page.loaded):
            if _is_foreign(link) or link.startswith(("data:", "mailto:", "javascript:")):
                continue
            file, _, anchor = unquote(link).partition("#")
            start = site if file.startswith("/") else path.parent
            target = (start / file.lstrip("/")).resolve() if file else path
            if not target.exists():
                yield f"{name} leads to {link}, which is not there"
            elif anchor and target in pages and anchor not in pages[target].anchors:
                yield f"{name} leads to {link}, and there is no such heading"


def _is_foreign(url: str) -> bool:
    return url.startswith(("http://", "https://", "//"))


def main() -> None:
    """Build the site. Exits with 1 when it has a fault."""
    gather(ROOT / "build/docs")
    shutil.rmtree(SITE, ignore_errors=True)
    built = subprocess.run([sys.executable, "-m", "zensical", "build", "--clean", "--strict"], cwd=ROOT, check=False)
    if built.returncode:
        raise SystemExit(built.returncode)
    if found := list(faults(SITE)):
        raise SystemExit("\n".join(found))
    print(f"Built {SITE.relative_to(ROOT)}/index.html")


if __name__ == "__main__":
    main()
