"""What a cosine says: nothing while chance explains it, and the same wherever a model's cosines lie."""

from __future__ import annotations

import numpy as np
import pytest

from zhiwen.common.embedding.background import UNRELATED, Background
from zhiwen.query.search.relevance import DenseWeight, Values, chance_score, dense_score, emphasis, evidence, relevance

USUAL = np.array(1.0)
GAUSSIAN = 0.4


def one(standardised: float, *, chunks: int = 1000, spread: float = GAUSSIAN) -> float:
    return float(evidence(np.array([standardised]), spread, chunks)[0])


def test_the_best_of_many_random_cosines_is_no_evidence() -> None:
    best = np.random.default_rng(1).standard_normal((500, 1000)).max(axis=1)
    found = evidence(best, GAUSSIAN, 1000)
    assert abs(float(np.median(found))) < 1
    assert float(np.mean(found > 5)) < 0.02


def test_evidence_grows_with_the_cosine_and_falls_with_the_number_of_chunks_and_the_tail() -> None:
    steps: Values = evidence(np.linspace(-8, 30, 400), 0.7, 300)
    assert np.all(np.diff(steps) >= 0)
    assert one(6.0, chunks=100) > one(6.0, chunks=100_000)
    assert one(6.0, spread=0.4) > one(6.0, spread=1.4)
    assert one(1.0, chunks=0) == one(1.0, chunks=1)


def test_dense_score_is_in_0_to_1_for_any_evidence() -> None:
    assert dense_score(np.array([-1e9, 3.0, 1e9])).tolist() == pytest.approx([0, 0.5, 1])


def test_chance_reaches_less_in_a_small_collection_only_as_far_as_one_text_of_90_does() -> None:
    few, some, many = (chance_score(chunks) for chunks in (4, 90, 100_000))
    assert few > some == pytest.approx(many, abs=0.001) == pytest.approx(0.32, abs=0.01)
    assert chance_score(0) == chance_score(1)


@pytest.mark.parametrize(
    "weight", [DenseWeight(0.0), DenseWeight(0.25), DenseWeight(0.0, True), DenseWeight(1.2, True)]
)
def test_relevance_is_in_0_to_1_and_never_falls(weight: DenseWeight) -> None:
    shares, found = np.meshgrid(np.linspace(0, 1, 30), np.linspace(-10, 40, 60))
    scores = relevance(shares, found, weight, USUAL)
    assert scores.min() >= 0
    assert scores.max() <= 1
    assert (np.diff(scores, axis=0) >= 0).all()
    assert (np.diff(scores, axis=1) >= 0).all()


def leads_by(emphasised: Values) -> float:
    """Return how far a chunk that the model finds is before a chunk that the words find."""
    by_words, by_model = relevance(np.array([0.3, 0.0]), np.array([-5.0, 2.0]), DenseWeight(0.25), emphasised)
    return float(by_model - by_words)


def test_words_of_a_short_question_say_less() -> None:
    long, short = (emphasis(np.array(n), np.array(0.5), 1.0) for n in (80.0, 8.0))
    assert leads_by(short) > leads_by(long)


def test_dense_half_leads_where_the_words_find_little_in_the_language_of_the_question() -> None:
    found = [emphasis(np.array(45.0), np.array(best), 1.0) for best in (0.0, 0.05, 0.1, 0.2, 0.25, 0.9)]
    assert found[0] == found[1] > found[2] > found[3] > found[4] == found[5] == 1.0
    assert leads_by(found[0]) > leads_by(found[5])
    assert emphasis(np.array(45.0), np.array(0.0), 0.0) == 1.0


def test_squeezed_cosines_say_the_same() -> None:
    """A model whose cosines are squeezed into .55 to .85 loses nothing."""
    rng = np.random.default_rng(3)
    vectors = rng.standard_normal((len(UNRELATED) + 96, 64)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    question = vectors[0]
    squeezed = np.concatenate([vectors * np.sqrt(0.15), np.full((len(vectors), 1), np.sqrt(0.85), np.float32)], axis=1)
    plain, other = (Background(v[1:], v[:0], v[:0]) for v in (vectors, squeezed.astype(np.float32)))
    cosines = vectors[1:] @ question
    standardised = plain.standard(question).of(cosines)
    again = other.standard(squeezed[0].astype(np.float32)).of(0.15 * cosines + 0.85)
    assert again == pytest.approx(standardised, abs=0.01)
    assert other.spread == pytest.approx(plain.spread, abs=0.01)
