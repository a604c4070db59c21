"""The same kills on the stores of production: PostgreSQL for the ledger, an S3 bucket for the originals."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import psutil
import pytest

from tests.servers.process_stack import Chunk, Rig, prose, running_rig
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
def rig(tmp_path_factory: pytest.TempPathFactory, ledger_server: Server, s3: Server) -> Iterator[Rig]:
    settings = {
        "ORIGINALS_URL": "s3://faults/originals",
        "S3_ENDPOINT_URL": s3.url,
        "S3_ACCESS_KEY": "testing",
        "S3_SECRET_KEY": "testing",
    }
    url = new_database(ledger_server.url, "faults")
    with running_rig(tmp_path_factory.mktemp("faults"), database_url=url, settings=settings) as rig:
        yield rig


@pytest.fixture(scope="module")
def undisturbed(rig: Rig) -> dict[str, list[Chunk]]:
    kb = rig.base()
    rig.upload(kb, FILES)
    rig.all_ready(kb)
    return rig.chunk_sets(kb)


@pytest.mark.parametrize("victim", ["worker", "api", "milvus", "ledger"])
@pytest.mark.parametrize("stage", ["half indexed", "before commit"])
def test_killed_while_indexing_ends_in_the_same_chunks(
    rig: Rig, ledger_server: Server, undisturbed: dict[str, list[Chunk]], stage: str, victim: str
) -> None:
    kb = lead_to(rig, stage, FILES, LONG, len(undisturbed[LONG]))
    match victim:
        case "ledger":
            kill_postgres(ledger_server)
            rig.worker.thaw()
            ledger_server.start()
        case "worker":
            rig.worker.kill()
            rig.worker.start()
        case _:
            server = rig.api if victim == "api" else rig.milvus
            server.kill()
            rig.worker.thaw()
            server.start()
    rig.wait_for(lambda: rig.http.get("/readyz").status_code == 200, "ready again")
    rig.all_ready(kb)
    assert rig.chunk_sets(kb) == undisturbed
    rig.clean()


def test_worker_killed_between_deleting_a_document_and_its_original_leaves_neither(rig: Rig, s3: Server) -> None:
    kb = rig.base()
    id = rig.upload(kb, {"secret.txt": b"Nobody may keep this."})["secret.txt"]
    rig.all_ready(kb)
    s3.freeze()
    assert rig.http.delete(f"/v1/knowledge-bases/{kb}/documents/{id}").status_code == 202
    rig.wait_for(lambda: rig.status(kb, id) == "deleted", "deleted")
    rig.worker.kill()
    s3.thaw()
    rig.worker.start()
    assert rig.clean()["orphaned_originals"] == []


def test_originals_that_do_not_answer_hold_up_documents_and_fail_none(rig: Rig, s3: Server) -> None:
    kb = rig.base()
    rig.freeze_worker()
    rig.upload(kb, FILES)
    s3.kill()
    rig.worker.thaw()
    rig.wait_for(lambda: any(d["error"] for d in rig.documents(kb).values()), "the outage noticed")
    refused = rig.http.put(f"/v1/knowledge-bases/{kb}/documents/by-name/late.txt", content=b"late")
    assert (refused.status_code, refused.json()["code"]) == (503, "storage-unavailable")
    s3.start()  # its memory is empty: what it held is lost, which the documents must say
    documents = rig.settle(kb)
    assert {document["error"]["code"] for document in documents.values()} == {"original-missing"}
    path = f"/v1/knowledge-bases/{kb}/documents/by-name/{LONG}"
    rig.wait_for(lambda: rig.http.put(path, content=FILES[LONG]).status_code == 202, "uploads are taken again")
    assert rig.upload(kb, FILES).keys() == FILES.keys()
    rig.all_ready(kb)


def kill_postgres(server: Server) -> None:
    """`kill -9` of PostgreSQL itself, which may run under a program that has changed the user for it."""
    processes = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    for process in processes:
        process.send_signal(signal.SIGKILL)
    wait_until(lambda: not any(process.is_running() for process in processes[1:]), 10, "it did not die")
    server.kill()
