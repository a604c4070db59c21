"""What a training batch is drawn from: groups of pairs, how often each group is drawn, and what is left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.contrastive import Group
from training.pairs import Pair, is_held_out

LEFT_OUT: Final = frozenset({"same-intent", "everyday-formal"})
"""Kinds that are not learned from.

`same-intent` has some 300 intents, so a batch would hold several pairs of each, as negatives of one another.
`everyday-formal` was written by the writer of the question set `office`, which would then measure too well.
"""
WEIGHTS: Final = {"dict": 0.7, "question": 2.0, "paraphrase": 1.5}
"""How much oftener than by its size a file is drawn; 1 for the others."""
DIALOGUE_WEIGHT: Final = 1.0
"""Replies in a dialogue seldom say what was asked, so they are drawn less often than other answers."""
TOGETHER: Final = {"question": 16, "heading": 16, "parallel": 16}
"""How many neighbouring pairs of a file enter a batch together: they are of one page, and so hard negatives."""
LEAST_GROUP: Final = 256
_FORUM: Final = frozenset({"qa-title", "qa-forum", "question-paraphrase"})
_OLD_FILES: Final = frozenset({"dict", "heading", "parallel", "selfsup"})


def label(pair: Pair) -> str:
    """Return the name of the group that a pair belongs to: its file and languages, and of some files its manner."""
    file = pair.group.partition(":")[0]
    if file in _OLD_FILES:
        return pair.group
    if pair.kind.endswith("-rule"):
        return f"{pair.group} rule"
    if pair.kind in _FORUM:
        return f"{pair.group} forum"
    if pair.kind in {"dialogue-reply", "word-definition"}:
        return f"{pair.group} {pair.kind}"
    return pair.group


def groups_of(pairs: Sequence[Pair], usable: NDArray[np.bool_]) -> list[Group]:
    """Return the groups to learn from, without held-out pairs.

    `usable`, `(pairs,)`, is False for a pair with a text that has no known token.
    """
    members: dict[str, list[int]] = {}
    for number, pair in enumerate(pairs):
        if usable[number] and pair.kind not in LEFT_OUT and not is_held_out(pair):
            members.setdefault(label(pair), []).append(number)
    return [_group(name, found) for name, found in sorted(members.items()) if len(found) >= LEAST_GROUP]


def _group(name: str, members: list[int]) -> Group:
    file = name.partition(":")[0]
    weight = DIALOGUE_WEIGHT if name.endswith("dialogue-reply") else WEIGHTS.get(file, 1.0)
    return Group(np.array(members), weight * len(members), TOGETHER.get(file, 1))
