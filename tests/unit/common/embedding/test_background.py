"""The sample of a collection's chunks, and what it says about cosines."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiwen.common.embedding.background import (
    FEWEST,
    SLOTS,
    UNRELATED,
    Background,
    Standard,
    cosines_of,
    halves_of,
    lowest,
    slot_and_hash,
    to_bytes,
    vectors_of,
)
from zhiwen.common.embedding.base import Vectors, unit_rows
from zhiwen.common.embedding.known_models import estimated_weight, known_weight
from zhiwen.common.models import Sampled
from zhiwen.common.settings import BUILT_IN_MODEL

IDS = [f"{'a' * 31}{n % 7}:1:{n}" for n in range(3000)]


def random_vectors(count: int, dimension: int = 64, seed: int = 0) -> Vectors:
    return unit_rows(np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32))


def sampled(vectors: Vectors, openings: Vectors | None = None, rests: Vectors | None = None) -> list[Sampled]:
    return [
        Sampled(
            slot,
            slot,
            slot,
            to_bytes(vector),
            None if openings is None else to_bytes(openings[slot]),
            None if rests is None else to_bytes(rests[slot]),
        )
        for slot, vector in enumerate(vectors)
    ]


UNRELATED_VECTORS = random_vectors(len(UNRELATED), seed=9)


@given(st.integers(1, 60))
def test_sample_is_the_same_in_whatever_portions_chunks_come(portion: int) -> None:
    known: dict[int, int] = {}
    chosen: dict[int, str] = {}
    for start in range(0, 300, portion):
        part = IDS[start : min(300, start + portion)]
        for slot, place in lowest(part, known).items():
            chosen[slot] = part[place]
            known[slot] = slot_and_hash(part[place])[1]
    assert chosen == {slot: IDS[place] for slot, place in lowest(IDS[:300], {}).items()}


def test_sample_fills_all_slots_and_takes_nothing_twice() -> None:
    chosen = lowest(IDS, {})
    assert set(chosen) == set(range(SLOTS))
    known = {slot: slot_and_hash(IDS[place])[1] for slot, place in chosen.items()}
    assert lowest(IDS, known) == {}
    assert all(0 <= value < 2**63 for value in known.values())


def test_vectors_come_back_from_16_bits() -> None:
    vectors = random_vectors(5)
    assert vectors_of([to_bytes(vector) for vector in vectors]) == pytest.approx(vectors, abs=1e-3)


def test_halves_are_cut_between_sentences() -> None:
    assert halves_of("一二三四。五六。七八九。") == ("一二三四。", "五六。七八九。")
    assert halves_of("abcd") == ("ab", "cd")
    assert "".join(halves_of("One is here. Two follows it. Three.")) == "One is here. Two follows it. Three."


def test_small_sample_is_filled_up_with_unrelated_texts() -> None:
    assert len(Background.of([], UNRELATED_VECTORS).vectors) == FEWEST
    assert len(Background.of(sampled(random_vectors(3)), UNRELATED_VECTORS).vectors) == FEWEST
    assert len(Background.of(sampled(random_vectors(100)), UNRELATED_VECTORS).vectors) == 100


def test_right_passages_in_the_sample_do_not_move_the_standard() -> None:
    vectors = random_vectors(128)
    question = random_vectors(1, seed=5)[0]
    plain = Background(vectors, vectors[:0], vectors[:0]).standard(question)
    with_right = vectors.copy()
    with_right[:6] = question
    moved = Background(with_right, vectors[:0], vectors[:0]).standard(question)
    assert moved.mean == pytest.approx(plain.mean, abs=0.02)
    assert moved.deviation == pytest.approx(plain.deviation, rel=0.2)
    assert plain.deviation == pytest.approx(1 / 8, rel=0.2)


def test_nothing_stands_out_where_all_texts_are_alike() -> None:
    same = np.tile(random_vectors(1), (FEWEST, 1))
    standard = Background(same, same[:0], same[:0]).standard(same[0])
    assert standard.of(np.array([1.0, 0.9])).tolist() == [0.0, 0.0]
    assert Standard(0.5, 0.1).of(np.array([0.8])).tolist() == pytest.approx([3.0])


def test_spread_of_random_vectors_is_that_of_a_normal_distribution_and_longer_with_subjects() -> None:
    vectors = random_vectors(128)
    subjects = unit_rows(vectors + np.repeat(random_vectors(16, seed=2), 8, axis=0))
    plain, related = (Background(v, v[:0], v[:0]).spread for v in (vectors, subjects))
    assert plain == pytest.approx(0.39, abs=0.05)
    assert related > 2 * plain


def test_weight_of_an_unknown_model_follows_from_its_skill() -> None:
    openings = random_vectors(64)
    noise = Background.of(sampled(openings, openings, random_vectors(64, seed=4)), UNRELATED_VECTORS)
    strong = Background.of(sampled(openings, openings, openings), UNRELATED_VECTORS)
    assert estimated_weight(noise) == 0.0
    assert estimated_weight(strong) == 1.2
    assert estimated_weight(Background.of(sampled(openings), UNRELATED_VECTORS)) == 0.0
    assert known_weight(BUILT_IN_MODEL) == 0.18
    assert known_weight("openai:anything") is None


def test_cosines_of_a_sample_are_those_between_different_chunks() -> None:
    found = cosines_of(sampled(random_vectors(100)))
    assert found is not None
    assert found.samples == 100
    assert found.mean == pytest.approx(0, abs=0.01)
    assert found.deviation == pytest.approx(1 / 8, rel=0.1)
    assert found.p99 == pytest.approx(2.33 / 8, rel=0.15)
    assert cosines_of(sampled(random_vectors(1))) is None
