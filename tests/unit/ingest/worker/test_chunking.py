"""Chunks respect the text: as properties over generated documents, and as examples a person can read."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhiwen.common.models import Block, ChunkingSpec
from zhiwen.ingest.worker.chunking import chunk_blocks, document_text, join, split_blocks


def characters(text: str) -> int:
    return sum(not c.isspace() for c in text)


def words(text: str) -> int:
    """A Chinese character or a word of other letters is a token."""
    return sum(c >= "\u2e80" for c in text) + len("".join(c if c < "\u2e80" else " " for c in text).split())


def pieces(text: str) -> int:
    """Like a byte-pair encoder: three bytes a token, and not additive."""
    return math.ceil(len(text.encode()) / 3)


def with_special_tokens(text: str) -> int:
    return words(text) + 2


TOKENIZERS: list[Callable[[str], int]] = [characters, words, pieces, with_special_tokens]
LETTERS = st.text(alphabet="春眠不觉晓处处闻啼鸟abcdef GH,，、；: 12\n|\t", max_size=60)
TEXTS = st.lists(
    st.tuples(LETTERS, st.sampled_from(["。", "！", "？”", ". ", "!\n", "", "\n\n", "…"])), max_size=8
).map(lambda parts: "".join(letters + end for letters, end in parts))
HEADINGS = st.lists(st.sampled_from(["第一章", "Intro", "背景", "x" * 80]), max_size=3).map(tuple)


@st.composite
def blocks(draw: st.DrawFn) -> Block:
    kind = draw(st.sampled_from(["heading", "paragraph", "paragraph", "list", "table", "code"]))
    page = draw(st.sampled_from([None, 1, 2]))
    text = draw(TEXTS)
    header = None
    if kind == "table" and draw(st.booleans()):
        header = draw(st.sampled_from(["名 | 值", "| a | b |\n|---|---|", "很长的表头" * 20]))
        text = f"{header}\n{text}" if draw(st.booleans()) else text
    return Block(text, kind, draw(HEADINGS), page, header)


DOCUMENTS = st.lists(blocks(), max_size=12)
SPECS = st.builds(ChunkingSpec, size=st.integers(8, 120), overlap=st.integers(0, 60))


@settings(deadline=None)
@given(DOCUMENTS, SPECS, st.sampled_from(TOKENIZERS))
def test_joined_chunks_are_the_document(document: list[Block], spec: ChunkingSpec, count: Callable[[str], int]) -> None:
    assert join(split_blocks(document, spec, count, 512)) == document_text(document)


@settings(deadline=None)
@given(DOCUMENTS, SPECS, st.sampled_from(TOKENIZERS), st.integers(8, 64))
def test_no_chunk_is_over_the_size_or_the_limit_of_the_model(
    document: list[Block], spec: ChunkingSpec, count: Callable[[str], int], limit: int
) -> None:
    chunks = chunk_blocks(document, spec, count, limit)
    assert all(count(chunk.text) <= min(spec.size, limit) for chunk in chunks)
    assert all(chunk.text.strip() == chunk.text != "" for chunk in chunks)
    assert [chunk.ordinal for chunk in chunks] == list(range(len(chunks)))


@settings(deadline=None)
@given(DOCUMENTS, SPECS, st.sampled_from(TOKENIZERS))
def test_what_is_repeated_stands_in_the_document(
    document: list[Block], spec: ChunkingSpec, count: Callable[[str], int]
) -> None:
    text = document_text(document)
    headers = {f"{block.header}\n" for block in document if block.header}
    for passage in split_blocks(document, spec, count, 512):
        assert passage.lead in text or passage.lead in headers


SENTENCES = st.lists(
    st.tuples(
        st.text(alphabet="春眠不觉晓abc，、 ", min_size=1, max_size=12).map(lambda text: f"字{text.strip()}字"),
        st.sampled_from(["。", "！", "？", "。”", "!", "?\n", "……"]),
    ),
    min_size=1,
    max_size=30,
)


@settings(deadline=None)
@given(SENTENCES, st.integers(20, 60), st.integers(0, 20))
def test_sentences_that_fit_are_never_cut(sentences: list[tuple[str, str]], size: int, overlap: int) -> None:
    parts = [text + end for text, end in sentences]
    ends = set(accumulate(len(part) for part in parts))
    passages = split_blocks([Block("".join(parts).strip())], ChunkingSpec(size, overlap), characters, 512)
    cuts = list(accumulate(len(passage.body) for passage in passages))[:-1]
    assert [cut for cut in cuts if cut not in ends] == []


def test_headings_stay_with_what_follows_and_name_the_chunk() -> None:
    document = [
        Block("A", "heading"),
        Block("B", "heading", ("A",)),
        Block("一。" * 10, heading=("A", "B")),
        Block("C", "heading", ("A",)),
        Block("二。", heading=("A", "C")),
    ]
    chunks = chunk_blocks(document, ChunkingSpec(12, 0), characters, 512)
    assert [(chunk.heading, chunk.text) for chunk in chunks] == [
        ("A > B", "A\nB\n" + "一。" * 5),
        ("A > B", "一。" * 5),
        ("A > C", "C\n二。"),
    ]


def test_title_stays_with_a_first_sentence_that_has_to_be_cut() -> None:
    document = [Block("标题", "heading"), Block("很长" * 20 + "，" + "的话" * 20, heading=("标题",))]
    chunks = chunk_blocks(document, ChunkingSpec(30, 0), characters, 512)
    assert chunks[0].text.startswith("标题\n很长")


def test_heading_at_the_end_of_a_document_is_kept() -> None:
    (chunk,) = chunk_blocks([Block("尾声", "heading", ("书",))], ChunkingSpec(), words, 512)
    assert (chunk.text, chunk.heading) == ("尾声", "书")


def test_pages_and_headings_are_never_mixed() -> None:
    document = [
        Block("一。", page=1),
        Block("二。", page=1),
        Block("三。", page=2),
        Block("四。", heading=("H",), page=2),
    ]
    chunks = chunk_blocks(document, ChunkingSpec(), words, 512)
    assert [(chunk.page, chunk.heading, chunk.text) for chunk in chunks] == [
        (1, "", "一。\n二。"),
        (2, "", "三。"),
        (2, "H", "四。"),
    ]


def test_every_chunk_of_a_table_begins_with_its_header_and_rows_stay_whole() -> None:
    rows = [f"行{n} | 值{n}" for n in range(30)]
    table = Block("\n".join(["名 | 值", *rows]), "table", header="名 | 值")
    passages = split_blocks([table], ChunkingSpec(24, 10), words, 512)
    assert len(passages) > 3
    assert all(passage.text.startswith("名 | 值\n行") for passage in passages)
    assert [line for passage in passages for line in passage.text.split("\n")[1:]] == rows


def test_code_stays_whole_where_it_fits() -> None:
    code = Block("def f():\n    a. b\n    return 1", "code")
    document = [Block("前。" * 4), code, Block("后。" * 4)]
    texts = [chunk.text for chunk in chunk_blocks(document, ChunkingSpec(32, 0), characters, 512)]
    assert sum(code.text in text for text in texts) == 1


def test_long_code_is_cut_between_lines() -> None:
    lines = [f"x{n} = {n}" for n in range(40)]
    passages = split_blocks([Block("\n".join(lines), "code")], ChunkingSpec(30, 10), characters, 512)
    assert [line for passage in passages for line in passage.text.split("\n")] == lines


def test_overlap_repeats_whole_sentences() -> None:
    text = "".join(f"这是第{n}句。" for n in "甲乙丙丁戊己庚辛")
    first, second, *_ = split_blocks([Block(text)], ChunkingSpec(20, 8), characters, 512)
    assert second.lead == "这是第丙句。"
    assert first.text.endswith(second.lead)


def test_sentence_longer_than_a_chunk_is_cut_at_clauses() -> None:
    text = "，".join(["十个字的一个小小分句"] * 6) + "。"
    texts = [chunk.text for chunk in chunk_blocks([Block(text)], ChunkingSpec(25, 0), characters, 512)]
    assert all(piece.endswith(("，", "。")) for piece in texts)


def test_nothing_from_nothing() -> None:
    assert chunk_blocks([], ChunkingSpec(), words, 512) == []
    assert chunk_blocks([Block("  \n")], ChunkingSpec(), words, 512) == []


@pytest.mark.parametrize("text", ["没有标点的文字" * 14_000, "短句。" * 33_000, "word " * 20_000, "行\n" * 50_000])
def test_a_hundred_thousand_characters_take_well_under_a_second_of_cpu(text: str) -> None:
    calls = 0

    def count(part: str) -> int:
        nonlocal calls
        calls += 1
        return len(part)

    chunk_blocks([Block("先。" * 400)], ChunkingSpec(), count, 512)  # imports
    calls, begun = 0, time.process_time()
    chunk_blocks([Block(text)], ChunkingSpec(), count, 512)
    assert time.process_time() - begun < 2.0
    assert calls < len(text)
