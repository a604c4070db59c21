"""What a PDF page's characters and lines become: order in a line, paragraphs, scans, the path of bookmarks."""

from __future__ import annotations

import pytest

from zhiwen.ingest.parsing.formats.pdf import Bookmark, headings_by_page, lacks_text, paragraphs
from zhiwen.ingest.parsing.formats.pdf_order import Placed, line_text, seems_disordered


def drawn(*runs: tuple[str, float], y: float = 700.0, step: float = 12.0) -> list[Placed]:
    """The characters of runs in drawing order, each run from its x on."""
    return [Placed(ord(c), x + step * i, y) for text, x in runs for i, c in enumerate(text)]


# Order of the characters in a line.


def test_quotation_marks_drawn_in_a_run_of_their_own_go_where_they_stand() -> None:
    line = [Placed(ord("“"), 0, 700), Placed(ord("”"), 60, 700), *drawn(("主要官员", 12))]
    assert line_text(line) == "“主要官员”"


def test_a_line_drawn_in_two_runs_reads_from_left_to_right() -> None:
    assert line_text(drawn(("右边", 100), ("左边", 20))) == "左边右边"


def test_characters_at_the_same_place_keep_their_drawing_order() -> None:
    assert line_text([Placed(ord("a"), 5, 0), Placed(ord("b"), 5, 0), Placed(ord("c"), 5, 0)]) == "abc"


def test_a_small_shift_up_is_still_the_same_line() -> None:
    line = [*drawn(("平方", 0)), Placed(ord("m"), 24, 700), Placed(ord("2"), 30, 702.9)]
    assert line_text(list(reversed(line))) == "平方m2"


def test_a_line_that_is_not_level_keeps_its_drawing_order() -> None:
    upwards = [Placed(ord(c), 100 - i, 10.0 * i) for i, c in enumerate("竖排")]
    assert line_text(upwards) == "竖排"


@pytest.mark.parametrize("text", ["שלום", "سلام"])
def test_a_line_from_right_to_left_keeps_its_drawing_order(text: str) -> None:
    assert line_text([Placed(ord(c), 100.0 - 10 * i, 0) for i, c in enumerate(text)]) == text


def test_spaces_beside_chinese_characters_are_closed_and_those_of_english_stay() -> None:
    assert line_text(drawn(("中 文 and so on", 0))) == "中文and so on"


def test_a_pair_of_surrogates_becomes_one_character_and_a_lone_one_harms_nothing() -> None:
    high, low = 0xD840, 0xDC00
    assert line_text([Placed(high, 0, 0), Placed(low, 1, 0)]) == "𠀀"
    assert line_text([Placed(high, 0, 0), Placed(ord("x"), 1, 0)]) == "\ufffdx"


def test_codes_that_are_no_characters_are_left_out() -> None:
    assert line_text([Placed(0x110000, 0, 0), Placed(ord("x"), 1, 0)]) == "x"
    assert line_text([]) == ""


@pytest.mark.parametrize("text", ["他说“”主要官员", "《》书名", "（ ）内", "”“"])
def test_an_empty_pair_is_the_symptom(text: str) -> None:
    assert seems_disordered(text)


@pytest.mark.parametrize("text", ["他说“主要官员”", "《书名》（内）", "f() and g()", ""])
def test_filled_pairs_and_code_are_not(text: str) -> None:
    assert not seems_disordered(text)


# Lines to paragraphs.

FULL = "这一行写满了整个版面的宽度没有空余的地方"
SHORT = "到这里就结束了。"


def test_lines_of_the_page_become_one_paragraph_without_gaps_between_chinese_characters() -> None:
    assert list(paragraphs(f"{FULL}\n{FULL}\n{SHORT}")) == [FULL + FULL + SHORT]


def test_english_lines_are_joined_with_a_space_and_hyphens_undone() -> None:
    lines = (
        "a line of english text that is as wide as it\ngoes, and one more that breaks a word in ta\ufffe\nbles of it"
    )
    (joined,) = paragraphs(lines)
    assert joined == (
        "a line of english text that is as wide as it goes, and one more that breaks a word in tables of it"
    )


def test_a_short_line_that_ends_a_sentence_ends_the_paragraph() -> None:
    assert list(paragraphs(f"{FULL}\n{SHORT}\n{FULL}\n{FULL}")) == [FULL + SHORT, FULL + FULL]


def test_a_full_line_that_ends_a_sentence_does_not() -> None:
    line = FULL[:-1] + "。"
    assert list(paragraphs(f"{line}\n{FULL}")) == [line + FULL]


def test_a_line_of_less_than_half_the_width_ends_the_paragraph_without_a_mark() -> None:
    assert list(paragraphs(f"第三章\n{FULL}\n{FULL}")) == ["第三章", FULL + FULL]


def test_an_empty_line_ends_a_paragraph() -> None:
    assert list(paragraphs(f"{FULL}\n\n{FULL}")) == [FULL, FULL]


def test_an_indented_line_begins_a_paragraph() -> None:
    assert list(paragraphs(f"{FULL}\n\u3000\u3000{FULL}")) == [FULL, FULL]


@pytest.mark.parametrize("mark", ["• ", "1. ", "（2）", "三、", "- ", "12）"])
def test_list_items_stand_alone(mark: str) -> None:
    assert list(paragraphs(f"{FULL}\n{mark}{FULL}\n{mark}{FULL}")) == [FULL, mark + FULL, mark + FULL]


def test_columns_that_the_file_gives_one_after_the_other_stay_apart() -> None:
    left, right = f"{FULL}\n{FULL}\n左栏完。", f"{FULL}\n右栏完。"
    assert list(paragraphs(f"{left}\n{right}")) == [FULL * 2 + "左栏完。", FULL + "右栏完。"]


def test_a_page_without_text_has_no_paragraphs() -> None:
    assert list(paragraphs("")) == list(paragraphs("\n \n")) == []


# What counts as a scan, and what a page is called.


@pytest.mark.parametrize(
    ("text", "thin"), [("", True), (" \n\t12\n ", True), ("1234567", True), ("第一页的文字够长", False)]
)
def test_a_page_with_fewer_than_eight_characters_lacks_text(text: str, thin: bool) -> None:
    assert lacks_text(text) is thin


def test_a_page_has_the_path_of_its_first_bookmark_and_the_next_that_of_its_last() -> None:
    marks = [
        Bookmark(0, 0, "第一章"),
        Bookmark(1, 1, "一"),
        Bookmark(1, 1, "二"),
        Bookmark(3, 0, "第二章"),
    ]
    assert headings_by_page(marks, 5) == {
        0: ("第一章",),
        1: ("第一章", "一"),
        2: ("第一章", "二"),
        3: ("第二章",),
        4: ("第二章",),
    }


def test_pages_before_the_first_bookmark_have_no_path() -> None:
    assert headings_by_page([Bookmark(1, 0, "正文")], 2) == {0: (), 1: ("正文",)}


def test_bookmarks_out_of_order_and_beyond_the_end_harm_nothing() -> None:
    assert headings_by_page([Bookmark(1, 0, "甲"), Bookmark(0, 0, "乙"), Bookmark(9, 0, "丙")], 2) == {
        0: (),
        1: ("甲",),
    }
    assert headings_by_page([], 1) == {0: ()}
    assert headings_by_page([Bookmark(0, 3, "深")], 1) == {0: ("深",)}
