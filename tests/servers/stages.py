"""Lead a document to a stage of its indexing, and leave the worker standing still there."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tests.servers.process_stack import ProcessStack

STAGES = ("received", "parsing", "embedding", "half indexed", "before commit")


def lead_to(stack: ProcessStack, stage: str, files: Mapping[str, bytes], long: str, total: int) -> str:
    """Upload the files to a new base and freeze the worker when `long`, of `total` chunks, is at a stage."""
    for _ in range(8):
        kb = stack.base()
        stack.freeze_worker()
        id = stack.upload(kb, files)[long]
        if _reached(stack, kb, id, stage, total):
            return kb
        stack.worker.thaw()
        stack.all_ready(kb)
        drop(stack, kb)
    raise AssertionError(f"the moment of {stage} was missed eight times")


def _reached(stack: ProcessStack, kb: str, id: str, stage: str, total: int) -> bool:
    def at(status: str) -> Callable[[], bool]:
        return lambda: stack.status(kb, id) in {status, "ready"}

    def written() -> int:
        return stack.written(kb, id)

    match stage:
        case "received":
            return stack.status(kb, id) == "queued"
        case "parsing" | "embedding":
            stack.run_worker_until(at(stage))
            return stack.status(kb, id) == stage
        case "half indexed":
            stack.run_worker_until(lambda: written() > 0)
            return written() < total
        case "before commit":
            stack.run_worker_until(lambda: written() > 0)
            stack.run_worker_to_its_commit(lambda: written() == total)
            return stack.status(kb, id) != "ready"
    raise AssertionError(stage)


def drop(stack: ProcessStack, kb: str) -> None:
    """Drop a base and wait until nothing of it is left to do."""
    assert stack.http.delete(f"/v1/knowledge-bases/{kb}").status_code == 202
    stack.wait_for(lambda: stack.ledger.jobs.waiting() == 0, "dropped")
