"""Adding files: batches, refused batches, and the outcome of each file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.client.fake_api import FakeApi, document, problem
from tests.unit.client.flavours import Caller, Clock
from zhiwen.client import ApiError, BytesFile, DocumentEvent, ErrorOut, LocalFile, Watcher
from zhiwen.client.files import BATCH_BYTES, BATCH_FILES, Source, batches, sources

MakeCaller = Callable[..., Caller]


class Heard(Watcher):
    """A watcher that records what it is told."""

    def __init__(self) -> None:
        self.total = self.sent = 0
        self.followed: int | None = None
        self.statuses: dict[str, list[str]] = {}
        self.waited: list[tuple[str, float]] = []
        self.stalls: list[float] = []

    def uploading(self, total_bytes: int) -> None:
        self.total = total_bytes

    def uploaded(self, more_bytes: int) -> None:
        self.sent += more_bytes

    def waiting(self, reason: str, seconds: float) -> None:
        self.waited.append((reason, seconds))

    def following(self, documents: int) -> None:
        self.followed = documents

    def changed(self, event: DocumentEvent) -> None:
        self.statuses.setdefault(event.id, []).append(event.status)

    def stalled(self, seconds: float) -> None:
        self.stalls.append(seconds)


def write(folder: Path, **contents: str) -> list[Source]:
    for name, content in contents.items():
        (folder / f"{name}.txt").write_text(content)
    return sources([folder])


def test_follows_documents_until_they_are_ready(caller: MakeCaller, tmp_path: Path) -> None:
    heard = Heard()
    write(tmp_path, a="甲", b="乙")
    results = caller(FakeApi({"k": {}}).answer)("add_documents", "k", [tmp_path], watcher=heard)
    assert [(r.name, r.outcome, r.status, r.chunks) for r in results] == [
        ("a.txt", "created", "ready", 3),
        ("b.txt", "created", "ready", 3),
    ]
    assert heard.sent == heard.total == 6
    assert heard.followed == 2
    assert {id: (seen[0], seen[-1]) for id, seen in heard.statuses.items()} == {
        "d1": ("parsing", "ready"),
        "d2": ("parsing", "ready"),
    }


def test_second_time_is_unchanged(caller: MakeCaller, tmp_path: Path) -> None:
    api, heard = FakeApi({"k": {}}), Heard()
    files = write(tmp_path, a="甲")
    caller(api.answer)("add_documents", "k", files)
    [result] = caller(api.answer)("add_documents", "k", files, watcher=heard)
    assert (result.outcome, result.status, result.chunks) == ("unchanged", "ready", 3)
    assert heard.followed == 0


def test_unchanged_document_that_once_failed_has_failed(caller: MakeCaller) -> None:
    api = FakeApi({"k": {}}, failing={"a.txt": {"code": "encrypted", "detail": "It is encrypted."}})
    calling = caller(api.answer)
    for _ in range(2):
        [result] = calling("add_documents", "k", [("a.txt", b"1")])
        assert (result.outcome, result.error.code) == ("failed", "encrypted")


def test_without_wait_nothing_is_followed(caller: MakeCaller) -> None:
    [result] = caller(FakeApi({"k": {}}).answer)("add_documents", "k", [("a.txt", b"1")], wait=False)
    assert (result.outcome, result.status) == ("created", "queued")


def test_failed_document_says_why(caller: MakeCaller, tmp_path: Path) -> None:
    api = FakeApi({"k": {}}, failing={"a.txt": {"code": "encrypted", "detail": "It is encrypted."}})
    results = caller(api.answer)("add_documents", "k", write(tmp_path, a="甲", b="乙"))
    assert [(r.outcome, r.error) for r in results] == [
        ("failed", ErrorOut(code="encrypted", detail="It is encrypted.")),
        ("created", None),
    ]


@pytest.mark.parametrize(
    ("status", "outcome", "code"), [("cancelled", "cancelled", "cancelled"), ("deleted", "failed", "deleted")]
)
def test_document_that_somebody_stopped_says_so(caller: MakeCaller, status: str, outcome: str, code: str) -> None:
    api = FakeApi({"k": {}})

    def answer(request: httpx.Request) -> httpx.Response:
        for known in api.bases["k"].values():
            known["status"] = status
        return api.answer(request)

    [result] = caller(answer)("add_documents", "k", [("a.txt", b"1")])
    assert (result.outcome, result.status, result.error.code) == (outcome, status, code)


def test_rejected_file_does_not_fail_the_others(caller: MakeCaller, tmp_path: Path) -> None:
    results = caller(FakeApi({"k": {}}).answer)("add_documents", "k", write(tmp_path, a="", b="乙"))
    assert [(r.outcome, r.error and r.error.code) for r in results] == [("rejected", "empty-file"), ("created", None)]


def test_refused_batch_is_sent_again_file_by_file(caller: MakeCaller, tmp_path: Path) -> None:
    def too_large(names: list[str]) -> httpx.Response | None:
        return problem(413, "file-too-large", "b.txt is larger than 1 bytes.") if "b.txt" in names else None

    heard = Heard()
    api = FakeApi({"k": {}}, refuse_upload=too_large)
    results = caller(api.answer)("add_documents", "k", write(tmp_path, a="1", b="2", c="3"), watcher=heard)
    assert [(r.name, r.outcome) for r in results] == [("a.txt", "created"), ("b.txt", "rejected"), ("c.txt", "created")]
    assert results[1].error == ErrorOut(code="file-too-large", detail="b.txt is larger than 1 bytes.")
    assert heard.sent == 2


def test_unreadable_file_is_rejected_here(caller: MakeCaller, tmp_path: Path) -> None:
    files = [*write(tmp_path, a="1"), LocalFile(tmp_path / "gone.txt", "gone.txt", 1)]
    results = caller(FakeApi({"k": {}}).answer)("add_documents", "k", files)
    assert [(r.outcome, r.error and r.error.code) for r in results] == [
        ("created", None),
        ("rejected", "file-unreadable"),
    ]
    assert str(tmp_path / "gone.txt") in results[1].error.detail


def test_other_refusals_end_the_upload(caller: MakeCaller, tmp_path: Path) -> None:
    api = FakeApi({"k": {}}, refuse_upload=lambda _: problem(403, "scope-too-small", "This key may read."))
    with pytest.raises(ApiError, match="may read"):
        caller(api.answer)("add_documents", "k", write(tmp_path, a="1", b="2"))


def test_full_queue_is_waited_for(caller: MakeCaller) -> None:
    clock, heard = Clock(), Heard()
    answers = [problem(429, "queue-full", "Too many documents are waiting.") for _ in range(2)]
    answers[0].headers["retry-after"] = "30"
    api = FakeApi({"k": {}}, refuse_upload=lambda _: answers.pop(0) if answers else None)
    [result] = caller(api.answer, clock, retries=0)("add_documents", "k", [("a.txt", b"1")], wait=False, watcher=heard)
    assert result.outcome == "created"
    assert clock.now == 35.0
    assert heard.waited == [("Too many documents are waiting.", 30.0), ("Too many documents are waiting.", 5.0)]
    assert heard.sent == 1


def test_service_that_says_to_come_back_in_a_year_is_asked_again_after_a_minute(caller: MakeCaller) -> None:
    clock, heard = Clock(), Heard()
    answers = [problem(429, "queue-full", "Too many documents are waiting.") for _ in range(2)]
    answers[0].headers["retry-after"] = str(365 * 24 * 3600)
    answers[1].headers["retry-after"] = "inf"
    api = FakeApi({"k": {}}, refuse_upload=lambda _: answers.pop(0) if answers else None)
    [result] = caller(api.answer, clock)("add_documents", "k", [("a.txt", b"1")], wait=False, watcher=heard)
    assert (result.outcome, clock.now) == ("created", 120.0)
    assert [seconds for _, seconds in heard.waited] == [60.0, 60.0]


def test_queue_that_stays_full_is_an_error_in_the_end(caller: MakeCaller) -> None:
    clock = Clock()
    api = FakeApi({"k": {}}, refuse_upload=lambda _: problem(429, "queue-full", "Too many documents are waiting."))
    with pytest.raises(ApiError, match="Too many"):
        caller(api.answer, clock, retries=0)("add_documents", "k", [("a.txt", b"1")])
    assert (len(api.requests), clock.now) == (20, 19 * 5.0)


def test_one_name_twice_in_an_upload_follows_the_document_once(caller: MakeCaller) -> None:
    api = FakeApi({"k": {"d1": document("d1", "a.txt", b"0", status="ready")}})
    [result] = caller(api.answer)("add_documents", "k", [BytesFile("a.txt", b"1")])
    assert (result.outcome, result.status) == ("replaced", "ready")


@given(st.lists(st.integers(0, BATCH_BYTES * 2), max_size=40))
def test_batches_keep_every_file_in_order_and_within_limits(sizes: list[int]) -> None:
    files: list[Source] = [LocalFile(Path(str(n)), str(n), size) for n, size in enumerate(sizes)]
    cut = list(batches(files))
    assert [file for batch in cut for file in batch] == files
    assert all(
        0 < len(batch) <= BATCH_FILES and (len(batch) == 1 or sum(f.size for f in batch) <= BATCH_BYTES)
        for batch in cut
    )
