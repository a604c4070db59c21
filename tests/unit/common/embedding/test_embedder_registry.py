"""Each model is loaded once, and a model that cannot be loaded does not delay others."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.servers.ledgers import Clock
from zhiwen.common.embedding.base import Embedder
from zhiwen.common.embedding.fake import HashEmbedder
from zhiwen.common.embedding.registry import FAILURE_SECONDS, Embedders, describe_model, load_embedder, present_model
from zhiwen.common.errors import InvalidRequest, Unavailable
from zhiwen.common.settings import BUILT_IN_MODEL, RETIRED_MODELS, EmbeddingSettings


class Loader:
    """Loads any model, but `slow` only when `answer` is set, and `dead` never."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.begun = threading.Event()
        self.answer = threading.Event()

    def __call__(self, model: str) -> Embedder:
        self.asked.append(model)
        if model == "slow":
            self.begun.set()
            assert self.answer.wait(20)
        if model == "dead":
            raise Unavailable("embedding-server-unavailable", "The embedding server does not answer.")
        return HashEmbedder()


def test_slow_model_delays_no_other_and_is_loaded_once() -> None:
    loader = Loader()
    embedders = Embedders(loader)
    loaded = embedders.get("quick")
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(embedders.get, "slow") for _ in range(2)]
        assert loader.begun.wait(20)
        with ThreadPoolExecutor(1) as others:
            assert others.submit(embedders.get, "quick").result(10) is loaded
            assert others.submit(embedders.get, "another").result(10) is not None
        loader.answer.set()
        assert waiting[0].result(10) is waiting[1].result(10)
    assert loader.asked == ["quick", "slow", "another"]


def test_failure_is_remembered_for_a_few_seconds() -> None:
    loader, clock = Loader(), Clock(0.0)
    embedders = Embedders(loader, clock=clock)
    for asked in (1, 1, 2):
        with pytest.raises(Unavailable, match="embedding-server-unavailable"):
            embedders.get("dead")
        assert len(loader.asked) == asked
        clock.pass_by(FAILURE_SECONDS / 2 + 0.1)


def test_built_in_artifact_has_the_name_of_the_built_in_model() -> None:
    assert load_embedder(BUILT_IN_MODEL, EmbeddingSettings()).model == BUILT_IN_MODEL


@pytest.mark.parametrize("retired", sorted(RETIRED_MODELS))
def test_retired_model_is_refused_and_has_a_successor(retired: str) -> None:
    assert present_model(retired) == BUILT_IN_MODEL
    assert present_model("BAAI/bge-m3") == "BAAI/bge-m3"
    for use in (describe_model, load_embedder):
        with pytest.raises(InvalidRequest, match=f"{retired} is retired. {BUILT_IN_MODEL} has taken its place"):
            use(retired, EmbeddingSettings())
