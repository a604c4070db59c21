"""From hits to the numbered passages of a prompt."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from zhiwen.common.models import Hit
from zhiwen.query.answer.passages import context_of, count_tokens, passage, within_budget


def hit(id: str, text: str = "正文", score: float = 0.5, heading: str = "") -> Hit:
    return Hit(id, f"d-{id}", 1, 0, "手册.txt", None, heading, text, score, {})


def test_tokens_are_estimated_by_script() -> None:
    assert [count_tokens(text) for text in ("", "年假", "abcd", "abcde", "年a")] == [0, 2, 1, 2, 2]


def test_passage_has_its_number_its_heading_and_its_text_once() -> None:
    assert passage(3, hit("1", "十天。", heading="制度 > 年假")) == "[3] 制度 > 年假\n十天。"
    assert passage(1, hit("1", "年假\n十天。", heading="年假")) == "[1] 年假\n十天。"
    assert context_of([hit("1", "一"), hit("2", "二")]) == "[1] 一\n\n[2] 二"


def test_budget_takes_whole_passages_best_first() -> None:
    hits = [hit("1", "长" * 50), hit("2", "长" * 500), hit("3", "短")]
    assert [kept.chunk_id for kept in within_budget(hits, 60)] == ["1", "3"]


def test_best_passage_is_cut_where_even_that_is_too_long() -> None:
    (kept,) = within_budget([hit("1", "长" * 500), hit("2", "长" * 400)], 60)
    assert (kept.chunk_id, kept.text) == ("1", "长" * 60)


@given(st.lists(st.text(alphabet="年a ", max_size=60), max_size=8), st.integers(10, 100))
def test_budget_is_kept(texts: list[str], budget: int) -> None:
    hits = [hit(str(number), text) for number, text in enumerate(texts)]
    kept = within_budget(hits, budget)
    assert bool(kept) == bool(hits)
    assert sum(count_tokens(one.text) for one in kept) <= budget
