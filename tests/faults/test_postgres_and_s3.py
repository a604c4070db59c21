"""The same kills on the stores of production: PostgreSQL for the ledger, an S3 bucket for the originals."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import psutil
import pytest

from tests.servers.process_stack import Chunk, ProcessStack, process_stack, prose
from tests.servers.stages import lead_to
from tests.servers.stores import Server, moto_s3, new_database, postgres, wait_until

FILES = {"长.txt": prose(350, "long"), "说明.md": "# 安装\n\n先接电源。\n".encode()}
LONG = "长.txt"


@pytest.fixture(scope="module")
def ledger_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A PostgreSQL of this module's own, which its tests kill."""
    with postgres(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture(scope="module")
def s3() -> Iterator[Server]:
    with moto_s3() as server:
        yield server


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, ledger_server: Server, s3: Server) -> Iterator[ProcessStack]:
    settings = {
        "ORIGINALS_URL": "s3://faults/originals",
        "S3_ENDPOINT_URL": s3.url,
        "S3_ACCESS_KEY": "testing",
        "S3_SECRET_KEY": "testing",
    }
    url = new_database(ledger_server.url, "faults")
    with process_stack(tmp_path_factory.mktemp("faults"), database_url=url, settings=settings) as stack:
        yield stack


@pytest.fixture(scope="module")
def undisturbed(stack: ProcessStack) -> dict[str, list[Chunk]]:
    kb = stack.base()
    stack.upload(kb, FILES)
    stack.all_ready(kb)
    return stack.chunk_sets(kb)


@pytest.mark.parametrize("victim", ["worker", "api", "milvus", "ledger"])
@pytest.mark.parametrize("stage", ["half indexed", "before commit"])
def test_killed_while_indexing_ends_in_the_same_chunks(
    stack: ProcessStack, ledger_server: Server, undisturbed: dict[str, list[Chunk]], stage: str, victim: str
) -> None:
    kb = lead_to(stack, stage, FILES, LONG, len(undisturbed[LONG]))
    match victim:
        case "ledger":
            kill_postgres(ledger_server)
            stack.worker.thaw()
            ledger_server.start()
        case "worker":
            stack.worker.kill()
            stack.worker.start()
        case _:
            server = stack.api if victim == "api" else stack.milvus
            server.kill()
            stack.worker.thaw()
            server.start()
    stack.wait_for(lambda: stack.http.get("/readyz").status_code == 200, "ready again")
    stack.all_ready(kb)
    assert stack.chunk_sets(kb) == undisturbed
    stack.clean()


def test_worker_killed_between_deleting_a_document_and_its_original_leaves_neither(
    stack: ProcessStack, s3: Server
) -> None:
    kb = stack.base()
    id = stack.upload(kb, {"secret.txt": b"Nobody may keep this."})["secret.txt"]
    stack.all_ready(kb)
    s3.freeze()
    assert stack.http.delete(f"/v1/knowledge-bases/{kb}/documents/{id}").status_code == 202
    stack.wait_for(lambda: stack.status(kb, id) == "deleted", "deleted")
    stack.worker.kill()
    s3.thaw()
    stack.worker.start()
    assert stack.clean()["orphaned_originals"] == []


def test_originals_that_do_not_answer_hold_up_documents_and_fail_none(stack: ProcessStack, s3: Server) -> None:
    kb = stack.base()
    stack.freeze_worker()
    stack.upload(kb, FILES)
    s3.kill()
    stack.worker.thaw()
    stack.wait_for(lambda: any(d["error"] for d in stack.documents(kb).values()), "the outage noticed")
    refused = stack.http.put(f"/v1/knowledge-bases/{kb}/documents/by-name/late.txt", content=b"late")
    assert (refused.status_code, refused.json()["code"]) == (503, "storage-unavailable")
    s3.start()  # its memory is empty: what it held is lost, which the documents must say
    documents = stack.settle(kb)
    assert {document["error"]["code"] for document in documents.values()} == {"original-missing"}
    path = f"/v1/knowledge-bases/{kb}/documents/by-name/{LONG}"
    stack.wait_for(lambda: stack.http.put(path, content=FILES[LONG]).status_code == 202, "uploads are taken again")
    assert stack.upload(kb, FILES).keys() == FILES.keys()
    stack.all_ready(kb)


def kill_postgres(server: Server) -> None:
    """`kill -9` of PostgreSQL itself, which may run under a program that has changed the user for it."""
    processes = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    for process in processes:
        process.send_signal(signal.SIGKILL)
    wait_until(lambda: not any(process.is_running() for process in processes[1:]), 10, "it did not die")
    server.kill()
