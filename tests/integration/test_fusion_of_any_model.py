"""Whatever an embedding model is worth, a hybrid search is about as good as the better of its halves."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from tests.servers.in_process_stack import InProcessStack, in_process_stack
from tests.servers.processes import ROOT, stop
from zhiwen.common.embedding.base import Embedder
from zhiwen.common.embedding.openai import OpenAIEmbedder
from zhiwen.common.embedding.registry import Embedders
from zhiwen.common.models import Mode
from zhiwen.common.settings import EmbeddingSettings

SETS = Path(__file__).parents[2] / "../shared/data"
OF_EACH_SET = 100
LONGEST = 480
"""Bytes of a passage that is surely one chunk: 160 Chinese characters."""


def passages_and_questions(folder: Path) -> dict[str, str]:
    """Return some short passages of a set by the first question that each of them answers."""
    rows = [json.loads(line) for line in (folder / "questions.jsonl").read_text(encoding="utf-8").splitlines()]
    lines = (folder / "passages.jsonl").read_text(encoding="utf-8").splitlines()
    texts = {row["id"]: row["text"] for row in map(json.loads, lines)}
    found: dict[str, str] = {}
    for row in rows:
        text = texts[row["passage_id"][0]] if row.get("answerable", True) else ""
        if 0 < len(text.encode()) <= LONGEST and text not in found.values():
            found[row["question"]] = text
    return dict(list(found.items())[:OF_EACH_SET])


@pytest.fixture(scope="module")
def answers() -> dict[str, str]:
    """Questions that share few words with their passages, and such that share many."""
    folders = [SETS / "everyday" / "zh_faq", SETS / "everyday" / "en_faq", SETS / "retrieval" / "zh_cmrc2018"]
    if not all(folder.is_dir() for folder in folders):
        pytest.skip("no question sets in ../shared/data")
    return {question: text for folder in folders for question, text in passages_and_questions(folder).items()}


@pytest.fixture(scope="module")
def server(answers: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the embedding server."""
    file = tmp_path_factory.mktemp("answers") / "answers.json"
    file.write_text(json.dumps(answers, ensure_ascii=False), encoding="utf-8")
    command = [sys.executable, "-m", "tests.servers.embedding_server", "--answers", str(file)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{json.loads(process.stdout.readline())['port']}/v1"
    finally:
        stop(process)


@pytest.fixture(scope="module")
def stack(
    server: str, milvus_url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[InProcessStack]:
    settings = EmbeddingSettings(embedding_base_url=server)
    with ExitStack() as opened:

        def load(model: str) -> Embedder:
            embedder = OpenAIEmbedder.of(model, settings)
            opened.callback(embedder.close)
            return embedder

        with in_process_stack(  # it stops before the embedders close
            tmp_path_factory.mktemp("any-model"),
            milvus_url=milvus_url,
            redis_url=redis_url,
            settings={"embedding_base_url": server},
            embedders=lambda: Embedders(load),
        ) as running:
            yield running


def filled(stack: InProcessStack, model: str, texts: list[str]) -> str:
    """Return a knowledge base of this model that holds each text as a document of its own."""
    kb = stack.base(embedding_model=f"openai:{model}")
    items = []
    for start in range(0, len(texts), 50):
        part = texts[start : start + 50]
        items += stack.upload(kb, {f"{start + n}.txt": text for n, text in enumerate(part)})
    for item in items:
        assert stack.settled(kb, item["id"])["status"] == "ready"
    return kb


def reciprocal_rank(stack: InProcessStack, kb: str, answers: dict[str, str], mode: Mode) -> float:
    """Return MRR@10."""
    numbers = {text: f"{n}.txt" for n, text in enumerate(answers.values())}
    ranks = []
    for question, text in answers.items():
        found = [hit["source"] for hit in stack.search(kb, question, top_k=10, mode=mode)]
        ranks.append(1 / (1 + found.index(numbers[text])) if numbers[text] in found else 0.0)
    return float(np.mean(ranks))


def test_model_that_ranks_better_than_the_words_leads_though_its_cosines_are_squeezed(
    stack: InProcessStack, answers: dict[str, str]
) -> None:
    kb = filled(stack, "oracle", list(answers.values()))
    words, dense, hybrid = (reciprocal_rank(stack, kb, answers, mode) for mode in ("full_text", "dense", "hybrid"))
    assert dense > words + 0.05
    assert hybrid >= dense - 0.01, (words, dense, hybrid)
    shown = stack.ingest.get(f"/v1/knowledge-bases/{kb}").json()["cosines"]
    assert shown["samples"] > 90
    assert 0.55 < shown["mean"] < 0.65


@pytest.mark.parametrize("model", ["noise", "zero", "constant"])
def test_model_that_says_nothing_costs_nothing(stack: InProcessStack, answers: dict[str, str], model: str) -> None:
    kb = filled(stack, model, list(answers.values()))
    words, hybrid = (reciprocal_rank(stack, kb, answers, mode) for mode in ("full_text", "hybrid"))
    assert hybrid >= words - 0.01, (words, hybrid)


def test_hits_show_what_each_half_says_and_a_weight_may_be_given(stack: InProcessStack) -> None:
    kb = filled(stack, "noise", ["年假有十天。", "报销需要发票。"])
    best = stack.search(kb, "年假有几天", dense_weight=0)[0]
    assert best["text"] == "年假有十天。"
    assert best["full_text_score"] > 0.2
    assert 0 <= best["dense_score"] <= 1
    assert stack.search(kb, "年假", mode="full_text")[0]["dense_score"] is None
    assert stack.search(kb, "年假", mode="dense")[0]["full_text_score"] is None
    response = stack.ingest.patch(f"/v1/knowledge-bases/{kb}", json={"dense_weight": 0.5, "min_confidence": 0.4})
    assert (response.json()["dense_weight"], response.json()["min_confidence"]) == (0.5, 0.4)
    changed = stack.ingest.patch(f"/v1/knowledge-bases/{kb}", json={"embedding_model": "openai:zero"}).json()
    assert (changed["dense_weight"], changed["min_confidence"]) == (None, 0.4)
