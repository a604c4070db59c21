"""The question sets of `make eval`, their table in the READMEs, and the floors, without a service."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench import evaluate
from bench.question_sets import ALL_MODES, DATA, SETS, Files, QuestionSet, traditional

ROOT = Path(__file__).parents[2]


def figures(**changes: Any) -> dict[str, Any]:
    """Figures of a set: hybrid R@1 is .9, and everything about answers is given in `changes`."""
    mode = {"recall_at_1": 0.9, "recall_at_5": 0.95, "recall_at_10": 0.99, "mrr_at_10": 0.93, "ndcg_at_10": 0.94}
    names = (*evaluate.COLUMNS[3:], *evaluate.CEILINGS)
    answers = {"asked": 12, **dict.fromkeys(names, 0.25), "rightly_refused": None, **changes}
    return {"modes": {name: dict(mode) for name in ALL_MODES}, "refusal": {"auroc": 0.8}, "answers": answers}


def test_every_set_has_floors_and_each_language_the_same_labels() -> None:
    assert list(evaluate.FLOORS) == list(SETS)
    assert evaluate.LABELS["en"].keys() == evaluate.LABELS["zh"].keys() <= SETS.keys()
    assert {len(heading) for heading in evaluate.HEADINGS.values()} == {2 + len(evaluate.COLUMNS)}


def test_table_has_a_row_for_each_set_and_a_dash_for_what_is_not_known() -> None:
    rows = evaluate.table({"office": figures(), "zh_faq": figures(holds_gold=None)}, "en").splitlines()
    assert rows[2].startswith("| office: everyday words over the examples | 12 | .900 | .990 | .930 | .250 |")
    assert " – |" in rows[2]
    assert rows[3].split(" | ")[5] == "–"
    assert "1.000" in evaluate.table({"office": figures(closest=1.0)}, "zh")


@pytest.mark.parametrize("name", evaluate.LANGUAGES)
def test_readmes_have_a_place_for_the_table(name: str) -> None:
    page = (ROOT / name).read_text(encoding="utf-8")
    again = evaluate.with_table(page, "| a |")
    assert "\n\n| a |\n\n" in again
    assert evaluate.with_table(again, "| b |") == again.replace("| a |", "| b |")


def test_page_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="There is no"):
        evaluate.with_table("# Zhiwen", "| a |")


def test_readmes_show_every_set_or_nothing() -> None:
    with pytest.raises(ValueError, match="were not measured: zh_xquad"):
        evaluate.write_readmes({"zh_cmrc2018": figures()})


def test_figure_below_its_floor_or_half_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "FLOORS", {"zh_xquad": {"recall_at_1": 0.924}})
    monkeypatch.setattr(evaluate, "CEILINGS", {})
    fine = {"zh_xquad": figures()}
    fine["zh_xquad"]["modes"]["hybrid"]["recall_at_1"] = 0.93
    assert evaluate.failures(fine) == []
    low = {"zh_xquad": figures()}
    low["zh_xquad"]["modes"]["dense"]["recall_at_1"] = 0.91
    assert evaluate.failures(low) == [
        "zh_xquad: recall_at_1 .900 is below 0.924",
        "zh_xquad: recall_at_1 of hybrid is more than 0.005 below its better half, .910",
    ]
    monkeypatch.setattr(evaluate, "CEILINGS", {"falsely_refused": 0.05})
    assert evaluate.failures({"office": figures()}) == ["office: falsely_refused .250 is above 0.05"]


def test_figures_of_a_set_replace_its_own_only(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    for name, count in (("office", 1), ("zh_faq", 2), ("office", 3)):
        evaluate.add_figures(path, name, {"passages": count})
    assert json.loads(path.read_text(encoding="utf-8")) == {"office": {"passages": 3}, "zh_faq": {"passages": 2}}


def test_traditional_keeps_characters_with_several_forms() -> None:
    assert traditional("国学 abc 发") == "國學 abc 发"


def test_sample_has_the_passages_of_its_questions() -> None:
    passages = [{"id": str(n), "text": f"text {n}"} for n in range(100)]
    questions = [{"question": f"{n}?", "passage_id": [str(n)]} for n in range(0, 100, 2)]
    sample = QuestionSet("s", questions, passages).sampled(10, 40)
    held = {row["id"] for row in sample.passages}
    assert len(sample.questions) == 10
    assert {id for row in sample.questions for id in row["passage_id"]} <= held
    assert 40 <= len(held) <= 50


@pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is not here")
def test_every_set_can_be_made(tmp_path: Path) -> None:
    files = Files()
    for number, (name, make) in enumerate(SETS.items()):
        made = make(files)
        ids = {row["id"] for row in made.passages}
        asked = {id for row in made.questions if row["answerable"] for id in row.get("passage_id") or []}
        assert (made.name, asked <= ids) == (name, True)
        assert "--questions" in made.sampled(5, 5).write(tmp_path / str(number))
