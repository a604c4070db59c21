"""The built-in embedder on a small table made here."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiwen.common.embedding.static import StaticEmbedder, Tokenizer, han_grams, word_pieces

VOCABULARY = ["大", "学", "大学", "university", "universiti", "databas", "#<mil", "#milv", "#lvus", "2024", "数据库"]


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> StaticEmbedder:
    return StaticEmbedder(write_artifact(tmp_path_factory.mktemp("embedder"), VOCABULARY))


def write_artifact(folder: Path, vocabulary: list[str]) -> Path:
    random = np.random.default_rng(7)
    np.save(folder / "table.npy", random.integers(-127, 128, (len(vocabulary), 16), np.int8))
    np.save(folder / "scales.npy", random.random(len(vocabulary), np.float32) + np.float32(0.1))
    (folder / "vocabulary.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    config = {"model": "tiny", "dimension": 16, "max_tokens": 512}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def test_reads_its_name_and_sizes_from_the_artifact(embedder: StaticEmbedder) -> None:
    assert (embedder.model, embedder.dimension, embedder.max_tokens) == ("tiny", 16, 512)


def test_vectors_have_length_one_and_repeat(embedder: StaticEmbedder) -> None:
    vectors = embedder.embed_passages(["大学 2024", "databases", "大学 2024"])
    assert vectors.dtype == np.float32
    assert vectors.shape == (3, 16)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1)
    assert np.array_equal(vectors[0], vectors[2])


def test_no_texts_give_no_rows(embedder: StaticEmbedder) -> None:
    assert embedder.embed_passages([]).shape == (0, 16)


@pytest.mark.parametrize("text", ["", "  \n", "!?", "zzz", "龘"])
def test_a_text_without_known_tokens_is_about_nothing(embedder: StaticEmbedder, text: str) -> None:
    passages, question = embedder.embed_passages([text, "大学"]), embedder.embed_queries([text])
    assert np.allclose(np.linalg.norm(passages, axis=1), 1)
    assert (passages @ question.T)[0, 0] == -1


def test_repeating_a_word_changes_nothing(embedder: StaticEmbedder) -> None:
    once, often = embedder.embed_passages(["大学 database", "大学 大学 databases database 大学"])
    assert np.allclose(once, often)


def test_traditional_simplified_width_and_case_give_one_vector(embedder: StaticEmbedder) -> None:
    vectors = embedder.embed_passages(["大学数据库 database", "大學數據庫 ＤＡＴＡＢＡＳＥ"])
    assert np.allclose(vectors[0], vectors[1])


def test_chinese_gives_every_known_gram_and_english_its_stem() -> None:
    rows = {token: row for row, token in enumerate(VOCABULARY)}
    tokenizer = Tokenizer(rows)
    assert set(tokenizer.rows("大学")) == {rows["大"], rows["学"], rows["大学"]}
    assert set(tokenizer.rows("Universities")) == {rows["universiti"]}


def test_an_unknown_word_gives_its_pieces() -> None:
    rows = {token: row for row, token in enumerate(VOCABULARY)}
    assert word_pieces("milvus")[:2] == ["#<mil", "#milv"]
    assert set(Tokenizer(rows).rows("Milvus")) == {rows["#<mil"], rows["#milv"], rows["#lvus"]}


@given(st.text(alphabet="大学数据库 a,\U00020000", max_size=30))
def test_rows_are_those_of_every_gram_one_by_one(text: str) -> None:
    rows = {token: row for row, token in enumerate(VOCABULARY)}
    grams = {gram for run in re.findall("[大学数据库]+", text) for gram in han_grams(run)}
    assert set(Tokenizer(rows).rows(text)) == {rows[gram] for gram in grams if gram in rows}


def test_artifact_of_unequal_parts_is_refused(tmp_path: Path) -> None:
    write_artifact(tmp_path, VOCABULARY)
    (tmp_path / "vocabulary.txt").write_text("大", encoding="utf-8")
    with pytest.raises(ValueError, match="differ in length"):
        StaticEmbedder(tmp_path)


def test_threads_agree(embedder: StaticEmbedder) -> None:
    texts = [f"大学 {n} databases milvus {n % 7}" for n in range(200)]
    expected = embedder.embed_passages(texts)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: embedder.embed_passages(texts), range(16)))
    assert all(np.array_equal(result, expected) for result in results)


@given(st.text(max_size=200))
def test_any_text_gives_a_unit_vector(embedder: StaticEmbedder, text: str) -> None:
    both = np.concatenate([embedder.embed_passages([text]), embedder.embed_queries([text])])
    assert np.linalg.norm(both, axis=1) == pytest.approx([1, 1], abs=1e-5)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("", 0), (" \n", 0), ("知识库", 3), ("cat", 1), ("international", 3), ("……", 1), ("=" * 400, 100), ("a知b", 3)],
)
def test_tokens_are_counted_by_script(embedder: StaticEmbedder, text: str, tokens: int) -> None:
    assert embedder.count_tokens(text) == tokens


@given(st.text(max_size=80), st.text(max_size=80))
def test_counting_is_monotone_and_sums_are_no_less(embedder: StaticEmbedder, left: str, right: str) -> None:
    whole = embedder.count_tokens(left + right)
    assert whole <= embedder.count_tokens(left) + embedder.count_tokens(right)
    assert whole >= embedder.count_tokens(left)
