"""Repeated texts are left out, and neighbours are joined without repeating what they share."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from zhiwen.common.models import Hit
from zhiwen.query.search.hits import distinct, join_neighbours, with_neighbours


def hit(id: str, text: str = "正文") -> Hit:
    return Hit(id, f"d-{id}", 1, 0, "手册.txt", None, "", text, 0.5, {})


def test_of_texts_that_differ_in_white_space_only_the_first_is_kept() -> None:
    hits = [hit("1", "年假 十天"), hit("2", "年假十\n天"), hit("3", "病假")]
    assert [kept.chunk_id for kept in distinct(hits)] == ["1", "3"]


def test_neighbours_are_joined_at_what_they_share() -> None:
    chunks = [hit("1", "甲乙丙丁戊己庚辛壬癸"), hit("2", "丙丁戊己庚辛壬癸子丑"), hit("3", "别的")]
    assert join_neighbours(chunks) == "甲乙丙丁戊己庚辛壬癸子丑\n别的"


def test_hit_without_neighbours_stays_as_it_is() -> None:
    assert with_neighbours(hit("1"), []) == hit("1")


@given(st.lists(st.text(max_size=40), max_size=5))
def test_joining_loses_no_text(texts: list[str]) -> None:
    joined = join_neighbours([hit(str(number), text) for number, text in enumerate(texts)])
    assert all(text in joined for text in texts)
