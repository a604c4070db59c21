"""Document frequencies: counted, added up, kept as bytes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiwen.common.lexical.statistics import TermStatistics

chunks = st.lists(st.sets(st.integers(0, 2**32 - 2), max_size=8), max_size=6)


def counted(statistics: TermStatistics) -> tuple[int, dict[int, int]]:
    return statistics.chunks, dict(zip(statistics.ids.tolist(), statistics.counts.tolist(), strict=True))


@given(chunks)
def test_statistics_survive_their_bytes(parts: list[set[int]]) -> None:
    statistics = TermStatistics.of(parts)
    assert counted(TermStatistics.from_bytes(statistics.to_bytes())) == counted(statistics)


@given(chunks, chunks)
def test_statistics_add_up_and_come_apart(left: list[set[int]], right: list[set[int]]) -> None:
    one, two = TermStatistics.of(left), TermStatistics.of(right)
    both = one.add(two)
    assert counted(both) == counted(TermStatistics.of(left + right))
    assert counted(both.remove(two)) == counted(one)
    assert counted(TermStatistics.total([])) == counted(TermStatistics.empty())


def test_frequencies_of_known_and_unknown_terms() -> None:
    statistics = TermStatistics.of([{1, 7}, {7}, set()])
    assert statistics.chunks == 3
    assert statistics.document_frequencies([7, 1, 2, 2**32 - 2]).tolist() == [2, 1, 0, 0]
    assert TermStatistics.empty().document_frequencies([7]).tolist() == [0]


def test_a_blob_is_small() -> None:
    random = np.random.default_rng(1)
    parts = [set(random.integers(0, 2**32 - 1, 200).tolist()) for _ in range(20)]
    statistics = TermStatistics.of(parts)
    assert len(statistics.to_bytes()) < 4 * len(statistics.ids)


@pytest.mark.parametrize("blob", [b"", b"nonsense", b"\x02" + bytes(20), TermStatistics.of([{1}]).to_bytes()[:-3]])
def test_other_bytes_are_refused(blob: bytes) -> None:
    with pytest.raises(ValueError, match="not term statistics"):
        TermStatistics.from_bytes(blob)
