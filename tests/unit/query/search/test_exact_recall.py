"""Recall is counted against all rows but the row itself, and rows with the same score are equally good."""

from __future__ import annotations

import numpy as np
import pytest

from zhiwen.query.search.recall import Exact, Vectors


def unit(rows: list[list[float]]) -> Vectors:
    vectors = np.array(rows, np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def exact_over(pages: list[tuple[list[str], Vectors]], k: int) -> Exact:
    exact = Exact(["a"], unit([[1, 0]]), k)
    for ids, page in pages:
        exact.add(ids, page)
    return exact


ROWS = ["a", "b", "c", "d", "e"], unit([[1, 0], [1, 0.1], [1, 0.5], [0, 1], [-1, 0]])


@pytest.mark.parametrize(
    ("found", "share"),
    [(["a", "b", "c"], 1.0), (["a", "c", "b"], 1.0), (["b", "d", "e"], 0.5), (["a", "e"], 0.0), ([], 0.0)],
)
def test_share_is_counted_without_the_row_itself(found: list[str], share: float) -> None:
    assert exact_over([ROWS], 2).share(0, found) == share


def test_pages_make_no_difference() -> None:
    ids, rows = ROWS
    one_by_one = exact_over([([id], row[None]) for id, row in zip(ids, rows, strict=True)], 2)
    assert one_by_one.share(0, ["b", "c"]) == 1.0
    assert one_by_one.share(0, ["b", "d"]) == 0.5


def test_equal_rows_are_equally_good() -> None:
    twins = [f"t{n}" for n in range(12)]
    exact = exact_over([(["a", *twins], unit([[1.0, 0.0], *[[1, 0.1]] * 12]))], 2)
    assert exact.share(0, ["t7", "t11"]) == 1.0


def test_fewer_rows_than_asked_for_are_all_there_is() -> None:
    assert exact_over([(["a", "b"], unit([[1, 0], [0, 1]]))], 10).share(0, ["b"]) == 1.0
    assert exact_over([(["a"], unit([[1, 0]]))], 10).share(0, []) == 1.0
