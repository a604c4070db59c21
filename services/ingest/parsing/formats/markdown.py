"""Reads Markdown: blocks by its structure, with the source text. Models know inline marks and links, so they stay."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from zhiwen.common.models import Block
from zhiwen.ingest.parsing.detect.decode import decode_text
from zhiwen.ingest.parsing.text.normalise import Outline, clean_text

FRONT_MATTER = re.compile(r"\A---\n(.*?)\n(?:---|\.\.\.)(?:\n|\Z)", re.S)
# `#标题` without a space is not a heading in CommonMark, but its author means one.
TIGHT_HEADING = re.compile(r"^(#{1,6})([\u4e00-\u9fff][^\n]*)(?:\n|\Z)")
KINDS = {
    "paragraph_open": "paragraph",
    "blockquote_open": "paragraph",
    "html_block": "paragraph",
    "bullet_list_open": "list",
    "ordered_list_open": "list",
    "fence": "code",
    "code_block": "code",
}
HEADING_MARKS = re.compile(r"[*_`]{1,3}|\s*\{#[^}]*\}\s*$|<[^>]+>")
LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")


def read_markdown(path: Path) -> Iterator[Block]:
    """Yield the top-level blocks of a CommonMark file with GitHub's tables."""
    yield from markdown_blocks(clean_text(decode_text(path.read_bytes())))


def markdown_blocks(text: str) -> Iterator[Block]:
    """Yield the blocks of Markdown source."""
    front = FRONT_MATTER.match(text)
    if front:
        yield Block(front.group(1))
        text = text[front.end() :]
    lines = text.split("\n")
    tokens = MarkdownIt("commonmark").enable("table").disable("inline").parse(text)
    outline = Outline()
    for position, token in enumerate(tokens):
        if token.level == 0 and token.map is not None:
            source = "\n".join(lines[token.map[0] : token.map[1]])
            yield from _blocks(token, source, tokens, position, outline)


def _blocks(token: Token, source: str, tokens: list[Token], position: int, outline: Outline) -> Iterator[Block]:
    if token.type == "heading_open":
        yield _heading(int(token.tag[1]), tokens[position + 1].content, outline)
        return
    tight = TIGHT_HEADING.match(source) if token.type == "paragraph_open" else None
    if tight:
        yield _heading(len(tight.group(1)), tight.group(2), outline)
        source = source[tight.end() :]
    if token.type == "table_open":
        yield Block(source, "table", outline.path, header="\n".join(source.split("\n")[:2]))
    elif source.strip():
        yield Block(source, KINDS.get(token.type, "paragraph"), outline.path)


def _heading(level: int, source: str, outline: Outline) -> Block:
    title = HEADING_MARKS.sub("", LINK.sub(r"\1", source)).strip() or source
    return Block(title, "heading", outline.enter(level, title))
