"""HTML source to blocks: headings, lists, tables, code, and what a reader of the page does not see."""

from __future__ import annotations

import pytest

from zhiwen.common.errors import DocumentError
from zhiwen.common.models import Block
from zhiwen.ingest.parsing.formats.html import html_blocks, tree_blocks
from zhiwen.ingest.parsing.formats.markup import parse_html


def blocks(body: str) -> list[Block]:
    return list(html_blocks(f"<html><body>{body}</body></html>"))


def texts(body: str) -> list[str]:
    return [block.text for block in blocks(body)]


def office_blocks(body: str) -> list[Block]:
    root = parse_html(f"<html><body>{body}</body></html>")
    return list(tree_blocks(root, office=True))


# Headings.


def test_headings_open_a_path_and_close_those_below() -> None:
    found = blocks("<h1>书</h1><h2>甲</h2><p>a</p><h3>细</h3><p>b</p><h2>乙</h2><p>c</p>")
    assert [(block.kind, block.text, block.heading) for block in found] == [
        ("heading", "书", ()),
        ("heading", "甲", ("书",)),
        ("paragraph", "a", ("书", "甲")),
        ("heading", "细", ("书", "甲")),
        ("paragraph", "b", ("书", "甲", "细")),
        ("heading", "乙", ("书",)),
        ("paragraph", "c", ("书", "乙")),
    ]


def test_marks_inside_a_heading_are_part_of_it() -> None:
    assert texts("<h1>大<em>标</em>题\n  <span>一</span></h1>") == ["大标题 一"]


def test_an_empty_heading_opens_nothing() -> None:
    assert blocks("<h1>书</h1><h2> </h2><p>a</p>")[-1] == Block("a", "paragraph", ("书",))


def test_the_title_of_the_page_is_the_heading_where_it_has_no_h1() -> None:
    page = "<html><head><title>页</title></head><body>{}</body></html>"
    assert list(html_blocks(page.format("<p>a</p>"))) == [Block("页", "heading"), Block("a", "paragraph", ("页",))]
    assert [block.text for block in html_blocks(page.format("<h1>书</h1><p>a</p>"))] == ["书", "a"]


# Running text.


def test_source_line_ends_are_no_gaps_between_chinese_characters_and_spaces_in_english() -> None:
    assert texts("<p>春眠\n  不觉晓</p><p>two\n  words</p>") == ["春眠不觉晓", "two words"]


def test_a_break_is_a_line_end() -> None:
    assert texts("<p>一行<br>二行<br/><br/>三行</p>") == ["一行\n二行\n\n三行"]


def test_inline_marks_part_no_word_and_block_elements_do() -> None:
    assert texts("<p>a<b>b</b><i>c</i> <u>d</u></p><div>e<div>f</div>g</div>") == ["abc d", "e", "f", "g"]


def test_text_outside_of_any_element_is_read() -> None:
    assert list(html_blocks("bare text")) == [Block("bare text")]
    assert texts("before<p>in</p>after") == ["before", "in", "after"]


def test_code_keeps_its_lines_and_spaces() -> None:
    assert blocks("<p>a</p><pre><code>if  x:\n    <span>y</span>\n</code></pre>")[1] == Block("if  x:\n    y\n", "code")


def test_characters_are_unescaped_once() -> None:
    assert texts("<p>a &lt;b&gt; &amp;amp; &#20013;&nbsp;x</p>") == ["a <b> &amp; 中 x"]


def test_definition_lists_are_paragraphs() -> None:
    assert texts("<dl><dt>术语</dt><dd>解释</dd></dl>") == ["术语", "解释"]


# Lists.


@pytest.mark.parametrize("name", ["ul", "ol", "menu"])
def test_a_list_is_one_block_and_an_inner_list_is_indented(name: str) -> None:
    inner = f"<{name}><li>内</li></{name}>"
    (found,) = blocks(f"<{name}><li>甲{inner}</li><li>乙</li></{name}>")
    assert found == Block("- 甲\n  - 内\n- 乙", "list")


def test_paragraphs_inside_an_item_are_items_of_the_list() -> None:
    assert texts("<ul><li><p>甲</p></li><li><p>乙</p><p>丙</p></li></ul>") == ["- 甲\n- 乙\n- 丙"]


def test_lists_that_follow_each_other_stay_apart() -> None:
    assert texts("<ul><li>甲</li></ul><ol><li>乙</li></ol>") == ["- 甲", "- 乙"]


def test_an_item_without_an_end_tag_ends_at_the_next() -> None:
    assert texts("<ul><li>甲<li>乙</ul>尾") == ["- 甲\n- 乙", "尾"]


def test_code_inside_a_list_stands_alone() -> None:
    assert [(block.kind, block.text) for block in blocks("<ol><li>run<pre>make</pre>then</li></ol>")] == [
        ("list", "- run"),
        ("code", "make"),
        ("list", "- then"),
    ]


# Tables.


def test_a_row_is_a_line_and_the_first_row_of_header_cells_is_the_header() -> None:
    rows = "<tr><th>名</th><th>值</th></tr><tr><td>甲</td><td>1</td></tr>"
    assert blocks(f"<h1>表</h1><table>{rows}</table>")[1] == Block("名 | 值\n甲 | 1", "table", ("表",), None, "名 | 值")


def test_thead_marks_a_header_without_header_cells() -> None:
    rows = "<thead><tr><td>名</td></tr></thead><tbody><tr><td>甲</td></tr></tbody>"
    assert blocks(f"<table>{rows}</table>")[0].header == "名"


def test_a_table_of_a_web_page_that_marks_no_header_has_none() -> None:
    rows = "<tr><td>名</td><td>值</td></tr><tr><td>甲</td><td>1</td></tr>"
    assert blocks(f"<table>{rows}</table>") == [Block("名 | 值\n甲 | 1", "table")]


def test_the_cells_of_an_office_table_tell_its_header() -> None:
    rows = "<tr><td>名</td><td>值</td></tr><tr><td>甲</td><td>1</td></tr>"
    assert office_blocks(f"<table>{rows}</table>") == [Block("名 | 值\n甲 | 1", "table", header="名 | 值")]


def test_a_caption_stands_before_its_table() -> None:
    assert texts("<table><caption>表一</caption><tr><td>a</td><td>b</td></tr></table>") == ["表一", "a | b"]


def test_paragraphs_and_breaks_inside_a_cell_are_spaces() -> None:
    assert texts("<table><tr><td><p>a</p><p>b</p></td><td>c<br>d</td></tr></table>") == ["a b | c d"]


def test_empty_cells_keep_their_place_but_at_the_end() -> None:
    assert texts("<table><tr><td></td><td>b</td><td></td></tr></table>") == [" | b"]


def test_a_table_around_a_table_is_layout() -> None:
    inner = "<table><tr><td>甲</td><td>1</td></tr></table>"
    assert [(block.kind, block.text) for block in blocks(f"<table><tr><td>左</td><td>{inner}</td></tr></table>")] == [
        ("paragraph", "左"),
        ("table", "甲 | 1"),
    ]


@pytest.mark.parametrize("inside", ["<h2>题</h2>", "<ul><li>题</li></ul>", "<pre>题</pre>"])
def test_a_table_around_headings_lists_or_code_is_layout(inside: str) -> None:
    assert "table" not in {block.kind for block in blocks(f"<table><tr><td>{inside}</td><td>b</td></tr></table>")}


def test_an_office_table_is_data_and_an_inner_table_is_text_of_its_cell() -> None:
    inner = "<table><tr><td>甲</td><td>1</td></tr></table>"
    rows = f"<tr><td>左</td><td>{inner}</td></tr><tr><td><ul><li>x</li><li>y</li></ul></td><td>b</td></tr>"
    assert [block.text for block in office_blocks(f"<table>{rows}</table>")] == ["左 | 甲 1\nx y | b"]


# What is not seen.


@pytest.mark.parametrize(
    "unseen",
    [
        "<script>alert('密')</script>",
        "<style>p{content:'密'}</style>",
        "<template><p>密</p></template>",
        "<noscript>密</noscript>",
        "<svg><text>密</text></svg>",
        "<iframe>密</iframe>",
        "<select><option>密</option></select>",
        "<!-- 密 -->",
        "<p hidden>密</p>",
        "<div style='color:red; display : none'><p>密</p></div>",
        "<span style='VISIBILITY:hidden'>密</span>",
    ],
)
@pytest.mark.parametrize("around", ["<p>前</p>{}后", "<table><tr><td>前{}后</td></tr></table>", "<h1>前{}后</h1>"])
def test_what_is_not_shown_is_not_read_and_what_follows_is(unseen: str, around: str) -> None:
    text = "".join(texts(around.format(unseen)))
    assert "密" not in text
    assert text.replace(" ", "") == "前后"


def test_what_is_shown_inside_of_what_is_hidden_stays_hidden() -> None:
    assert texts("<div hidden><script>x</script><p style='display:block'>密</p></div><p>后</p>") == ["后"]


# Broken and hostile source.


@pytest.mark.parametrize("source", ["", " \n", "<!-- only -->", "<html></html>", "<p></p>"])
def test_a_page_without_text_has_no_blocks(source: str) -> None:
    assert list(html_blocks(source)) == []


def test_unclosed_elements_lose_nothing() -> None:
    assert "".join(texts("<p>一<b>二<table><tr><td>三<tr><td>四</table>五")).replace("\n", "") == "一二三四五"


def test_nesting_beyond_any_page_is_an_error_and_no_loss() -> None:
    with pytest.raises(DocumentError) as caught:
        blocks("<div>" * 5_000 + "x")
    assert caught.value.code == "too-deep"
