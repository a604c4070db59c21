"""Adding files: which ones, in which batches, what a refused one costs the others, and when it ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.cli.fake_api import FakeApi, document, problem
from tests.unit.cli.test_rest_client import ADDRESSES
from zhiwen.cli.adding import BATCH_BYTES, BATCH_FILES, Adder, batches, collect, counts, stages_passed
from zhiwen.cli.client import Client, LocalFile
from zhiwen.cli.problems import ApiError, Usage


@dataclass
class Heard:
    """A watcher that writes down what it hears."""

    total: int = 0
    sent: int = 0
    passed: list[dict[str, float]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def uploading(self, total_bytes: int) -> None:
        self.total = total_bytes

    def uploaded(self, more_bytes: int) -> None:
        self.sent += more_bytes

    def following(self, documents: int) -> None: ...

    def stages(self, passed: Mapping[str, float]) -> None:
        self.passed.append(dict(passed))

    def say(self, text: str) -> None:
        self.said.append(text)


@dataclass
class Clock:
    """Time that passes by sleeping only."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def adder_of(api: FakeApi, heard: Heard | None = None, clock: Clock | None = None) -> Adder:
    time = clock or Clock()
    return Adder(Client(ADDRESSES, transport=api.transport), "k", heard or Heard(), clock=time, sleep=time.sleep)


def write(folder: Path, **contents: str) -> list[LocalFile]:
    for name, content in contents.items():
        (folder / f"{name}.txt").write_text(content)
    return collect([folder])


def test_follows_documents_until_they_are_ready(tmp_path: Path) -> None:
    heard = Heard()
    results = adder_of(FakeApi({"k": {}}), heard).add(write(tmp_path, a="甲", b="乙"))
    assert [(r.name, r.outcome, r.status, r.chunks) for r in results] == [
        ("a.txt", "created", "ready", 3),
        ("b.txt", "created", "ready", 3),
    ]
    assert heard.sent == heard.total == 6
    assert heard.passed[-1] == {"parsing": 2, "embedding": 2, "indexing": 2}
    assert heard.passed[0] == {"parsing": 0, "embedding": 0, "indexing": 0}


def test_second_time_is_unchanged(tmp_path: Path) -> None:
    api = FakeApi({"k": {}})
    files = write(tmp_path, a="甲")
    adder_of(api).add(files)
    [result] = adder_of(api).add(files)
    assert (result.outcome, result.status, result.chunks) == ("unchanged", "ready", 3)


def test_without_wait_nothing_is_followed(tmp_path: Path) -> None:
    [result] = adder_of(FakeApi({"k": {}})).add(write(tmp_path, a="甲"), wait=False)
    assert (result.outcome, result.status) == ("created", "queued")


def test_failed_document_says_why(tmp_path: Path) -> None:
    api = FakeApi({"k": {}}, failing={"a.txt": {"code": "encrypted", "detail": "It is encrypted."}})
    results = adder_of(api).add(write(tmp_path, a="甲", b="乙"))
    assert [(r.outcome, r.error) for r in results] == [
        ("failed", {"code": "encrypted", "detail": "It is encrypted."}),
        ("created", None),
    ]


def test_rejected_file_does_not_fail_the_others(tmp_path: Path) -> None:
    results = adder_of(FakeApi({"k": {}})).add(write(tmp_path, a="", b="乙"))
    assert [(r.outcome, (r.error or {}).get("code")) for r in results] == [
        ("rejected", "empty-file"),
        ("created", None),
    ]


def test_refused_batch_is_sent_again_file_by_file(tmp_path: Path) -> None:
    def too_large(names: list[str]) -> httpx.Response | None:
        return problem(413, "file-too-large", "b.txt is larger than 1 bytes.") if "b.txt" in names else None

    heard = Heard()
    results = adder_of(FakeApi({"k": {}}, refuse_upload=too_large), heard).add(write(tmp_path, a="1", b="2", c="3"))
    assert [(r.name, r.outcome) for r in results] == [("a.txt", "created"), ("b.txt", "rejected"), ("c.txt", "created")]
    assert results[1].error == {"code": "file-too-large", "detail": "b.txt is larger than 1 bytes."}
    assert heard.sent == 2


def test_unreadable_file_is_rejected_here(tmp_path: Path) -> None:
    files = [*write(tmp_path, a="1"), LocalFile(tmp_path / "gone.txt", "gone.txt", 1)]
    results = adder_of(FakeApi({"k": {}})).add(files)
    assert [(r.outcome, (r.error or {}).get("code")) for r in results] == [
        ("created", None),
        ("rejected", "file-unreadable"),
    ]


def test_other_refusals_end_the_upload(tmp_path: Path) -> None:
    api = FakeApi({"k": {}}, refuse_upload=lambda _: problem(403, "scope-too-small", "This key may read."))
    with pytest.raises(ApiError, match="may read"):
        adder_of(api).add(write(tmp_path, a="1", b="2"))


def test_full_queue_is_waited_for(tmp_path: Path) -> None:
    clock, heard = Clock(), Heard()
    answers = [problem(429, "queue-full", "Too many documents are waiting.") for _ in range(2)]
    answers[0].headers["retry-after"] = "30"
    api = FakeApi({"k": {}}, refuse_upload=lambda _: answers.pop(0) if answers else None)
    [result] = adder_of(api, heard, clock).add(write(tmp_path, a="1"), wait=False)
    assert result.outcome == "created"
    assert clock.now == 35.0
    assert heard.said == [
        "Too many documents are waiting. Trying again in 30 s.",
        "Too many documents are waiting. Trying again in 5 s.",
    ]


def test_restart_of_the_api_is_waited_for(tmp_path: Path) -> None:
    api, clock = FakeApi({"k": {"d1": document("d1", "a.txt")}}), Clock()

    def answer(request: httpx.Request) -> httpx.Response:
        if 1 < clock.now < 20:
            raise httpx.ConnectError("refused", request=request)
        return api.answer(request)

    client = Client(ADDRESSES, transport=httpx.MockTransport(answer))
    followed = Adder(client, "k", Heard(), clock=clock, sleep=clock.sleep).follow(["d1"])
    assert followed["d1"]["status"] == "ready"


def test_api_that_stays_away_is_an_error() -> None:
    clock = Clock()

    def gone(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    client = Client(ADDRESSES, transport=httpx.MockTransport(gone))
    with pytest.raises(ApiError, match="does not answer"):
        Adder(client, "k", Heard(), clock=clock, sleep=clock.sleep).follow(["d1"])
    assert 60 < clock.now < 62


def test_deleted_while_followed_is_told() -> None:
    assert adder_of(FakeApi({"k": {}})).follow(["gone"]) == {"gone": {"id": "gone", "status": "deleted"}}


def test_queue_that_does_not_move_is_told_once() -> None:
    heard, clock = Heard(), Clock()
    queued = document("d1", "a.txt")

    def answer(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={**queued, "status": "queued" if clock.now < 100 else "ready"})

    client = Client(ADDRESSES, transport=httpx.MockTransport(answer))
    Adder(client, "k", heard, clock=clock, sleep=clock.sleep).follow(["d1"])
    assert heard.said == ["Nothing has been taken up for 30 s: is the worker running?"]


def test_collect_walks_folders_and_leaves_hidden_files_out(tmp_path: Path) -> None:
    for name in ("b.txt", "子/a.txt", ".git/config", "子/.DS_Store"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    assert [file.name for file in collect([tmp_path])] == ["b.txt", "子/a.txt"]
    assert [file.name for file in collect([tmp_path / "子" / "a.txt"])] == ["a.txt"]


def test_same_file_named_twice_is_one(tmp_path: Path) -> None:
    write(tmp_path, a="1")
    assert len(collect([tmp_path, tmp_path / "a.txt"])) == 1


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text(name)
    with pytest.raises(Usage, match=r"would both be the document a\.txt"):
        collect([tmp_path / "x", tmp_path / "y"])


def test_path_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Usage, match="does not exist"):
        collect([tmp_path / "nope"])


@given(st.lists(st.integers(0, BATCH_BYTES * 2), max_size=40))
def test_batches_keep_every_file_in_order_and_within_limits(sizes: list[int]) -> None:
    files = [LocalFile(Path(str(n)), str(n), size) for n, size in enumerate(sizes)]
    cut = list(batches(files))
    assert [file for batch in cut for file in batch] == files
    assert all(
        0 < len(batch) <= BATCH_FILES and (len(batch) == 1 or sum(f.size for f in batch) <= BATCH_BYTES)
        for batch in cut
    )


def test_document_in_the_middle_of_a_stage_counts_for_its_part() -> None:
    half = {"status": "embedding", "progress": {"stage": "embedding", "done": 5, "total": 10}}
    failed = {"status": "failed", "progress": {"stage": "parsing", "done": 0, "total": 0}}
    assert stages_passed([half, failed]) == {"parsing": 2, "embedding": 1.5, "indexing": 1}


def test_counts_name_every_outcome() -> None:
    assert counts([]) == {"created": 0, "replaced": 0, "unchanged": 0, "duplicate": 0, "failed": 0, "rejected": 0}
