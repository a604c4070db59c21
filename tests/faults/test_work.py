"""What clients are promised about the work itself: cancel, delete, replacing, fairness, back-pressure."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from tests.servers.process_stack import ProcessStack, process_stack, prose

EFFECT_SECONDS = 5.0
"""The promise is 2 s; a loaded machine that runs tests gets more."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessStack]:
    with process_stack(tmp_path_factory.mktemp("work"), with_query=True) as stack:
        yield stack


@pytest.fixture
def kb(stack: ProcessStack) -> Iterator[str]:
    """A knowledge base, dropped when the test is over."""
    name = stack.base()
    yield name
    stack.http.delete(f"/v1/knowledge-bases/{name}")


def cancel(stack: ProcessStack, kb: str, id: str) -> float:
    """Cancel a document; return the seconds until no work on it is left."""
    started = time.monotonic()
    response = stack.http.post(f"/v1/knowledge-bases/{kb}/documents/{id}/cancel")
    assert response.status_code == 202
    assert response.json()["status"] == "cancelled"
    stack.idle()
    return time.monotonic() - started


def test_cancel_stops_embedding_within_seconds_and_retry_completes(stack: ProcessStack, kb: str) -> None:
    id = stack.upload(kb, {"long.txt": prose(2500, "cancel")})["long.txt"]
    stack.wait_for(lambda: stack.status(kb, id) == "embedding" and stack.written(kb, id) > 0, "embedding")
    seconds = cancel(stack, kb, id)
    print(f"cancelled while embedding: {seconds:.2f} s")
    assert seconds < EFFECT_SECONDS
    assert stack.status(kb, id) == "cancelled"
    assert stack.written(kb, id) == 0
    stack.clean()
    assert stack.http.post(f"/v1/knowledge-bases/{kb}/documents/{id}/retry").status_code == 202
    stack.all_ready(kb, seconds=90)
    assert len(stack.chunks(kb, id)) == stack.written(kb, id) > 4000
    stack.clean()


def test_cancel_stops_parsing_within_seconds_and_retry_completes(stack: ProcessStack, kb: str) -> None:
    stack.upload(kb, {"first.txt": b"So that a child runs."})
    stack.all_ready(kb)
    for child in stack.parser_children():
        child.suspend()
    id = stack.upload(kb, {"stuck.txt": b"Nobody reads this."})["stuck.txt"]
    stack.wait_for(lambda: stack.status(kb, id) == "parsing", "parsing")
    seconds = cancel(stack, kb, id)
    print(f"cancelled while parsing: {seconds:.2f} s")
    assert seconds < EFFECT_SECONDS
    for child in stack.parser_children():
        child.resume()
    assert stack.http.post(f"/v1/knowledge-bases/{kb}/documents/{id}/retry").status_code == 202
    stack.all_ready(kb)
    stack.clean()


def test_delete_that_races_an_ingest_wins(stack: ProcessStack, kb: str) -> None:
    id = stack.upload(kb, {"long.txt": prose(1000, "race")})["long.txt"]
    stack.wait_for(lambda: stack.written(kb, id) > 0, "half indexed")
    assert stack.http.delete(f"/v1/knowledge-bases/{kb}/documents/{id}").status_code == 202
    stack.wait_for(lambda: stack.status(kb, id) == "deleted", "deleted")
    assert stack.written(kb, id) == 0
    assert stack.documents(kb) == {}
    stack.clean()


def test_jobs_of_one_document_follow_each_other_without_waiting_for_the_reconciler(
    stack: ProcessStack, kb: str
) -> None:
    stack.freeze_worker()
    for number in range(60):
        stack.upload(kb, {"often.txt": f"Edition {number}.".encode()})
    stack.worker.thaw()
    started = time.monotonic()
    stack.all_ready(kb)
    stack.idle()
    seconds = time.monotonic() - started
    print(f"60 versions of one document: {seconds:.1f} s")
    assert seconds < 20  # a round of the reconciler for each would take 30


@pytest.mark.parametrize("mode", ["full_text", "hybrid"])
def test_search_finds_one_version_at_every_moment_of_a_replacement(stack: ProcessStack, kb: str, mode: str) -> None:
    def version(number: int) -> bytes:
        return f"价目表:门票价格 price list edition {number}. ".encode() + prose(5)

    stack.upload(kb, {"prices.txt": version(0), "other.txt": prose(30, "other")})
    stack.all_ready(kb)
    over = threading.Event()
    wrong: list[str] = []
    seen: set[str] = set()
    searches = 0

    def poll() -> None:
        nonlocal searches
        while not over.is_set():
            texts = [hit["text"] for hit in stack.search(kb, "门票价格 price list edition", mode=mode, top_k=10)]
            editions = [text for text in texts if "price list edition" in text]
            searches += 1
            seen.update(editions)
            if len(editions) != 1:
                wrong.append(f"search {searches}: {editions}")

    pollers = [threading.Thread(target=poll) for _ in range(2)]
    for poller in pollers:
        poller.start()
    for number in range(1, 9):
        stack.upload(kb, {"prices.txt": version(number)})
        stack.all_ready(kb)
    over.set()
    for poller in pollers:
        poller.join()
    print(f"{searches} searches during 8 replacements, {len(seen)} editions seen")
    assert wrong == []
    assert len(seen) >= 5
    stack.clean()


def test_a_rebuild_never_leaves_a_search_without_its_answer(stack: ProcessStack, kb: str) -> None:
    stack.upload(kb, {"prices.txt": "门票价格 edition one.".encode(), "other.txt": prose(150, "other")})
    stack.all_ready(kb)
    stack.http.patch(f"/v1/knowledge-bases/{kb}", json={"chunking": {"size": 48, "overlap": 4}})
    searches = 0
    while stack.get(kb)["rebuild"] is not None or searches < 20:
        assert len([hit for hit in stack.search(kb, "门票价格 edition") if "edition one" in hit["text"]]) == 1
        searches += 1
    print(f"{searches} searches during a rebuild")
    assert stack.get(kb)["chunking"]["size"] == 48
    stack.clean()


def test_a_single_file_does_not_wait_for_another_bases_three_hundred(stack: ProcessStack, kb: str) -> None:
    single = stack.base()
    stack.freeze_worker()
    stack.upload(kb, {f"{number}.txt": f"File {number} of many.".encode() for number in range(300)})
    stack.upload(single, {"single.txt": b"The only one."})
    stack.worker.thaw()
    stack.wait_for(lambda: stack.documents(single)["single.txt"]["status"] == "ready", "the single file ready")
    done = sum(1 for document in stack.documents(kb).values() if document["status"] == "ready")
    print(f"the single file was ready when {done} of the 300 were")
    assert done < 150
    stack.all_ready(kb)
    stack.clean()


def test_a_full_queue_answers_429_and_says_when_to_come_back(stack: ProcessStack, kb: str) -> None:
    strict = stack.another_api("strict", {"MAX_QUEUE": "5"})
    strict.start()
    try:
        stack.freeze_worker()
        stack.upload(kb, {f"{number}.txt": str(number).encode() for number in range(5)})
        url = f"{strict.url}/v1/knowledge-bases/{kb}/documents"
        with stack.client_of(strict) as client:
            refused = client.post(url, files={"file": ("6.txt", b"6")})
            assert (refused.status_code, refused.json()["code"]) == (429, "queue-full")
            assert int(refused.headers["retry-after"]) > 0
            assert "6.txt" not in stack.documents(kb)
            stack.worker.thaw()
            stack.all_ready(kb)
            assert client.post(url, files={"file": ("6.txt", b"6")}).status_code == 202
        stack.all_ready(kb)
    finally:
        strict.kill()
        stack.worker.thaw()
