"""What the ledger promises when many clients and workers use it at the same moment, by the real clock."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

from tests.servers.ledgers import add, add_ready, an_upload, empty_ledger, ledger_on, new_base, record
from zhiwen.common.errors import Conflict, NotFound, ServiceError
from zhiwen.common.ledger import LeaseLost, Ledger
from zhiwen.common.models import DocumentStatus, Job, JobKind, KnowledgeBase

THREADS = 8

T = TypeVar("T")


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    ledger = ledger_on(ledger_url)
    empty_ledger(ledger)
    yield ledger
    ledger.close()


@pytest.fixture
def base(ledger: Ledger) -> KnowledgeBase:
    return new_base(ledger)


def at_once(function: Callable[[int], T], count: int = THREADS) -> list[T]:
    """Call a function in several threads that start together; the first error is raised."""
    start = threading.Barrier(count)

    def run(number: int) -> T:
        start.wait()
        return function(number)

    with ThreadPoolExecutor(count) as pool:
        return [future.result() for future in [pool.submit(run, number) for number in range(count)]]


def test_no_job_is_given_twice(ledger: Ledger, base: KnowledgeBase) -> None:
    other = new_base(ledger, "另一个")
    for number in range(20):
        add(ledger, base if number % 2 else other, f"{number}.txt", str(number).encode())

    def take(number: int) -> list[str]:
        claimed: list[str] = []
        while ledger.jobs.any_due():
            if job := ledger.jobs.claim(f"worker-{number}", 60):
                claimed.append(job.id)
        return claimed

    taken = [id for ids in at_once(take) for id in ids]
    assert len(taken) == 20
    assert len(set(taken)) == 20


def test_one_new_name_becomes_one_document(ledger: Ledger, base: KnowledgeBase) -> None:
    outcomes = Counter(r.outcome for r in at_once(lambda _: record(ledger, base, an_upload())))
    assert outcomes == {"created": 1, "unchanged": THREADS - 1}
    assert len(ledger.documents.list(base.id)) == 1
    assert ledger.jobs.waiting() == 1


def test_one_new_version_becomes_one_version(ledger: Ledger, base: KnowledgeBase) -> None:
    record(ledger, base, an_upload(content=b"1", metadata={"部门": "人事"}))
    recorded = at_once(lambda _: record(ledger, base, an_upload(content=b"2")))
    assert Counter(r.outcome for r in recorded) == {"replaced": 1, "unchanged": THREADS - 1}
    document = ledger.documents.list(base.id)[0]
    assert (document.version, document.metadata) == (2, {"部门": "人事"})


def test_different_bytes_of_one_name_become_versions_in_a_row(ledger: Ledger, base: KnowledgeBase) -> None:
    record(ledger, base, an_upload(content=b"first", metadata={"部门": "人事"}))
    recorded = at_once(lambda number: record(ledger, base, an_upload(content=str(number).encode())))
    assert sorted(r.document.version for r in recorded) == list(range(2, THREADS + 2))
    document = ledger.documents.list(base.id)[0]
    assert (document.version, document.metadata) == (THREADS + 1, {"部门": "人事"})
    assert document.sha256 in {an_upload(content=str(number).encode()).sha256 for number in range(THREADS)}


def test_one_base_name_is_created_once(ledger: Ledger) -> None:
    def create(_: int) -> str:
        try:
            return new_base(ledger, "同名").id
        except Conflict as exc:
            return exc.code

    results = at_once(create)
    assert results.count("knowledge-base-exists") == THREADS - 1


def test_delete_and_replace_at_the_same_moment_end_in_one_of_the_two(ledger: Ledger, base: KnowledgeBase) -> None:
    for _ in range(5):
        document = add_ready_now(ledger, base)

        def act(number: int, id: str = document) -> None:
            if number % 2:
                ledger.documents.begin_delete(base.id, id)
            else:
                record(ledger, base, an_upload(content=str(number).encode()))

        at_once(act)
        assert ledger.documents.get(base.id, document).status is DocumentStatus.DELETING
        for left in ledger.documents.list(base.id):
            ledger.documents.begin_delete(base.id, left.id)
        finish_everything(ledger)


def add_ready_now(ledger: Ledger, base: KnowledgeBase) -> str:
    return add_ready(ledger, base, content=b"start").id


def finish_everything(ledger: Ledger) -> None:
    while job := ledger.jobs.claim("finisher", 60):
        finish(ledger, job)


def finish(ledger: Ledger, job: Job) -> None:
    """End a job as a worker would."""
    try:
        match job.kind:
            case JobKind.INGEST:
                ledger.jobs.advance(job, DocumentStatus.PARSING, 0, 1)
                ledger.jobs.advance(job, DocumentStatus.EMBEDDING, 1, 1)
                generation = ledger.bases.get_by_id(job.knowledge_base_id).live.id
                ledger.endings.commit(job, generation, 1)
            case JobKind.PURGE:
                ledger.endings.finish_purge(job)
            case JobKind.DELETE:
                ledger.endings.finish_delete(job)
            case _:
                raise AssertionError(job.kind)
    except LeaseLost:
        ledger.endings.abandon(job)


@pytest.mark.timeout(60)
def test_uploads_cancels_deletes_and_workers_do_not_block_each_other(ledger: Ledger, base: KnowledgeBase) -> None:
    """Two clients and two workers on three names: no call fails but for reasons of its own, and all work gets done."""
    names = ["a.txt", "b.txt", "c.txt"]
    done = threading.Event()

    def client(seed: int) -> None:
        dice = random.Random(seed)
        for round in range(60):
            try:
                document = record(ledger, base, an_upload(dice.choice(names), str(round).encode())).document
                match dice.randrange(4):
                    case 0:
                        ledger.documents.cancel(base.id, document.id)
                    case 1:
                        ledger.documents.begin_delete(base.id, document.id)
                    case 2:
                        ledger.documents.retry(base.id, document.id)
            except (Conflict, NotFound):
                pass

    def worker(number: int) -> None:
        while not done.is_set() or ledger.jobs.any_due():
            if job := ledger.jobs.claim(f"w{number}", 60):
                finish(ledger, job)
                ledger.jobs.renew([job], 60)

    errors: list[ServiceError] = []

    def guarded(function: Callable[[int], None], number: int) -> None:
        try:
            function(number)
        except ServiceError as exc:
            errors.append(exc)

    workers = [threading.Thread(target=guarded, args=(worker, n)) for n in range(2)]
    clients = [threading.Thread(target=guarded, args=(client, n)) for n in range(2)]
    for thread in (*workers, *clients):
        thread.start()
    for thread in clients:
        thread.join()
    done.set()
    for thread in workers:
        thread.join()
    assert errors == []
    assert ledger.jobs.waiting() == 0
    for document in ledger.documents.list(base.id):
        assert document.status.settled


def test_upload_waits_for_the_removal_of_an_original_that_the_ledger_has_never_seen(
    ledger: Ledger, base: KnowledgeBase
) -> None:
    """What `fsck` finds in the store alone has no row that could be locked, unless it gets one."""
    upload = an_upload(content=b"found")
    steps: list[str] = []

    def keep() -> None:
        steps.append("kept")

    uploading = threading.Thread(
        target=lambda: ledger.uploads.record(base.id, upload, on_duplicate="keep", keep_original=keep)
    )

    def remove() -> None:
        uploading.start()
        uploading.join(0.5)
        steps.append("removed")

    assert ledger.originals.remove_if_unreferenced(upload.sha256, remove)
    uploading.join(20)
    assert steps == ["removed", "kept"]
