"""Reads RTF, OpenDocument text, EPUB, reStructuredText and Org: pandoc converts them to HTML for our HTML reader.

Pandoc gets the document on its standard input and runs with `--sandbox`: it reads no other file and uses no network.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

from lxml import etree

from zhiwen.common.errors import DocumentError
from zhiwen.common.models import Block
from zhiwen.ingest.parsing.detect.decode import decode_text
from zhiwen.ingest.parsing.formats.html import tree_blocks
from zhiwen.ingest.parsing.formats.markup import parse_html
from zhiwen.ingest.parsing.formats.rtf_code_pages import as_utf8
from zhiwen.ingest.parsing.runtime.programs import run_program
from zhiwen.ingest.parsing.text.normalise import clean_text, one_line

OPTIONS = ("--sandbox", "--to=html", "--wrap=none", "--mathjax", "--syntax-highlighting=none")
# A title in the metadata of a document becomes its first heading.
TITLE_TEMPLATE = '$if(title)$<h1 class="title">$title$</h1>$endif$\n$body$\n'
# What programs write if the author has given no title.
NO_TITLES = frozenset({"unknown", "unknown title", "untitled"})
# Exit codes of the Haskell runtime: the heap is exhausted, the stack overflows.
OUT_OF_MEMORY = 251
STACK_OVERFLOW = 2
NOTE_MARKS = frozenset({"footnote-ref", "footnote-back"})
# If a directive reads another file, pandoc with its sandbox refuses the whole document. The options of a directive are
# the indented lines after it.
READING_DIRECTIVE = re.compile(r"\.\.[ \t]+(?:\|[^|\n]*\|[ \t]+)?(?:csv-table|raw)::[^\n]*(?:\n[ \t]+[^ \t\n][^\n]*)*")
FILE_OPTION = re.compile(r"^[ \t]+:(?:file|url):.*$", re.MULTILINE)


def read_rtf(path: Path) -> Iterator[Block]:
    """Yield the blocks of an RTF file, in any code page."""
    yield from _blocks("rtf", as_utf8(path.read_bytes()))


def read_odt(path: Path) -> Iterator[Block]:
    """Yield the blocks of an OpenDocument text."""
    yield from _blocks("odt", path.read_bytes())


def read_epub(path: Path) -> Iterator[Block]:
    """Yield the blocks of a book."""
    yield from _blocks("epub", path.read_bytes(), titled=True)


def read_org(path: Path) -> Iterator[Block]:
    """Yield the blocks of an Org file in any encoding. Included files are not read."""
    yield from _blocks("org", _source(path).encode(), titled=True)


def read_rst(path: Path) -> Iterator[Block]:
    """Yield the blocks of a reStructuredText file in any encoding. Included files are not read."""
    source = READING_DIRECTIVE.sub(lambda directive: FILE_OPTION.sub("", directive[0]), _source(path))
    yield from _blocks("rst", source.encode())


def _source(path: Path) -> str:
    return clean_text(decode_text(path.read_bytes())) + "\n"


def _blocks(kind: str, data: bytes, *, titled: bool = False) -> Iterator[Block]:
    """Yield the blocks of a document, with its footnotes last and without a heading.

    `kind` is pandoc's name of the format. `titled` means that the title of such a document is only in its metadata.
    """
    root = parse_html(_html(kind, data, titled=titled))
    if root is None:
        return
    _drop_idle_title(root)
    notes = _take_notes(root)
    yield from tree_blocks(root, office=True)
    for note in notes:
        yield from (replace(block, heading=()) for block in tree_blocks(note, office=True))


def _html(kind: str, data: bytes, *, titled: bool) -> str:
    command = [_program(), f"--from={kind}", *OPTIONS]
    if titled:
        template = Path("title.template")
        template.write_text(TITLE_TEMPLATE, encoding="ascii")
        command.append(f"--template={template}")
    done = run_program(command, data)
    if done.code == OUT_OF_MEMORY:
        raise MemoryError
    if done.code == STACK_OVERFLOW:
        raise RecursionError
    if done.code:
        raise DocumentError("corrupt", "This file is damaged. Open it in its own program and save it again.")
    return done.output.decode("utf-8", "replace")


def _program() -> str:
    """Return the path of the program pandoc in the package pypandoc-binary."""
    package = find_spec("pypandoc")
    if package is None or package.origin is None:
        raise DocumentError("unsupported-type", "Reading this file needs the Python package pypandoc-binary.")
    return str(Path(package.origin).parent / "files" / "pandoc")


def _drop_idle_title(root: etree._Element) -> None:
    """Remove a title that says nothing, or that the first heading of the document repeats."""
    headings = list(islice(root.iter("h1", "h2", "h3", "h4", "h5", "h6"), 2))
    if not headings or headings[0].get("class") != "title":
        return
    title, *following = (one_line("".join(map(str, heading.itertext()))) for heading in headings)
    parent = headings[0].getparent()
    if parent is not None and (title.casefold() in NO_TITLES or title in following):
        parent.remove(headings[0])


def _take_notes(root: etree._Element) -> list[etree._Element]:
    """Remove the footnotes and their marks from the tree; return the sections of footnotes."""
    for link in list(root.iter("a")):
        if link.get("class") in NOTE_MARKS:
            link.tag = "removed"
    etree.strip_elements(root, "removed", with_tail=False)
    sections: list[etree._Element] = root.findall(".//section[@id='footnotes']")
    for section in sections:
        for item in (*section.findall("ol"), *section.findall("ol/li")):
            item.tag = "div"
        parent = section.getparent()
        if parent is not None:
            parent.remove(section)
    return sections
