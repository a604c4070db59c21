"""What every embedder promises, whichever model is behind it. Another one is another parameter of `embedder`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import pytest

from tests.servers.processes import fake_openai
from tests.servers.tiny_models import write_embedding_model
from zhiwen.common.embedding.base import Embedder
from zhiwen.common.embedding.batching import BatchingEmbedder
from zhiwen.common.embedding.fake import HashEmbedder
from zhiwen.common.embedding.openai import OpenAIEmbedder
from zhiwen.common.embedding.static import StaticEmbedder
from zhiwen.common.embedding.transformer import Runtime, SentenceTransformerEmbedder

TEXTS = ["年假有十天", "annual leave", "", " \n", "。", "😀", "年假" * 400, "resumé ｱ 2024-01-01"]


def transformer(folder: Path, _stack: ExitStack) -> Embedder:
    pytest.importorskip("sentence_transformers", reason="make transformers installs it", exc_type=ImportError)
    return SentenceTransformerEmbedder(str(write_embedding_model(folder)), Runtime(device="cpu", dtype="float32"))


def openai(_folder: Path, stack: ExitStack) -> Embedder:
    server = stack.enter_context(fake_openai())
    return stack.enter_context(closing(OpenAIEmbedder("openai:m", base_url=server.base_url)))


EMBEDDERS: Mapping[str, Callable[[Path, ExitStack], Embedder]] = {
    "static": lambda _folder, _stack: StaticEmbedder(),
    "transformer": transformer,
    "openai": openai,
    "hash": lambda _folder, _stack: HashEmbedder(),
    "batching": lambda _folder, _stack: BatchingEmbedder(StaticEmbedder()),
}


@pytest.fixture(scope="module", params=EMBEDDERS)
def embedder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedder]:
    with ExitStack() as stack:
        yield EMBEDDERS[request.param](tmp_path_factory.mktemp("model"), stack)


def test_rows_are_unit_vectors_in_the_order_of_the_texts(embedder: Embedder) -> None:
    for embed in (embedder.embed_passages, embedder.embed_queries):
        vectors = embed(TEXTS)
        assert vectors.shape == (len(TEXTS), embedder.dimension)
        assert vectors.dtype == np.float32
        assert np.linalg.norm(vectors, axis=1) == pytest.approx([1.0] * len(TEXTS), abs=1e-5)
        assert embed(TEXTS[::-1]) == pytest.approx(vectors[::-1], abs=1e-5)


def test_no_texts_give_no_rows(embedder: Embedder) -> None:
    assert embedder.embed_passages([]).shape == embedder.embed_queries([]).shape == (0, embedder.dimension)


def test_tokens_are_counted(embedder: Embedder) -> None:
    assert embedder.count_tokens("") == 0
    assert embedder.count_tokens("年假") <= embedder.count_tokens("年假有十天")
    assert embedder.max_tokens > 0


def test_threads_get_what_one_gets(embedder: Embedder) -> None:
    expected = embedder.embed_passages(TEXTS)
    with ThreadPoolExecutor(4) as pool:
        for vectors in pool.map(lambda _: embedder.embed_passages(TEXTS), range(8)):
            assert vectors == pytest.approx(expected, abs=1e-5)
