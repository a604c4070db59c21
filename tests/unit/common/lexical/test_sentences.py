"""Where sentences end, in Chinese and English: the cases that a simple rule gets wrong, as a table."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiwen.common.lexical.sentences import split_sentences

SENTENCES = [
    # Chinese marks
    "一。|二！|三？|四｡",
    "真的吗？！|是的……|好。",
    "今年第３季度完成了３．１４％。|明年再议。",
    "没有句号的文字",
    # Quotes and brackets
    "他说：“好。”|然后走了。",
    "他说「好。」|然后走了。",
    "他说：『好！』|她问：「真的？」|没人回答。",
    "（完。）|下一句。",
    "（真的！）。|下一句。",
    "“你好！”，他说。|“再见。”",
    "“来吗？”、“去吗？”，都是问句。|好。",
    "【注意！】|下一句。",
    "《为什么？》和《你好，李焕英！》都很好看。|《十万个为什么？下册》也是。",
    '"Stop!" he said. |"Why?" |She left.',
    "He left (see below.) |Then she left. |[Note.] |End.",
    "Was it him (really?) or her? |Yes.",
    "He said “no.” |Then he left.",
    # Ellipses
    "我……|我不知道。",
    "他走了……|没有再来。",
    "“我不信……”|她说。",
    "我…我不知道。|他…也不知道。",
    "Wait… |He left. |Wait... |She left. |He paused... and went.",
    "第一章……1\n第二章……2",
    "等等……，还有。|好",
    # Abbreviations, initials, acronyms
    "Dr. Smith met J. K. Rowling at 5 p.m. on Monday.",
    "They met in the U.S.). |Several did (5 p.m.). |Good.",
    "Mr. and Mrs. Li met Prof. Wang, e.g. in the U.S. Senate, i.e. there. |Good.",
    "He lives in the U.S. |He works at 5 p.m. |The rest is, e.g., rest.",
    "Smith et al. (2009) and Zaragoza Ltd. in Paris; Inc. magazine, etc. |The end.",
    "Sammy Davis, Jr. sang. |So did John Jr. |Then all did.",
    "See Fig. 3, Eq. (2), No. 5, pp. 7 and Sec. IV. |No. |He did not see Fig. |It was gone.",
    "He has a Ph.D. in law. |She has a Ph.D. |They met at St. Mary.",
    "It is plan B. |The other is plan C. Nobody knows.",
    "It was 5 a.m. when they came. |It is vs. him, approx. 3, cf. there.",
    # Numbers, versions, names of things
    "It is 3.14 m. |He left, e.g. Monday.",
    "Version v2.5.1 is out. |Ask help@example.com now! |It has 1.5 MB.",
    "见 www.example.com. |Next.",
    "We use Node.js. |It is .NET and asp.net. |iPhone users know. |iOS too.",
    "价格是3.5元。|v2.5.1。|共12.",
    # Addresses
    "See https://example.com/?q=1&b=2!x for it. |Next.",
    "见 https://example.com/?a=1。|好！",
    "去 https://example.com/?|然后看。",
    "[图](https://example.com/items?name=a.b)和![](x.png)。|<!-- 注释 -->|",
    # Semicolons and lines are no ends
    "甲；乙；丙。|丁; 戊。",
    "a line\nanother line. |A third\none.",
    # Lists
    "1. First\n2. Second\n10. Tenth",
    "a. First\nb. Second\niv. Fourth",
    "2.1. Scope\n2.1.1. More",
    "一. 概述\n二. 背景",
    "完成了。|2. 下一步。",
    "- 甲。|- 乙。|",
    "### 2. 标题",
    "It was 1990. |It ended in 2. |Good.",
    # Empty lines
    "标题\n\n|正文。|",
    "a\n \n\n|b",
    # English in Chinese and the other way round
    "他用Python。|She likes 火锅! |真的?|是的.",
    "What is 知问? |It answers.",
    # Nothing, and white space
    "",
    " \n ",
    "  一。  |二。\n",
    "。",
    "...",
    "。。。|好",
]
CLAUSES = [
    "甲；|乙；|丙。",
    "a; |b; |c",
    "x&amp;y; |z",
    "标题\n|正文。",
    "1. First\n|2. Second",
    "Dr. Smith left; |he is in the U.S. now.",
    "他说：“好；”|然后走了。",
    "a line\n|another line. |A third",
    "一。|二！|三？",
    "他说：“好。”|然后走了。",
    "Version 2.5 is out. |Ask help@example.com now!",
    "",
]


@pytest.mark.parametrize("marked", SENTENCES)
def test_sentences_end_at_the_bars(marked: str) -> None:
    expected = [part for part in marked.split("|") if part] or [""]
    assert split_sentences(marked.replace("|", "")) == expected


@pytest.mark.parametrize("marked", CLAUSES)
def test_clauses_end_at_semicolons_and_lines_as_well(marked: str) -> None:
    expected = [part for part in marked.split("|") if part] or [""]
    assert split_sentences(marked.replace("|", ""), clauses=True) == expected


PIECES = st.sampled_from(
    [
        *"。！？!?….;；，,:“”\"'()（）《》「」 \n\t\u3000",
        "Dr",
        "U.S",
        "e.g",
        "No",
        "3",
        "2.1",
        "a",
        "B",
        "The",
        "字",
        "......",
    ]
)
TEXTS = st.one_of(st.text(max_size=200), st.lists(PIECES, max_size=60).map("".join))


@given(TEXTS, st.booleans())
def test_joined_sentences_are_the_text_and_none_is_blank(text: str, clauses: bool) -> None:
    sentences = split_sentences(text, clauses=clauses)
    assert "".join(sentences) == text
    assert all(sentence.strip() for sentence in sentences) or not text.strip()


@pytest.mark.parametrize(
    "piece", ["没有标点", "Mr. ", "《！", "。", ".)", " \n \n", "…a", '"."', "?", " ", "1. ", "a; "]
)
def test_time_grows_with_the_length_only(piece: str) -> None:
    begun = time.process_time()
    split_sentences(piece * 50_000)
    split_sentences(piece * 50_000, clauses=True)
    assert time.process_time() - begun < 5.0
