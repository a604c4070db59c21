"""`kill -9` of each process at each stage of a document's life: after its restart, the services recover by themselves.

The worker is led to a stage by letting it run for moments only; at the stage it stands still, the victim is killed,
the rest goes on, and then the victim alone is started again.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.process_stack import Chunk, Rig, prose, running_rig
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
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with running_rig(tmp_path_factory.mktemp("kills")) as rig:
        yield rig


@pytest.fixture(scope="module")
def undisturbed(rig: Rig) -> dict[str, list[Chunk]]:
    """The chunks of the files when nothing happens to anybody."""
    kb = rig.base()
    rig.upload(kb, FILES)
    rig.all_ready(kb)
    return rig.chunk_sets(kb)


@pytest.fixture(scope="module")
def rebuilt(rig: Rig) -> dict[str, list[Chunk]]:
    """The same after an undisturbed rebuild."""
    kb = rig.base()
    rig.upload(kb, FILES)
    rig.all_ready(kb)
    rebuild(rig, kb)
    wait_rebuilt(rig, kb)
    return rig.chunk_sets(kb)


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("stage", STAGES)
def test_killed_while_indexing_ends_in_the_same_chunks(
    rig: Rig, undisturbed: dict[str, list[Chunk]], stage: str, victim: str
) -> None:
    kb = lead_to(rig, stage, FILES, LONG, len(undisturbed[LONG]))
    kill_and_restart(rig, victim)
    rig.all_ready(kb)
    assert rig.chunk_sets(kb) == undisturbed
    rig.clean()
    drop(rig, kb)


@pytest.mark.parametrize("victim", VICTIMS)
def test_killed_while_deleting_leaves_nothing(rig: Rig, undisturbed: dict[str, list[Chunk]], victim: str) -> None:
    kb = rig.base()
    ids = rig.upload(kb, FILES)
    rig.all_ready(kb)
    rig.freeze_worker()
    assert rig.http.delete(f"/v1/knowledge-bases/{kb}/documents/{ids[LONG]}").status_code == 202
    assert rig.chunks(kb, ids[LONG]) == []
    collection = rig.ledger.bases.get(kb).live.collection
    rig.step_worker_until(lambda: rig.store.count(collection, ids[LONG]) == 0)
    kill_and_restart(rig, victim)
    rig.wait_for(lambda: rig.document(kb, ids[LONG])["status"] == "deleted", "deleted")
    assert rig.chunk_sets(kb) == {name: chunks for name, chunks in undisturbed.items() if name != LONG}
    rig.clean()
    drop(rig, kb)


@pytest.mark.parametrize("victim", VICTIMS)
def test_killed_while_rebuilding_ends_in_the_new_chunks(
    rig: Rig, undisturbed: dict[str, list[Chunk]], rebuilt: dict[str, list[Chunk]], victim: str
) -> None:
    kb = rig.base()
    id = rig.upload(kb, FILES)[LONG]
    rig.all_ready(kb)
    rig.freeze_worker()
    rebuild(rig, kb)
    building = rig.ledger.bases.get(kb).building
    assert building is not None
    rig.run_worker_until(lambda: rig.store.count(building.collection, id) > 0)
    assert rig.get(kb)["rebuild"]["done"] < len(FILES)
    assert rig.chunk_sets(kb) == undisturbed
    kill_and_restart(rig, victim)
    wait_rebuilt(rig, kb)
    assert rig.chunk_sets(kb) == rebuilt != undisturbed
    rig.clean()
    drop(rig, kb)


def kill_and_restart(rig: Rig, victim: str) -> None:
    """Kill a process while the worker stands still, let the worker go on without it, then start it again."""
    match victim:
        case "worker":
            rig.worker.kill()
            rig.worker.start()
            return
        case "parser":
            for child in rig.parser_children():
                child.kill()
            rig.worker.thaw()
            return
        case "api":
            server = rig.api
        case "redis":
            server = rig.redis
        case "milvus":
            server = rig.milvus
    server.kill()
    rig.worker.thaw()
    server.start()


def rebuild(rig: Rig, kb: str) -> None:
    response = rig.http.patch(f"/v1/knowledge-bases/{kb}", json={"chunking": {"size": 40, "overlap": 4}})
    assert response.status_code == 200, response.text
    assert response.json()["rebuild"]


def wait_rebuilt(rig: Rig, kb: str) -> None:
    rig.wait_for(lambda: rig.get(kb)["rebuild"] is None, "rebuilt")
    shown = rig.get(kb)
    assert shown["rebuild_error"] is None
    assert shown["chunking"]["size"] == 40


def test_what_is_dropped_leaves_no_collection_and_no_original(rig: Rig) -> None:
    for base in rig.http.get("/v1/knowledge-bases").json()["items"]:
        drop(rig, base["name"])
    assert rig.store.collections() == []
    report = rig.clean()
    assert report["checked_originals"] == 0
    assert not [path for path in Path(rig.data / "originals").rglob("*") if path.is_file()]
