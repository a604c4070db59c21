"""Chunking: turns the blocks of a parsed document into chunks for the embedding model. Pure.

A chunk consists of whole sentences of neighbouring blocks under one heading and on one page. A heading stays with the
text after it. Code and table rows stay whole if they fit. Each chunk of a table begins with the table's header. A
`Passage` keeps its own text apart from repeated text, so `join(split_blocks(...))` is exactly the text of the document.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from zhiwen.common.lexical.sentences import split_sentences
from zhiwen.common.models import Block, Chunk, ChunkingSpec

CountTokens = Callable[[str], int]

SEPARATORS = ["\n\n", "\n", "。", "！", "？", "；", "，", " ", ""]
"""Where LangChain's splitter may cut a sentence that is longer than a chunk; the best separator first."""
WINDOW_CHARACTERS = 2_000
PATH_SEPARATOR = " > "


@dataclass(frozen=True, slots=True)
class Passage:
    """A chunk in two parts: `lead` repeats earlier text (overlap, or a table's header), `body` is its own text.

    The bodies of all passages of a document, joined, are the `document_text` of its blocks.
    """

    body: str
    lead: str
    heading: tuple[str, ...]
    page: int | None

    @property
    def text(self) -> str:
        """The text that is embedded, found and cited."""
        return (self.lead + self.body).strip()


@dataclass(frozen=True, slots=True)
class Unit:
    """A piece that is never cut: a sentence, a table row, a line of code.

    A chunk ends best before a unit that `starts_block`. `header` is repeated before a unit that begins a chunk. A unit
    that `overlaps` may be repeated in the next chunk.
    """

    text: str
    tokens: int
    starts_block: bool = False
    header: str = ""
    overlaps: bool = False


@dataclass(slots=True)
class Section:
    """Neighbouring blocks under one heading and on one page, and the titles directly above them."""

    heading: tuple[str, ...]
    page: int | None
    titles: list[str] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)


def chunk_blocks(
    blocks: Sequence[Block], spec: ChunkingSpec, count_tokens: CountTokens, max_tokens: int
) -> list[Chunk]:
    """Return the chunks of a document: at most `spec.size` tokens each, and never more than `max_tokens`.

    `count_tokens` is the embedding model's. It is called about twice per sentence, so it should take at most 50
    microseconds.
    `Chunk.heading` is the path of titles as `A > B`.
    """
    passages = split_blocks(blocks, spec, count_tokens, max_tokens)
    return [
        Chunk(ordinal, passage.text, PATH_SEPARATOR.join(passage.heading), passage.page)
        for ordinal, passage in enumerate(passages)
    ]


def document_text(blocks: Iterable[Block]) -> str:
    """Return the text of a document: its blocks, each followed by a newline. Blank blocks are left out."""
    return "".join(f"{block.text}\n" for block in blocks if block.text.strip())


def join(passages: Iterable[Passage]) -> str:
    """Return the text of a document from its passages, without repeated text."""
    return "".join(passage.body for passage in passages)


def split_blocks(
    blocks: Sequence[Block], spec: ChunkingSpec, count_tokens: CountTokens, max_tokens: int
) -> list[Passage]:
    """Return the passages of a document; see `chunk_blocks`."""
    size = max(1, min(spec.size, max_tokens))
    splitter = _Splitter(size, min(spec.overlap, size // 2), count_tokens)
    return [passage for section in _sections(blocks) for passage in splitter.split(section)]


def _sections(blocks: Iterable[Block]) -> Iterator[Section]:
    """Yield sections: blocks grouped by heading path and page. A title belongs to the block after it."""
    section: Section | None = None
    titles: list[Block] = []
    for block in blocks:
        if not block.text.strip():
            continue
        if block.kind == "heading":
            titles.append(block)
            continue
        if section is None or titles or (section.heading, section.page) != (block.heading, block.page):
            if section is not None:
                yield section
            section = Section(block.heading, block.page, [title.text for title in titles])
            titles = []
        section.blocks.append(block)
    if section is not None:
        yield section
    if titles:
        yield Section(titles[0].heading, titles[0].page, blocks=titles)


class _Splitter:
    """Splits sections with one size, overlap and tokenizer."""

    def __init__(self, size: int, overlap: int, count_tokens: CountTokens) -> None:
        self._size = size
        self._overlap = overlap
        self._count = count_tokens

    def split(self, section: Section) -> Iterator[Passage]:
        """Yield the passages of one section."""
        units = [unit for block in section.blocks for unit in self._units(block)]
        units = _without_blanks(self._with_titles(section.titles, units))
        start, lead = 0, ""
        while start < len(units):
            lead = lead or units[start].header
            stop = self._fill(units, start, lead)
            body = "".join(unit.text for unit in units[start:stop])
            if lead and self._count((lead + body).strip()) > self._size:
                lead = ""
            yield Passage(body, lead, section.heading, section.page)
            lead = self._tail(units, start, stop)
            start = stop

    def _fill(self, units: Sequence[Unit], start: int, lead: str) -> int:
        """Return the end of the chunk that begins at `start`: where it is full, or a block's end in its second half."""
        used = self._count(lead) if lead else 0
        used = used if used + units[start].tokens <= self._size else 0
        stop, block_end = start, start
        while stop < len(units) and (stop == start or used + units[stop].tokens <= self._size):
            if units[stop].starts_block and stop > start and used * 2 >= self._size:
                block_end = stop
            used += units[stop].tokens
            stop += 1
        if start < block_end and stop < len(units) and not units[stop].starts_block:
            stop = block_end
        while stop > start + 1 and self._count("".join(u.text for u in units[start:stop]).strip()) > self._size:
            stop -= 1
        return stop

    def _tail(self, units: Sequence[Unit], start: int, stop: int) -> str:
        """Return the sentences at the end of a chunk that the next chunk repeats."""
        if stop >= len(units) or units[stop].header:
            return ""
        used, first = 0, stop
        while first > start + 1 and units[first - 1].overlaps and used + units[first - 1].tokens <= self._overlap:
            first -= 1
            used += units[first].tokens
        return "".join(unit.text for unit in units[first:stop])

    def _with_titles(self, titles: Sequence[str], units: list[Unit]) -> list[Unit]:
        """Join the titles to the first unit. If both do not fit into one chunk, cut the unit."""
        if not titles:
            return units
        text = "".join(f"{title}\n" for title in titles)
        tokens = self._count(text)
        if tokens * 2 > self._size:
            return [*self._sentences(text, overlaps=False), *units]
        first = units[0]
        pieces = [first]
        if tokens + first.tokens > self._size:
            pieces = [
                replace(first, text=part, tokens=self._count(part))
                for part in self._cut(first.text, self._size - tokens)
            ]
        head = text + pieces[0].text
        glued = replace(pieces[0], text=head, tokens=self._count(head), starts_block=True, header="", overlaps=False)
        if glued.tokens > self._size:
            return [Unit(text, tokens, starts_block=True), *pieces, *units[1:]]
        return [glued, *pieces[1:], *units[1:]]

    def _units(self, block: Block) -> list[Unit]:
        text = f"{block.text}\n"
        if block.kind == "table":
            return self._rows(block)
        tokens = self._count(text)
        if block.kind == "code" and tokens <= self._size:
            return [Unit(text, tokens, starts_block=True)]
        if block.kind in {"code", "list"}:
            lines = text.splitlines(keepends=True)
            pieces = [unit for line in lines for unit in self._sentences(line, overlaps=block.kind == "list")]
        else:
            pieces = list(self._sentences(text, overlaps=True))
        return [replace(pieces[0], starts_block=True), *pieces[1:]]

    def _rows(self, block: Block) -> list[Unit]:
        text, header = block.text, block.header or ""
        lead = f"{header}\n" if header and self._count(header) * 2 <= self._size else ""
        rows = text.splitlines(keepends=True)
        rows[-1] += "\n"
        own = len(header.splitlines()) if header and text.startswith(header) else 0
        units: list[Unit] = []
        for row in ["".join(rows[: own + 1]), *rows[own + 1 :]] if own else rows:
            budget = self._size if own and not units else max(1, self._size - (self._count(lead) if lead else 0))
            tokens = self._count(row)
            parts = [row] if tokens <= budget else self._cut(row, budget)
            for part in parts:
                repeated = "" if own and not units else lead
                units.append(Unit(part, self._count(part), starts_block=not units, header=repeated))
        return units

    def _sentences(self, text: str, *, overlaps: bool) -> Iterator[Unit]:
        for sentence in split_sentences(text):
            tokens = self._count(sentence)
            if tokens <= self._size:
                yield Unit(sentence, tokens, overlaps=overlaps)
            else:
                for part in self._cut(sentence, self._size):
                    yield Unit(part, self._count(part))

    def _cut(self, text: str, budget: int) -> list[str]:
        """Cut a text into parts of at most `budget` tokens, at the best places. Joined, the parts are `text`."""
        parts = [part for window in _windows(text) for part in _recursive_split(window, budget, self._count)]
        return [piece for part in parts for piece in self._halve(part, budget)]

    def _halve(self, text: str, budget: int) -> list[str]:
        """Halve a text until each part is at most `budget` tokens. A single character is never cut."""
        if len(text) < 2 or self._count(text) <= budget:
            return [text]
        middle = len(text) // 2
        return [*self._halve(text[:middle], budget), *self._halve(text[middle:], budget)]


def _without_blanks(units: Iterable[Unit]) -> list[Unit]:
    """Join each unit of only white space to the unit before it; at the start, to the unit after it."""
    kept: list[Unit] = []
    blank = ""
    for unit in units:
        if unit.text.strip():
            kept.append(replace(unit, text=blank + unit.text) if blank else unit)
            blank = ""
        elif kept:
            kept[-1] = replace(kept[-1], text=kept[-1].text + unit.text)
        else:
            blank += unit.text
    return kept


def _windows(text: str) -> Iterator[str]:
    """Cut a text into windows of at most `WINDOW_CHARACTERS`, at a separator if possible."""
    start = 0
    while len(text) - start > WINDOW_CHARACTERS:
        window = text[start : start + WINDOW_CHARACTERS]
        cut = max(window.rfind(separator) + len(separator) for separator in SEPARATORS if separator)
        cut = cut if cut > WINDOW_CHARACTERS // 2 else WINDOW_CHARACTERS
        yield window[:cut]
        start += cut
    yield text[start:]


def _recursive_split(text: str, budget: int, count_tokens: CountTokens) -> list[str]:
    from langchain_text_splitters import RecursiveCharacterTextSplitter

    splitter = RecursiveCharacterTextSplitter(
        separators=SEPARATORS,
        keep_separator="end",
        chunk_size=budget,
        chunk_overlap=0,
        length_function=lru_cache(maxsize=4096)(count_tokens),
        strip_whitespace=False,
    )
    parts = splitter.split_text(text)
    return parts if "".join(parts) == text else [text]
