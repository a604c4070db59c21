"""The table of translations and its file."""

from __future__ import annotations

from pathlib import Path

from zhiwen.common.lexical.translations import Translation, Translations

TABLE = Translations.of(
    {
        "大学": [Translation("universiti", 1.0), Translation("colleg", 0.6)],
        "universiti": [Translation("大学", 1.0), Translation("综合性大学", 0.5)],
        "data base": [Translation("数据库", 1.0)],
        "colleg": [Translation("学院", 1.0)],
    }
)


def test_table_survives_its_file(tmp_path: Path) -> None:
    TABLE.save(tmp_path / "table.npz")
    read = Translations.load(tmp_path / "table.npz")
    assert [(t.word, round(t.weight, 1)) for t in read.of_source("大学")] == [("universiti", 1.0), ("colleg", 0.6)]
    assert read.of_source("齉") == []
