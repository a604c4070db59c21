"""The functions of the demo, without running it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from zhiwen.cli.demo import demo_questions, example_documents, free_port_base
from zhiwen.common.errors import ConfigurationError

EXAMPLES = Path(__file__).parents[3] / "examples"


def test_examples_are_documents_only() -> None:
    names = [file.name for file in example_documents(EXAMPLES)]
    assert len(names) >= 12
    assert not {"README.md", "questions.jsonl"} & set(names)


def test_flat_folder_of_examples_leaves_out_what_describes_them(tmp_path: Path) -> None:
    for name in ("a.txt", "README.md", "questions.jsonl"):
        (tmp_path / name).write_text("x")
    assert [file.name for file in example_documents(tmp_path)] == ["a.txt"]


def test_three_questions_are_asked_chinese_english_and_one_without_answer() -> None:
    asked = list(demo_questions(EXAMPLES))
    known = [json.loads(line) for line in (EXAMPLES / "questions.jsonl").read_text("utf-8").splitlines()]
    chosen = [entry for entry in known if entry["question"] in asked]
    assert len(asked) == 3
    assert {entry["lang"] for entry in chosen} == {"zh", "en"}
    assert [entry["answerable"] for entry in chosen].count(False) == 1


def test_next_free_block_of_ports_is_taken() -> None:
    def taken_below_8200(ports: Sequence[int]) -> None:
        if min(ports) < 8200:
            raise ConfigurationError("taken")

    assert free_port_base(8000, require=taken_below_8200) == 8200


def test_no_free_block_is_one_sentence() -> None:
    def all_taken(_ports: Sequence[int]) -> None:
        raise ConfigurationError("taken")

    with pytest.raises(ConfigurationError, match="No free block of ports"):
        free_port_base(8000, require=all_taken)
