"""`kill -9` of each process at each stage of a document's life: after its restart, the services recover by themselves.

The worker is led to a stage by letting it run for moments only; at the stage it stands still, the victim is killed,
the rest goes on, and then the victim alone is started again.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.process_stack import Chunk, ProcessStack, process_stack, prose
from tests.servers.stages import STAGES, drop, lead_to

FILES = {
    "长.txt": prose(350, "long"),
    "说明.md": "# 安装\n\n先接电源。\n\n## 检查\n\n看指示灯是否亮。\n".encode(),
    "page.html": b"<html><body><h1>Manual</h1><p>Check the lamp once a week.</p></body></html>",
    "表.csv": "姓名,部门\n张三,人事\n李四,财务\n".encode(),
}
LONG = "长.txt"
VICTIMS = ("worker", "parser", "api", "redis", "milvus")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessStack]:
    with process_stack(tmp_path_factory.mktemp("kills")) as stack:
        yield stack


@pytest.fixture(scope="module")
def undisturbed(stack: ProcessStack) -> dict[str, list[Chunk]]:
    """The chunks of the files when nothing happens to anybody."""
    kb = stack.base()
    stack.upload(kb, FILES)
    stack.all_ready(kb)
    return stack.chunk_sets(kb)


@pytest.fixture(scope="module")
def rebuilt(stack: ProcessStack) -> dict[str, list[Chunk]]:
    """The same after an undisturbed rebuild."""
    kb = stack.base()
    stack.upload(kb, FILES)
    stack.all_ready(kb)
    rebuild(stack, kb)
    wait_rebuilt(stack, kb)
    return stack.chunk_sets(kb)


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("stage", STAGES)
def test_killed_while_indexing_ends_in_the_same_chunks(
    stack: ProcessStack, undisturbed: dict[str, list[Chunk]], stage: str, victim: str
) -> None:
    kb = lead_to(stack, stage, FILES, LONG, len(undisturbed[LONG]))
    kill_and_restart(stack, victim)
    stack.all_ready(kb)
    assert stack.chunk_sets(kb) == undisturbed
    stack.clean()
    drop(stack, kb)


@pytest.mark.parametrize("victim", VICTIMS)
def test_killed_while_deleting_leaves_nothing(
    stack: ProcessStack, undisturbed: dict[str, list[Chunk]], victim: str
) -> None:
    kb = stack.base()
    ids = stack.upload(kb, FILES)
    stack.all_ready(kb)
    stack.freeze_worker()
    assert stack.http.delete(f"/v1/knowledge-bases/{kb}/documents/{ids[LONG]}").status_code == 202
    assert stack.chunks(kb, ids[LONG]) == []
    collection = stack.ledger.bases.get(kb).live.collection
    stack.step_worker_until(lambda: stack.store.count(collection, ids[LONG]) == 0)
    kill_and_restart(stack, victim)
    stack.wait_for(lambda: stack.document(kb, ids[LONG])["status"] == "deleted", "deleted")
    assert stack.chunk_sets(kb) == {name: chunks for name, chunks in undisturbed.items() if name != LONG}
    stack.clean()
    drop(stack, kb)


@pytest.mark.parametrize("victim", VICTIMS)
def test_killed_while_rebuilding_ends_in_the_new_chunks(
    stack: ProcessStack, undisturbed: dict[str, list[Chunk]], rebuilt: dict[str, list[Chunk]], victim: str
) -> None:
    kb = stack.base()
    id = stack.upload(kb, FILES)[LONG]
    stack.all_ready(kb)
    stack.freeze_worker()
    rebuild(stack, kb)
    building = stack.ledger.bases.get(kb).building
    assert building is not None
    stack.run_worker_until(lambda: stack.store.count(building.collection, id) > 0)
    assert stack.get(kb)["rebuild"]["done"] < len(FILES)
    assert stack.chunk_sets(kb) == undisturbed
    kill_and_restart(stack, victim)
    wait_rebuilt(stack, kb)
    assert stack.chunk_sets(kb) == rebuilt != undisturbed
    stack.clean()
    drop(stack, kb)


def kill_and_restart(stack: ProcessStack, victim: str) -> None:
    """Kill a process while the worker stands still, let the worker go on without it, then start it again."""
    match victim:
        case "worker":
            stack.worker.kill()
            stack.worker.start()
            return
        case "parser":
            for child in stack.parser_children():
                child.kill()
            stack.worker.thaw()
            return
        case "api":
            server = stack.api
        case "redis":
            server = stack.redis
        case "milvus":
            server = stack.milvus
    server.kill()
    stack.worker.thaw()
    server.start()


def rebuild(stack: ProcessStack, kb: str) -> None:
    response = stack.http.patch(f"/v1/knowledge-bases/{kb}", json={"chunking": {"size": 40, "overlap": 4}})
    assert response.status_code == 200, response.text
    assert response.json()["rebuild"]


def wait_rebuilt(stack: ProcessStack, kb: str) -> None:
    stack.wait_for(lambda: stack.get(kb)["rebuild"] is None, "rebuilt")
    shown = stack.get(kb)
    assert shown["rebuild_error"] is None
    assert shown["chunking"]["size"] == 40


def test_what_is_dropped_leaves_no_collection_and_no_original(stack: ProcessStack) -> None:
    for base in stack.http.get("/v1/knowledge-bases").json()["items"]:
        drop(stack, base["name"])
    assert stack.store.collections() == []
    report = stack.clean()
    assert report["checked_originals"] == 0
    assert not [path for path in Path(stack.data / "originals").rglob("*") if path.is_file()]
