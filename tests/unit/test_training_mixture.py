"""Batches of the embedder's training: what they are drawn from, and that hard negatives stay together."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from training.contrastive import Group, Plan, batches, info_nce, unit
from training.mixture import LEAST_GROUP, groups_of, label
from training.pairs import Pair, is_held_out
from training.vocabulary import choose_vocabulary


def pairs(kind: str, group: str, count: int = 400) -> list[Pair]:
    return [Pair(f"问{n}", f"答{n}", group, kind) for n in range(count)]


@pytest.mark.parametrize(
    ("kind", "group", "name"),
    [
        ("ict", "selfsup:zh-zh", "selfsup:zh-zh"),
        ("faq-answer", "question:zh-zh", "question:zh-zh"),
        ("qa-title", "question:en-en", "question:en-en forum"),
        ("qa-title-colloquial-rule", "question:zh-zh", "question:zh-zh rule"),
        ("dialogue-reply", "question:zh-zh", "question:zh-zh dialogue-reply"),
        ("word-definition", "synonym:en-en", "synonym:en-en word-definition"),
    ],
)
def test_pairs_of_one_manner_are_one_group(kind: str, group: str, name: str) -> None:
    assert label(Pair("a", "b", group, kind)) == name


def test_groups_leave_out_held_out_unusable_and_unwanted_pairs() -> None:
    given = [
        *pairs("faq-answer", "question:zh-zh"),
        *pairs("same-intent", "paraphrase:en-en"),
        *pairs("synonym", "synonym:en-en", LEAST_GROUP // 2),
    ]
    usable = np.ones(len(given), np.bool_)
    usable[0] = False
    (group,) = groups_of(given, usable)
    learned = [n for n in range(1, 400) if not is_held_out(given[n])]
    assert group.members.tolist() == learned
    assert (group.weight, group.together) == (2.0 * len(learned), 16)


def test_groups_are_drawn_by_their_weight_and_repeated_when_all_was_used() -> None:
    groups = [Group(np.arange(100), 3.0), Group(np.arange(100, 120), 1.0)]
    drawn = list(batches(groups, Plan(steps=200, batch=160, quarters=4), np.random.default_rng(1)))
    parts = Counter("small" if n >= 100 else "large" for batch in drawn for n in batch.tolist())
    assert parts["large"] / 40 == pytest.approx(3 * parts["small"] / 20, rel=0.25)
    assert {n for batch in drawn for n in batch.tolist()} == set(range(120))


def test_neighbours_of_a_file_enter_a_batch_together() -> None:
    order = Group(np.arange(1000), 1.0, together=10).shuffled(np.random.default_rng(1))
    assert sorted(order.tolist()) == list(range(1000))
    assert np.mean(np.diff(order) == 1) > 0.89
    assert Group(np.arange(1000), 1.0).shuffled(np.random.default_rng(1)).tolist() != list(range(1000))


def test_loss_and_gradient_of_info_nce_agree() -> None:
    random = np.random.default_rng(1)
    anchors, positives = (unit(random.standard_normal((6, 4)).astype(np.float32))[0] for _ in range(2))
    same = np.zeros((6, 6), np.bool_)
    same[0, 3] = True
    loss, gradient, other = info_nce(anchors, positives, same, 5.0)
    for which, found in ((anchors, gradient), (positives, other)):
        moved = which.copy()
        which[2, 1] += 1e-3
        higher = info_nce(anchors, positives, same, 5.0)[0]
        which[2, 1] -= 2e-3
        lower = info_nce(anchors, positives, same, 5.0)[0]
        which[:] = moved
        assert found[2, 1] == pytest.approx((higher - lower) / 2e-3, abs=2e-3)
    assert loss > 0


def test_vocabulary_has_one_order_whatever_order_the_texts_have() -> None:
    texts = ["苹果 apple pear", "苹果 pear apple", "pear 苹果 apple", "梨子"] * 3
    chosen = choose_vocabulary(texts, {"苹果", "梨子"}, 10_000)
    assert chosen == choose_vocabulary(texts[::-1], {"梨子", "苹果"}, 10_000)
    assert chosen.index("appl") < chosen.index("pear") < chosen.index("苹果") < chosen.index("梨子")
