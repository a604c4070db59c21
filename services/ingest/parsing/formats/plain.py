"""Reads plain text: paragraphs between empty lines, chapter lines as headings, form feeds as page ends."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from zhiwen.common.models import Block
from zhiwen.ingest.parsing.detect.decode import decode_text
from zhiwen.ingest.parsing.text.normalise import Outline, clean_text

PARAGRAPHS = re.compile(r"\n[ \t\u3000]*\n+")
CHAPTER = re.compile(
    r"^[ \t\u3000]*第[零〇一二三四五六七八九十百千\d]{1,8}([编部篇卷章节])(?:[ \t\u3000:：]+[^\n。！？；，]{0,40})?$"
)
LEVELS = {"编": 1, "部": 1, "篇": 1, "卷": 1, "章": 2, "节": 3}


def read_plain(path: Path) -> Iterator[Block]:
    """Yield the paragraphs of a text file in any encoding."""
    yield from plain_blocks(decode_text(path.read_bytes()))


def plain_blocks(text: str) -> Iterator[Block]:
    """Yield the paragraphs of `text`. Pages are counted if it has form feeds."""
    pages = text.split("\f")
    outline = Outline()
    for number, page_text in enumerate(pages, start=1):
        page = number if len(pages) > 1 else None
        for paragraph in PARAGRAPHS.split(clean_text(page_text)):
            yield from _paragraph_blocks(paragraph, outline, page)


def _paragraph_blocks(paragraph: str, outline: Outline, page: int | None) -> Iterator[Block]:
    lines: list[str] = []
    for line in paragraph.split("\n"):
        chapter = CHAPTER.match(line)
        if chapter is None:
            lines.append(line)
            continue
        if lines:
            yield Block("\n".join(lines), "paragraph", outline.path, page)
            lines = []
        yield Block(line.strip(), "heading", outline.enter(LEVELS[chapter.group(1)], line), page)
    if lines:
        yield Block("\n".join(lines), "paragraph", outline.path, page)
