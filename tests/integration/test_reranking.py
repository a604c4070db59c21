"""Rerankers: a real cross-encoder made here, a server in both shapes, and the search that uses one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.servers.in_process_stack import InProcessStack, in_process_stack, problem_of
from tests.servers.processes import FakeOpenAI, fake_openai, free_port
from tests.servers.tiny_models import write_cross_encoder
from zhiwen.common.errors import ServiceError
from zhiwen.query.search.reranking import CrossEncoderReranker, RemoteReranker

PASSAGES = ["年假", "annual leave days", "有 几 天", "x"]


@pytest.fixture(scope="module")
def rerank_server() -> Iterator[FakeOpenAI]:
    with fake_openai("reranker") as server:
        yield server


@pytest.fixture
def server(rerank_server: FakeOpenAI) -> FakeOpenAI:
    rerank_server.forget()
    return rerank_server


@pytest.fixture
def remote(server: FakeOpenAI) -> Iterator[RemoteReranker]:
    reranker = RemoteReranker(f"{server.base_url}/rerank", model="bge-reranker", api_key="k1")
    yield reranker
    reranker.close()


def test_cross_encoder_scores_each_pair_alone(tmp_path_factory: pytest.TempPathFactory) -> None:
    model = str(write_cross_encoder(tmp_path_factory.mktemp("cross")))
    reranker = CrossEncoderReranker(model, device="cpu", dtype="float32")
    together = reranker.scores("年假 几 天", PASSAGES)
    assert together == pytest.approx([reranker.scores("年假 几 天", [text])[0] for text in PASSAGES], abs=1e-5)
    assert len(set(together)) == 4
    assert all(0 < score < 1 for score in together)
    assert reranker.scores("days", PASSAGES) != pytest.approx(together, abs=1e-6)
    reranker.close()


def test_cross_encoder_that_is_not_there_is_named() -> None:
    with pytest.raises(ServiceError, match=r"rerank-failed.*/nowhere/at/all"):
        CrossEncoderReranker("/nowhere/at/all").scores("q", ["a"])


def test_server_is_asked_as_jina_and_cohere_say(server: FakeOpenAI, remote: RemoteReranker) -> None:
    server.script({"behaviour": "answer", "scores": [0.1, 0.9, 0.5]})
    assert remote.scores("问", ["a", "b", "c"]) == [0.1, 0.9, 0.5]
    (request,) = server.requests()
    assert request.path == "/v1/rerank"
    assert request.headers["authorization"] == "Bearer k1"
    assert request.json() == {
        "query": "问",
        "documents": ["a", "b", "c"],
        "top_n": 3,
        "return_documents": False,
        "model": "bge-reranker",
    }


def test_server_of_the_other_shape_is_recognised_once(server: FakeOpenAI, remote: RemoteReranker) -> None:
    refusal = {"behaviour": "status", "status": 422, "body": {"error": "missing field `texts`"}}
    server.script(refusal, {"behaviour": "answer", "scores": [-3.0, 3.0]})
    assert remote.scores("q", ["a", "b"]) == pytest.approx([0.0474, 0.9526], abs=1e-4)
    assert remote.scores("q", ["a", "b"]) == pytest.approx([0.0474, 0.9526], abs=1e-4)
    bodies = [request.json() for request in server.requests()]
    assert ["texts" in body for body in bodies] == [False, True, True]
    assert bodies[1] == {"query": "q", "texts": ["a", "b"], "truncate": True}


@pytest.mark.parametrize(
    "step",
    [
        {"behaviour": "status", "status": 503, "body": {}},
        {"behaviour": "status", "status": 401, "body": {"error": {"message": "no"}}},
        {"behaviour": "status", "status": 422, "body": {"detail": "no"}},
        {"behaviour": "json-instead", "body": {"results": [{"index": 0, "relevance_score": 1}]}},
        {"behaviour": "json-instead", "body": {"results": [{"index": 0}, {"index": 1}]}},
        {"behaviour": "json-instead", "body": {}},
        {"behaviour": "json-instead", "body": 7},
        "garbage",
        "reset",
    ],
    ids=str,
)
def test_whatever_goes_wrong_is_a_service_error(server: FakeOpenAI, remote: RemoteReranker, step: Any) -> None:
    server.script(step)
    with pytest.raises(ServiceError, match="rerank-failed"):
        remote.scores("q", ["a", "b"])


# The search


@pytest.fixture(scope="module")
def reranking_stack(
    rerank_server: FakeOpenAI,
    milvus_url: str,
    redis_url: str,
    gateway_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[InProcessStack]:
    with in_process_stack(
        tmp_path_factory.mktemp("reranking"),
        milvus_url=milvus_url,
        redis_url=redis_url,
        gateway_url=gateway_url,
        settings={"rerank_url": f"{rerank_server.base_url}/rerank"},
    ) as running:
        yield running


@pytest.fixture(scope="module")
def kb(reranking_stack: InProcessStack) -> str:
    name = reranking_stack.base()
    for number in range(4):
        reranking_stack.add(name, f"{number}.txt", f"员工每年有{number}天年假。" * (number + 1))
    return name


def asked(stack: InProcessStack, kb: str, **body: Any) -> Any:
    response = stack.query.post(f"/v1/knowledge-bases/{kb}/search", json={"query": "员工每年有几天年假", **body})
    assert response.status_code == 200, response.text
    return response.json()


def test_search_comes_in_the_order_of_the_reranker(
    reranking_stack: InProcessStack, kb: str, server: FakeOpenAI
) -> None:
    plain = asked(reranking_stack, kb, rerank=False)
    assert (plain["reranked"], server.requests()) == (False, [])
    server.script({"behaviour": "answer", "scores": [0.1, 0.2, 0.3, 0.4]})
    found = asked(reranking_stack, kb)
    assert found["reranked"] is True
    assert [hit["source"] for hit in found["hits"]] == [hit["source"] for hit in reversed(plain["hits"])]
    assert [hit["rerank_score"] for hit in found["hits"]] == [0.4, 0.3, 0.2, 0.1]
    relevance = {hit["source"]: hit["score"] for hit in plain["hits"]}
    assert {hit["source"]: hit["score"] for hit in found["hits"]} == relevance
    assert {hit["rerank_score"] for hit in plain["hits"]} == {None}


def test_more_is_reranked_than_is_returned(reranking_stack: InProcessStack, kb: str, server: FakeOpenAI) -> None:
    server.script({"behaviour": "answer", "scores": [0.1, 0.2, 0.3, 0.4]})
    found = asked(reranking_stack, kb, top_k=1)
    assert [hit["rerank_score"] for hit in found["hits"]] == [0.4]
    assert len(server.requests()[0].json()["documents"]) == 4


def test_failing_reranker_leaves_the_hits_and_says_so(
    reranking_stack: InProcessStack, kb: str, server: FakeOpenAI
) -> None:
    plain = asked(reranking_stack, kb, rerank=False)
    server.script({"behaviour": "status", "status": 503, "body": {}})
    found = asked(reranking_stack, kb, rerank=True)
    assert (found["reranked"], found["hits"]) == (False, plain["hits"])
    metrics = httpx.get(f"{str(reranking_stack.query.base_url).rstrip('/')}/metrics").text
    assert "zhiwen_rerank_failures_total" in metrics


def test_answer_says_whether_its_sources_were_reranked(
    reranking_stack: InProcessStack, kb: str, server: FakeOpenAI, model_server: FakeOpenAI
) -> None:
    model_server.forget()
    assert reranking_stack.ask(kb, "员工每年有几天年假").json()["reranked"] is True
    assert reranking_stack.ask(kb, "员工每年有几天年假", rerank=False).json()["reranked"] is False
    model_server.forget()


def test_reranker_that_is_not_configured_is_an_error(stack_with_model: InProcessStack) -> None:
    name = stack_with_model.base()
    for route, body in (("search", {"query": "q"}), ("ask", {"question": "q", "stream": True})):
        response = stack_with_model.query.post(f"/v1/knowledge-bases/{name}/{route}", json={**body, "rerank": True})
        problem_of(response, 422, "rerank-not-configured")


def test_reranking_server_that_is_gone_is_one_failed_rerank() -> None:
    reranker = RemoteReranker(f"http://127.0.0.1:{free_port()}/rerank")
    with pytest.raises(ServiceError, match=r"rerank-failed.*does not answer"):
        reranker.scores("q", ["a"])
    reranker.close()
