"""The messages of the chat for each way in which a question ends."""

from __future__ import annotations

import pytest

from tests.unit.client.fake_api import citation, source
from zhiwen.client import Citation, Outcome, SourceOut
from zhiwen.webui.actions import Turn
from zhiwen.webui.page import messages

PASSAGES = (SourceOut.model_validate(source()),)


def texts(turn: Turn) -> list[str]:
    return [getattr(message.content, "value", message.content) for message in messages([turn])]


@pytest.mark.parametrize(
    ("outcome", "title"),
    [(None, "Passages found"), ("answered", "来源 / Sources"), ("closest", "最接近的内容 / The closest passages")],
)
def test_answer_is_followed_by_its_passages_under_their_title(outcome: Outcome | None, title: str) -> None:
    question, answer, passages = texts(Turn("几天?", "15天。[1]", PASSAGES, outcome=outcome))
    assert (question, answer) == ("几天?", "15天。[1]")
    assert title in passages


def test_refusal_has_its_own_style_and_no_sources() -> None:
    _, answer, passages = texts(Turn("几天?", "根据已知信息无法回答该问题", PASSAGES, outcome="refused"))
    assert 'class="zw-refused"' in answer
    assert "来源" not in passages


def test_mark_without_support_is_marked() -> None:
    marks = (Citation.model_validate(citation(1, supported=False)),)
    _, answer, passages = texts(Turn("几天?", "15天。[1]", PASSAGES, outcome="answered", citations=marks))
    assert answer == "15天。[1]⚠"
    assert "缺少依据" in passages


def test_error_stands_below_what_came_before_it() -> None:
    assert texts(Turn("几天?", "15", error="The model server broke off.")) == [
        "几天?",
        "15",
        "⚠ The model server broke off.",
    ]
