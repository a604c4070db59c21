"""Models that are not built in: a real sentence-transformers model made here, and a server of embeddings."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.servers.processes import FakeOpenAI, fake_openai, free_port
from tests.servers.tiny_models import HIDDEN, MAX_TOKENS, PROMPTS, write_embedding_model
from zhiwen.common.embedding import transformer
from zhiwen.common.embedding.base import ModelDescription
from zhiwen.common.embedding.openai import OpenAIEmbedder
from zhiwen.common.embedding.registry import describe_model, embedders_from
from zhiwen.common.embedding.static import StaticEmbedder
from zhiwen.common.embedding.transformer import Runtime, SentenceTransformerEmbedder, describe_folder
from zhiwen.common.errors import InvalidRequest, ServiceError, Unavailable
from zhiwen.common.settings import EmbeddingSettings

QUESTION = "年假有几天"
TEXTS = ["年假", "annual leave 天", "days", QUESTION * 20]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    pytest.importorskip("sentence_transformers", reason="make transformers installs it", exc_type=ImportError)
    return str(write_embedding_model(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def embedder(model: str) -> SentenceTransformerEmbedder:
    return SentenceTransformerEmbedder(model, Runtime(device="cpu", dtype="float32"))


def encoded(model: str, texts: list[str]) -> Any:
    """Return the vectors that the library itself gives, without prompts."""
    from sentence_transformers import SentenceTransformer

    vectors = SentenceTransformer(model, device="cpu").encode(texts, prompt="", show_progress_bar=False)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_questions_and_passages_get_the_prompts_of_the_model(model: str, embedder: SentenceTransformerEmbedder) -> None:
    asked = embedder.embed_queries([QUESTION])
    stored = embedder.embed_passages([QUESTION])
    assert asked == pytest.approx(encoded(model, [PROMPTS["query"] + QUESTION]), abs=1e-5)
    assert stored == pytest.approx(encoded(model, [PROMPTS["document"] + QUESTION]), abs=1e-5)
    assert np.abs(asked - stored).max() > 1e-3


def test_vectors_have_length_one_whatever_the_order_and_number(embedder: SentenceTransformerEmbedder) -> None:
    together = embedder.embed_passages(TEXTS)
    assert together.shape == (4, HIDDEN)
    assert together.dtype == np.float32
    assert np.linalg.norm(together, axis=1) == pytest.approx([1.0] * 4, abs=1e-5)
    alone = np.concatenate([embedder.embed_passages([text]) for text in TEXTS])
    assert together == pytest.approx(alone, abs=1e-5)
    assert embedder.embed_passages([]).shape == (0, HIDDEN)


def test_bfloat16_gives_nearly_the_same(model: str, embedder: SentenceTransformerEmbedder) -> None:
    half = SentenceTransformerEmbedder(model, Runtime(device="cpu", dtype="bfloat16"))
    cosines = (half.embed_passages(TEXTS) * embedder.embed_passages(TEXTS)).sum(axis=1)
    assert cosines.min() > 0.99


def test_tokens_are_the_models_own(embedder: SentenceTransformerEmbedder) -> None:
    assert embedder.count_tokens("年假 annual") == 3
    assert (embedder.dimension, embedder.max_tokens) == (HIDDEN, MAX_TOKENS)


def test_model_is_described_from_its_files_and_without_torch(model: str) -> None:
    expected = ModelDescription(HIDDEN, MAX_TOKENS)
    assert describe_folder(Path(model)) == describe_model(model, EmbeddingSettings()) == expected
    code = (
        "import sys; from zhiwen.common.embedding.registry import describe_model; "
        "from zhiwen.common.settings import EmbeddingSettings; "
        f"print(describe_model({model!r}, EmbeddingSettings())); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(expected)


def test_built_in_model_is_described_without_what_only_worker_and_query_install() -> None:
    code = (
        "import sys; sys.modules['rjieba'] = sys.modules['Stemmer'] = None; "
        "from zhiwen.common.embedding.registry import describe_model; "
        "from zhiwen.common.settings import BUILT_IN_MODEL, EmbeddingSettings; "
        "print(describe_model(BUILT_IN_MODEL, EmbeddingSettings()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    built_in = StaticEmbedder()
    assert done.stdout.strip() == str(ModelDescription(built_in.dimension, built_in.max_tokens))


def test_files_of_older_models_are_understood(tmp_path: Path) -> None:
    files: dict[str, Any] = {
        "modules.json": [
            {"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        ],
        "sentence_bert_config.json": {"max_seq_length": 512},
        "1_Pooling/config.json": {
            "word_embedding_dimension": 384,
            "pooling_mode_cls_token": True,
            "pooling_mode_mean_tokens": True,
            "pooling_mode_max_tokens": False,
        },
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps(content), encoding="utf-8")
    assert describe_folder(tmp_path) == ModelDescription(768, 510)
    files["modules.json"].append({"idx": 2, "path": "2_Dense", "type": "sentence_transformers.models.Dense"})
    (tmp_path / "modules.json").write_text(json.dumps(files["modules.json"]), encoding="utf-8")
    assert describe_folder(tmp_path) is None
    (tmp_path / "2_Dense").mkdir()
    (tmp_path / "2_Dense/config.json").write_text('{"in_features": 768, "out_features": 256}', encoding="utf-8")
    assert describe_folder(tmp_path) == ModelDescription(256, 510)


def test_model_whose_files_leave_it_open_is_described_by_a_process_of_its_own(model: str, tmp_path: Path) -> None:
    assert describe_folder(tmp_path) is None
    done = subprocess.run(
        [sys.executable, "-m", "zhiwen.common.embedding.transformer", model], capture_output=True, check=True
    )
    assert b'{"dimension": 16, "max_tokens": 30}' in done.stdout


def test_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    missing = str(tmp_path / "nothing")
    with pytest.raises(InvalidRequest, match=r"unknown-embedding-model.*nothing"):
        describe_model(missing, EmbeddingSettings())
    with pytest.raises(InvalidRequest, match=r"unknown-embedding-model.*nothing"):
        embedders_from(EmbeddingSettings()).get(missing)


def test_model_that_takes_too_long_to_load_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformer, "DESCRIBE_SECONDS", 0.01)
    with pytest.raises(InvalidRequest, match=r"unknown-embedding-model.*nothing.*within 0.01 s"):
        describe_model(str(tmp_path / "nothing"), EmbeddingSettings())


@pytest.mark.parametrize("backend", ["openvino", "onnx"])
def test_backend_that_is_not_installed_names_its_extra(model: str, backend: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"embedding-backend-missing.*zhiwen\[{backend}\]"):
        SentenceTransformerEmbedder(model, Runtime(backend=backend))


# A server


@pytest.fixture(scope="module")
def server() -> Iterator[FakeOpenAI]:
    with fake_openai() as server:
        yield server


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def remote(server: FakeOpenAI, pauses: list[float]) -> Iterator[OpenAIEmbedder]:
    server.forget()
    embedder = OpenAIEmbedder("openai:bge-m3", base_url=server.base_url, api_key="k1", sleep=pauses.append)
    server.forget()
    yield embedder
    embedder.close()


def test_server_is_asked_as_openai_says(server: FakeOpenAI, remote: OpenAIEmbedder) -> None:
    vectors = remote.embed_passages(["四个字啊", "x"])
    (request,) = server.requests()
    assert request.path == "/v1/embeddings"
    assert request.headers["authorization"] == "Bearer k1"
    assert request.json() == {"model": "bge-m3", "input": ["四个字啊", "x"], "encoding_format": "float"}
    expected = [[4, 0.5], [1, 0.5]] / np.linalg.norm([[4, 0.5], [1, 0.5]], axis=1, keepdims=True)
    assert vectors == pytest.approx(expected, abs=1e-6)
    assert remote.dimension == 2


def test_many_texts_are_sent_in_batches_and_ordered_by_index(server: FakeOpenAI, remote: OpenAIEmbedder) -> None:
    server.script({"behaviour": "answer", "shuffled": True})
    texts = ["x" * n for n in range(1, 151)]
    vectors = remote.embed_passages(texts)
    assert [len(request.json()["input"]) for request in server.requests()] == [64, 64, 22]
    assert vectors[:, 0] / vectors[:, 1] == pytest.approx(np.arange(1, 151) / 0.5, rel=1e-4)


@pytest.mark.parametrize(
    "step",
    [
        {"behaviour": "status", "status": 429, "body": {"error": {"message": "slow down"}}},
        {"behaviour": "status", "status": 503, "body": {"detail": "loading"}},
        "reset",
    ],
    ids=["429", "503", "reset"],
)
def test_busy_server_is_asked_again(server: FakeOpenAI, remote: OpenAIEmbedder, pauses: list[float], step: Any) -> None:
    server.script(step, step, "answer")
    assert remote.embed_passages(["x"]).shape == (1, 2)
    assert len(server.requests()) == 3
    assert len(pauses) == 2
    assert all(0 <= pause <= 0.25 * 2**attempt for attempt, pause in enumerate(pauses))


def test_pause_is_what_the_server_asks_for(server: FakeOpenAI, remote: OpenAIEmbedder, pauses: list[float]) -> None:
    server.script({"behaviour": "status", "status": 429, "body": {}, "headers": {"Retry-After": "3"}}, "answer")
    remote.embed_passages(["x"])
    assert pauses == [3.0]


def test_server_that_stays_busy_is_unavailable(server: FakeOpenAI, remote: OpenAIEmbedder) -> None:
    server.script({"behaviour": "status", "status": 503, "body": {}})
    with pytest.raises(Unavailable, match=r"embedding-server-unavailable.*503"):
        remote.embed_passages(["x"])
    assert len(server.requests()) == 4


def test_question_waits_less_than_passages_do(server: FakeOpenAI, remote: OpenAIEmbedder) -> None:
    server.script({"behaviour": "status", "status": 503, "body": {}})
    with pytest.raises(Unavailable, match="embedding-server-unavailable"):
        remote.embed_queries(["x"])
    assert len(server.requests()) == 2


def test_silent_server_holds_up_one_question_at_a_time(server: FakeOpenAI) -> None:
    server.forget()
    embedder = OpenAIEmbedder("openai:bge-m3", base_url=server.base_url, timeout=1.0, question_timeout=0.3)
    server.script("hang")
    with pytest.raises(Unavailable, match="does not answer"):
        embedder.embed_queries(["x"])
    server.forget()
    server.script("hang")
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(embedder.embed_queries, ["x"]) for _ in range(8)]
        assert {type(question.exception()) for question in asked} == {Unavailable}
    assert len(server.requests()) == 1
    server.script({"behaviour": "status", "status": 400, "body": {}}, "answer")
    with pytest.raises(ServiceError, match="embedding-failed"):  # that is an answer
        embedder.embed_queries(["x"])
    with ThreadPoolExecutor(4) as pool:
        assert [found.shape for found in pool.map(embedder.embed_queries, [["x"]] * 4)] == [(1, 2)] * 4
    embedder.close()


def test_server_that_is_not_there_is_unavailable() -> None:
    settings = EmbeddingSettings(embedding_base_url=f"http://127.0.0.1:{free_port()}/v1")
    with pytest.raises(Unavailable, match="embedding-server-unavailable"):
        embedders_from(settings).get("openai:bge-m3")


def test_refusal_is_said_and_not_repeated(server: FakeOpenAI, remote: OpenAIEmbedder) -> None:
    server.script({"behaviour": "status", "status": 400, "body": {"error": {"message": "no such model"}}})
    with pytest.raises(ServiceError, match=r"embedding-failed.*bge-m3.*no such model"):
        remote.embed_queries(["x"])
    assert len(server.requests()) == 1


def test_another_dimension_is_an_error_that_names_both(server: FakeOpenAI, remote: OpenAIEmbedder) -> None:
    server.script({"behaviour": "answer", "dimension": 3})
    with pytest.raises(ServiceError, match=r"dimension-mismatch.*openai:bge-m3.*2 numbers before and 3 now"):
        remote.embed_queries(["x"])


@pytest.mark.parametrize(
    "body",
    [
        {"data": []},
        {"data": [{"index": 1, "embedding": [1, 2]}]},
        {"data": [{"index": 0, "embedding": "AAAA"}]},
        {"data": [{"index": 0, "embedding": []}]},
        {"data": [{"index": 0, "embedding": [None, 1]}]},
        {"embedding": [1, 2]},
        [1],
    ],
    ids=str,
)
def test_nonsense_is_an_error(server: FakeOpenAI, remote: OpenAIEmbedder, body: Any) -> None:
    server.script({"behaviour": "json-instead", "body": body})
    with pytest.raises(ServiceError, match=r"embedding-failed.*openai:bge-m3"):
        remote.embed_queries(["x"])


def test_model_of_a_server_is_described_by_asking_it(server: FakeOpenAI) -> None:
    server.forget()
    settings = EmbeddingSettings(embedding_base_url=server.base_url, embedding_max_tokens=8190)
    assert describe_model("openai:bge-m3", settings) == ModelDescription(2, 8190)


def test_server_that_is_not_configured_is_named() -> None:
    with pytest.raises(InvalidRequest, match=r"unknown-embedding-model.*ZHIWEN_EMBEDDING_BASE_URL"):
        describe_model("openai:bge-m3", EmbeddingSettings())


def test_tokens_are_estimated_on_the_safe_side(remote: OpenAIEmbedder) -> None:
    assert remote.count_tokens("年假有十天") == 5
    assert remote.count_tokens("annual leave") == 4
    assert remote.count_tokens("") == 0
