"""What `zhiwen eval` computes: metrics by hand, and passages of the same text."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.client.fake_api import source as found
from zhiwen.cli.evaluation.metrics import Outcome, auroc, figures_of, judge, refusal_of
from zhiwen.cli.evaluation.passages import Passages, Question, questions_about, read_lines
from zhiwen.cli.evaluation.run import BATCH_BYTES, batches_of, right_hits
from zhiwen.cli.values import Usage
from zhiwen.client import BytesFile, HitOut


def passages(**texts: str) -> Passages:
    return Passages.of({"id": id, "text": text} for id, text in texts.items())


def test_passages_of_one_text_are_one() -> None:
    known = passages(a="年假 十天", b="病假", c="年假\n十天")
    assert [row["id"] for row in known.rows] == ["a", "b"]
    (question,) = known.questions([{"question": "几天?", "passage_id": ["c", "b", "unknown"]}])
    assert question == Question("几天?", frozenset({"p/a.txt", "p/b.txt"}))


def test_distractors_are_other_texts() -> None:
    others = passages(a="one", b="two").others([{"text": "t wo"}, {"text": "three"}, {"text": "thr ee"}])
    assert [row["text"] for row in others] == ["thr ee"]


def test_questions_about_what_is_held_out_have_no_answer() -> None:
    known = passages(**{f"p{n}": f"text {n}" for n in range(10)})
    kept = known.without(0.5, 1)
    assert len(kept.rows) == 5
    assert kept.rows == known.without(0.5, 1).rows != known.without(0.5, 2).rows
    asked = kept.questions({"question": "?", "passage_id": [row["id"]]} for row in known.rows)
    assert sum(bool(question.passages) for question in asked) == 5


@pytest.mark.parametrize("row", [{"answerable": False, "passage_id": ["a"]}, {"passage_id": None}, {}])
def test_question_without_an_answer(row: dict[str, Any]) -> None:
    assert passages(a="one").questions([{"question": "?", **row}]) == [Question("?", frozenset())]


def judged(found: list[str], *right: str) -> Outcome:
    return judge(
        Question("?", frozenset(right)), [name in right for name in found], 0.5, refused=False, milliseconds=1.0
    )


def test_rank_and_gain_by_hand() -> None:
    assert (judged(["a", "b"], "b").rank, judged(["a"], "b").rank) == (2, None)
    assert judged(["a", "b"], "b").gain == pytest.approx(1 / math.log2(3))
    assert judged(["a", "b", "c"], "a", "c").gain == pytest.approx((1 + 0.5) / (1 + 1 / math.log2(3)))
    assert judged([str(n) for n in range(20)], "10").rank is None


def test_figures_by_hand() -> None:
    figures = figures_of([judged(["a"], "a"), judged(["b", "a"], "a"), judged(["b"], "a"), judged(["b"])])
    assert (figures.questions, figures.recall_at_1, figures.recall_at_10) == (4, 1 / 3, 2 / 3)
    assert figures.mrr_at_10 == pytest.approx((1 + 0.5) / 3)


def test_refusal_by_hand() -> None:
    outcomes = [
        Outcome(answerable, 1, 1.0, score, score < 0.5, 1.0)
        for answerable, score in ((True, 0.9), (True, 0.4), (False, 0.4), (False, 0.1))
    ]
    refusal = refusal_of(outcomes)
    assert (refusal.rightly_refused, refusal.wrongly_refused, refusal.auroc) == (1.0, 0.5, (2 + 0.5 + 1) / 4)


scores = st.lists(st.floats(0, 1), min_size=1, max_size=12)


@given(scores, scores)
def test_auroc_is_the_share_of_pairs_in_order(positive: list[float], negative: list[float]) -> None:
    pairs = [1.0 if p > n else 0.5 if p == n else 0.0 for p in positive for n in negative]
    assert auroc(positive, negative) == pytest.approx(sum(pairs) / len(pairs))


def test_auroc_of_one_kind_alone_is_unknown() -> None:
    assert auroc([0.5], []) is None


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{"id": 1, "text": "a"}, {"id": "1", "text": "b"}], "two passages with the id 1"),
        ([{"id": "1", "text": " "}], "The passage 1 has no text"),
        ([{"text": "a"}], "There is no id in"),
        ([{"id": "1"}], "There is no text in"),
    ],
)
def test_passages_that_cannot_be_told_apart_or_found_are_refused(rows: list[dict[str, Any]], says: str) -> None:
    with pytest.raises(Usage, match=says):
        Passages.of(rows)


@pytest.mark.parametrize("wrong", ["a", 1, {"a": 1}])
def test_passage_id_that_is_no_list_is_refused(wrong: Any) -> None:
    with pytest.raises(Usage, match="must be a list"):
        passages(a="one").questions([{"question": "?", "passage_id": wrong}])


def test_lines_end_at_line_feeds_only(tmp_path: Path) -> None:
    (path := tmp_path / "q.jsonl").write_text('{"text": "one\u2028line\x85"}\r\n{"text": "two"}\n', newline="")
    assert [row["text"] for row in read_lines(path)] == ["one\u2028line\x85", "two"]


@pytest.mark.parametrize(("line", "says"), [("{", "not JSON"), ("[1]", "not a JSON object")])
def test_bad_line_is_named(tmp_path: Path, line: str, says: str) -> None:
    (path := tmp_path / "q.jsonl").write_text(f"{{}}\n\n{line}\n")
    with pytest.raises(Usage, match=f"Line 3 .*{says}"):
        read_lines(path)


def test_questions_about_documents_name_them() -> None:
    rows: list[dict[str, Any]] = [
        {"question": "a?", "document": "手册.docx", "gold_text": "十天", "answer": "10天"},
        {"question": "b?", "source": "手册.docx", "answer_contains": "15天"},
        {"question": "c?", "document": "手册.docx", "answers": ["x", "y"]},
        {"question": "d?", "document": "unknown", "answerable": False},
    ]
    about = frozenset({"手册.docx"})
    assert questions_about({"手册.docx"}, rows) == [
        Question("a?", about, (), "十天", "10天"),
        Question("b?", about, ("15天",)),
        Question("c?", about, ("x", "y")),
        Question("d?", frozenset()),
    ]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"question": "a?"}, "Name the document that answers"),
        ({"question": "a?", "document": "x.md"}, "There is no document named x.md"),
        ({"question": "a?", "document": "手册.docx", "answers": 7}, "answers must be a list"),
        ({"document": "手册.docx"}, "There is no question in"),
    ],
)
def test_question_about_no_document_is_refused(row: dict[str, Any], says: str) -> None:
    with pytest.raises(Usage, match=says):
        questions_about({"手册.docx"}, [row])


def hit(source: str, chunk: str, text: str = "") -> HitOut:
    return HitOut.model_validate({**found(), "source": source, "chunk_id": chunk, "text": text})


def test_a_document_counts_once_and_a_chunk_with_gold_text_by_itself() -> None:
    hits = [hit("b", "1"), hit("b", "2", "ten days of leave"), hit("a", "3", "ten days of leave")]
    assert right_hits(Question("?", frozenset({"a"})), hits) == [False, True]
    assert right_hits(Question("?", frozenset({"b"}), (), "ten days"), hits) == [False, True, True]
    assert right_hits(Question("?", frozenset()), hits) == [False, False]


def test_a_second_chunk_with_the_gold_text_adds_nothing() -> None:
    outcome = judge(Question("?", frozenset({"b"})), [False, True, True], 0.5, refused=False, milliseconds=1.0)
    assert outcome.gain == pytest.approx(1 / math.log2(3))


def test_files_are_uploaded_in_batches_of_bounded_size() -> None:
    small = [BytesFile(f"{n}", b"x") for n in range(250)]
    assert [len(batch) for batch in batches_of(small)] == [100, 100, 50]
    large = [BytesFile("a", b"x" * BATCH_BYTES), BytesFile("b", b"y"), BytesFile("c", b"x" * (BATCH_BYTES + 1))]
    assert [[file.name for file in batch] for batch in batches_of(large)] == [["a"], ["b"], ["c"]]
    assert batches_of([]) == []
