"""Lead a document to a stage of its indexing, and leave the worker standing still there."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tests.servers.process_stack import Rig

STAGES = ("received", "parsing", "embedding", "half indexed", "before commit")


def lead_to(rig: Rig, stage: str, files: Mapping[str, bytes], long: str, total: int) -> str:
    """Upload the files to a new base and freeze the worker when `long`, of `total` chunks, is at a stage."""
    for _ in range(8):
        kb = rig.base()
        rig.freeze_worker()
        id = rig.upload(kb, files)[long]
        if _reached(rig, kb, id, stage, total):
            return kb
        rig.worker.thaw()
        rig.all_ready(kb)
        drop(rig, kb)
    raise AssertionError(f"the moment of {stage} was missed eight times")


def _reached(rig: Rig, kb: str, id: str, stage: str, total: int) -> bool:
    def at(status: str) -> Callable[[], bool]:
        return lambda: rig.status(kb, id) in {status, "ready"}

    def written() -> int:
        return rig.written(kb, id)

    match stage:
        case "received":
            return rig.status(kb, id) == "queued"
        case "parsing" | "embedding":
            rig.run_worker_until(at(stage))
            return rig.status(kb, id) == stage
        case "half indexed":
            rig.run_worker_until(lambda: written() > 0)
            return written() < total
        case "before commit":
            rig.run_worker_until(lambda: written() > 0)
            rig.run_worker_to_its_commit(lambda: written() == total)
            return rig.status(kb, id) != "ready"
    raise AssertionError(stage)


def drop(rig: Rig, kb: str) -> None:
    """Drop a base and wait until nothing of it is left to do."""
    assert rig.http.delete(f"/v1/knowledge-bases/{kb}").status_code == 202
    rig.wait_for(lambda: rig.ledger.jobs.waiting() == 0, "dropped")
