"""An upload from request to ledger: the outcome of each file, and what a failure leaves. On SQLite, in one folder."""

from __future__ import annotations

import errno
import hashlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import structlog
from fastapi import Request

from tests.servers.ledgers import claim, index, new_base
from zhiwen.common.api.documents import UploadItem
from zhiwen.common.errors import InvalidRequest, ServiceError, TooLarge, TooMany, Unavailable
from zhiwen.common.ledger import Ledger
from zhiwen.common.models import DocumentStatus, KnowledgeBase
from zhiwen.common.originals import DiskOriginals, storage_error
from zhiwen.ingest.upload.accept import UploadLimits, Uploads
from zhiwen.ingest.upload.archives import ArchiveLimits
from zhiwen.ingest.upload.options import UploadOptions
from zhiwen.ingest.upload.staging import StagedFile, StagingFile
from zhiwen.ingest.worker.broker import Broker

LIMITS = UploadLimits(file_bytes=1000, request_bytes=2000, archive=ArchiveLimits(5, 10_000, 100.0), waiting_jobs=50)
SKIP, ERROR = UploadOptions(on_duplicate="skip"), UploadOptions(on_duplicate="error")


class CountingBroker(Broker):
    """A broker that counts how often it is asked to wake a worker."""

    def __init__(self) -> None:
        self.woken = 0

    def wake(self) -> None:
        self.woken += 1


class FullDisk(DiskOriginals):
    """Originals on a disk that has space for a number of files."""

    def __init__(self, root: Path, left: int) -> None:
        super().__init__(root)
        self.left = left

    def put(self, sha256: str, source: Path) -> None:
        if self.left == 0:
            raise storage_error(OSError(errno.ENOSPC, "No space left on device"))
        self.left -= 1
        super().put(sha256, source)


@dataclass
class Setup:
    """Uploads to one knowledge base, with what they write to."""

    uploads: Uploads
    broker: CountingBroker
    ledger: Ledger
    base: KnowledgeBase
    folder: Path

    def accept(self, files: Mapping[str, bytes | str], options: UploadOptions = UploadOptions()) -> list[UploadItem]:
        """Stage files as a request does, and accept them."""
        staged = []
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            path = self.folder / hashlib.sha256(name.encode()).hexdigest()
            path.write_bytes(data)
            staged.append(StagedFile(name, path, len(data), hashlib.sha256(data).hexdigest()))
        return self.uploads.accept(self.base, staged, options)

    def one(self, name: str, content: bytes | str, options: UploadOptions = UploadOptions()) -> UploadItem:
        return self.accept({name: content}, options)[0]

    def full_after(self, files: int) -> Setup:
        """Return the same setup on a disk that has space for a number of files."""
        return replace(self, uploads=replace(self.uploads, originals=FullDisk(self.folder / "originals", files)))

    def names(self) -> list[str]:
        return [document.name for document in self.ledger.documents.list(self.base.id)]

    def originals(self) -> set[str]:
        return set(self.uploads.originals.list())


@pytest.fixture
def setup(ledger: Ledger, tmp_path: Path) -> Setup:
    broker = CountingBroker()
    uploads = Uploads(ledger, DiskOriginals(tmp_path / "originals"), broker, tmp_path / "incoming", LIMITS)
    return Setup(uploads, broker, ledger, new_base(ledger), tmp_path)


def zip_of(members: Mapping[str, bytes | str]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return data.getvalue()


def outcomes(items: Sequence[UploadItem]) -> list[tuple[str, str, str | None]]:
    """Return name, outcome and error code of each item."""
    return [(item.name, item.outcome, item.error.code if item.error else None) for item in items]


# What becomes of a file


def test_new_file_is_kept_recorded_and_queued(setup: Setup) -> None:
    options = UploadOptions({"部门": "人事"})
    item = setup.one("制度/年假.md", "# 年假\n\n十天。", options)
    assert (item.name, item.outcome, item.status, item.version) == ("制度/年假.md", "created", "queued", 1)
    document = setup.ledger.documents.get(setup.base.id, str(item.id))
    assert (document.media_type, document.metadata) == ("text/markdown", {"部门": "人事"})
    assert setup.originals() == {document.sha256}
    assert claim(setup.ledger).document_id == item.id
    assert setup.broker.woken == 1


def test_same_bytes_again_are_unchanged_and_queue_nothing(setup: Setup) -> None:
    first = setup.one("a.txt", "一。")
    again = setup.one("a.txt", "一。")
    assert (again.outcome, again.id, again.version) == ("unchanged", first.id, 1)
    assert setup.ledger.jobs.waiting() == 1


def test_other_bytes_are_a_new_version_that_keeps_its_metadata(setup: Setup) -> None:
    first = setup.one("a.txt", "一。", UploadOptions({"年": 2026}))
    index(setup.ledger, setup.base)
    item = setup.one("a.txt", "二。")
    assert (item.outcome, item.id, item.version) == ("replaced", first.id, 2)
    document = setup.ledger.documents.get(setup.base.id, str(item.id))
    assert (document.live_version, document.metadata) == (1, {"年": 2026})
    assert len(setup.originals()) == 2


def test_bytes_that_failed_are_queued_again(setup: Setup) -> None:
    item = setup.one("a.txt", "一。")
    setup.ledger.endings.fail(claim(setup.ledger), "corrupt", "Damaged.")
    again = setup.one("a.txt", "一。")
    assert (again.outcome, again.id, again.status) == ("unchanged", item.id, DocumentStatus.QUEUED)


def test_bytes_under_another_name_are_kept_by_default(setup: Setup) -> None:
    first, second = setup.accept({"甲.txt": "同。", "乙.txt": "同。"})
    assert outcomes([first, second]) == [("甲.txt", "created", None), ("乙.txt", "created", None)]
    assert first.id != second.id
    assert len(setup.originals()) == 1


def test_bytes_under_another_name_can_be_skipped(setup: Setup) -> None:
    first = setup.one("甲.txt", "同。")
    second = setup.one("乙.txt", "同。", SKIP)
    assert (second.outcome, second.name, second.duplicate_of, second.id) == ("duplicate", "乙.txt", "甲.txt", first.id)
    assert setup.names() == ["甲.txt"]


def test_bytes_under_another_name_can_be_an_error(setup: Setup) -> None:
    setup.one("甲.txt", "同。")
    second = setup.one("乙.txt", "同。", ERROR)
    assert outcomes([second]) == [("乙.txt", "rejected", "duplicate-content")]
    assert (second.id, second.version, second.status) == (None, None, "rejected")
    assert setup.names() == ["甲.txt"]


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("空.txt", b"", "empty-file"),
        ("程序.exe", b"MZ\x90\x00" + bytes(range(256)), "unsupported-type"),
        ("坏.zip", b"PK\x03\x04 this is no archive", "corrupt"),
        ("a\x07b.txt", b"x", "bad-name"),
        (" / ", b"x", "bad-name"),
        ("长" * 400 + ".txt", b"x", "bad-name"),
    ],
    ids=["empty", "program", "damaged zip", "control character", "no name", "long name"],
)
def test_bad_file_is_rejected_and_the_others_stand(setup: Setup, name: str, content: bytes, code: str) -> None:
    items = setup.accept({"前.txt": "前。", name: content, "后.txt": "后。"})
    assert outcomes(items) == [("前.txt", "created", None), (name, "rejected", code), ("后.txt", "created", None)]
    assert setup.names() == ["前.txt", "后.txt"]
    assert len(setup.originals()) == 2
    assert setup.broker.woken == 1


# Archives


def test_zip_gives_an_item_for_each_file_in_order(setup: Setup) -> None:
    packed = zip_of(
        {"一.txt": "一。", "../外.txt": "x", "空.txt": "", "内.zip": zip_of({"a.txt": "a"}), "制度/二.md": "# 二"}
    )
    items = setup.accept({"资料.zip": packed}, UploadOptions({"年": 2026}))
    assert outcomes(items) == [
        ("一.txt", "created", None),
        ("../外.txt", "rejected", "archive-unsafe-path"),
        ("空.txt", "rejected", "empty-file"),
        ("内.zip", "rejected", "nested-archive"),
        ("制度/二.md", "created", None),
    ]
    found = setup.ledger.documents.list(setup.base.id)
    assert [(document.name, document.metadata) for document in found] == [
        ("一.txt", {"年": 2026}),
        ("制度/二.md", {"年": 2026}),
    ]
    assert setup.originals() == {hashlib.sha256(data.encode()).hexdigest() for data in ("一。", "# 二")}
    assert list(setup.folder.glob("*.unpacked")) == []


def test_zip_over_a_limit_is_rejected_as_a_whole(setup: Setup) -> None:
    items = setup.accept({"多.zip": zip_of({f"{n}.txt": str(n) for n in range(6)}), "a.txt": "一。"})
    assert outcomes(items) == [("多.zip", "rejected", "archive-too-many-files"), ("a.txt", "created", None)]


# A full disk


def test_full_disk_ends_the_request_and_records_nothing(setup: Setup) -> None:
    with pytest.raises(Unavailable) as caught:
        setup.full_after(0).one("a.txt", "一。")
    assert (caught.value.code, caught.value.status) == ("disk-full", 507)
    assert (setup.names(), setup.originals(), setup.ledger.jobs.waiting()) == ([], set(), 0)


def test_full_disk_in_the_middle_keeps_what_was_kept(setup: Setup) -> None:
    packed = zip_of({"一.txt": "一。", "二.txt": "二。"})
    with pytest.raises(Unavailable, match="disk-full"):
        setup.full_after(1).one("资料.zip", packed)
    assert setup.names() == ["一.txt"]
    assert list(setup.folder.glob("*.unpacked")) == []


# Requests


class Sent:
    """A request whose body comes in pieces; `None` says that the client has left."""

    def __init__(self, *pieces: bytes | None, content_type: str = "multipart/form-data; boundary=X") -> None:
        self.pieces = list(pieces)
        headers = [(b"content-type", content_type.encode())]
        self.request = Request({"type": "http", "method": "POST", "path": "/", "headers": headers}, self._receive)

    async def _receive(self) -> dict[str, object]:
        piece = self.pieces.pop(0)
        if piece is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": piece, "more_body": bool(self.pieces)}


def part(disposition: str, content: str) -> bytes:
    return f"--X\r\nContent-Disposition: form-data; {disposition}\r\n\r\n{content}\r\n".encode()


END = b"--X--\r\n"


async def test_form_carries_files_options_and_the_request_id(setup: Setup) -> None:
    sent = Sent(
        part('name="file"; filename="a.txt"', "一。"),
        part('name="metadata"', '{"年": 1}') + part('name="file"; filename="b.txt"', "一。"),
        part('name="on_duplicate"', "skip") + END,
    )
    with structlog.contextvars.bound_contextvars(request_id="trace-me"):
        items = await setup.uploads.accept_form(sent.request, setup.base)
    assert [(item.name, item.outcome) for item in items] == [("a.txt", "created"), ("b.txt", "duplicate")]
    assert setup.ledger.documents.get(setup.base.id, str(items[0].id)).metadata == {"年": 1}
    assert claim(setup.ledger).request_id == "trace-me"
    assert list((setup.folder / "incoming").iterdir()) == []


@pytest.mark.parametrize(
    ("sent", "error", "code"),
    [
        (Sent(part("name=file; filename=a.txt", "一。")), InvalidRequest, "bad-multipart"),
        (Sent(part("name=file; filename=a.txt", "一。")[:-9], None), InvalidRequest, "client-disconnected"),
        (Sent(part("name=metadata", "{}") + END), InvalidRequest, "no-file"),
        (
            Sent(part("name=file; filename=a.txt", "x") + part("name=metadata", "[]") + END),
            InvalidRequest,
            "bad-metadata",
        ),
        (Sent(part("name=file; filename=a.txt", "x" * 1001), b"never read"), TooLarge, "file-too-large"),
        (Sent(*[part("name=file; filename=a.txt", "x" * 900)] * 3, b"never read"), TooLarge, "request-too-large"),
        (Sent(b"".join(part(f"name=f{n}", "x") for n in range(33))), InvalidRequest, "bad-multipart"),
    ],
    ids=["cut", "gone", "no file", "bad field", "large file", "large request", "many fields"],
)
async def test_request_that_breaks_off_leaves_nothing(
    setup: Setup, sent: Sent, error: type[ServiceError], code: str
) -> None:
    with pytest.raises(error) as caught:
        await setup.uploads.accept_form(sent.request, setup.base)
    assert caught.value.code == code
    assert sent.pieces in ([], [b"never read"])
    assert (setup.names(), setup.originals(), setup.broker.woken) == ([], set(), 0)
    assert list((setup.folder / "incoming").iterdir()) == []


@pytest.mark.parametrize("limit", ["file", "request"])
async def test_nothing_is_read_past_a_limit(setup: Setup, limit: str) -> None:
    size, times = (1001, 1) if limit == "file" else (900, 3)
    sent = Sent(*[part("name=file; filename=a.txt", "x" * size)] * times, b"never read")
    with pytest.raises(TooLarge, match=f"{limit}-too-large"):
        await setup.uploads.accept_form(sent.request, setup.base)
    assert sent.pieces == [b"never read"]


@pytest.mark.parametrize(
    "name",
    ["undefined''%41", "idna''a%ff\u00df", "\0''a", "punycode''%ff"],
    ids=["no-codec", "idna", "nul", "punycode"],
)
async def test_name_that_cannot_be_decoded_is_a_bad_form(setup: Setup, name: str) -> None:
    sent = Sent(part(f"name=file; filename*={name}; filename*0*={name}", "x"), b"--X--\r\n")
    with pytest.raises(InvalidRequest) as caught:
        await setup.uploads.accept_form(sent.request, setup.base)
    assert caught.value.code == "bad-multipart"


async def test_half_of_a_surrogate_pair_in_a_name_can_be_answered(setup: Setup) -> None:
    sent = Sent(part("name=file; filename*=unicode_escape''%5cud800.txt", "x"), b"--X--\r\n")
    [item] = await setup.uploads.accept_form(sent.request, setup.base)
    assert (item.name, item.outcome) == ("?.txt", "created")
    item.model_dump_json()


async def test_disk_that_is_full_until_the_end_is_said_so(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(StagingFile):
        def write(self, data: bytes, *, max_bytes: int | None = None) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self) -> None:
            super().close()
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("zhiwen.ingest.upload.multipart.StagingFile", Full)
    with pytest.raises(ServiceError) as caught:
        await setup.uploads.accept_form(Sent(part("name=file; filename=a.txt", "x"), b"--X--\r\n").request, setup.base)
    assert caught.value.code == "disk-full"


async def test_field_is_held_in_memory_up_to_a_limit(setup: Setup) -> None:
    uploads = replace(setup.uploads, limits=replace(LIMITS, request_bytes=10_000_000))
    with pytest.raises(TooLarge, match="field-too-large"):
        await uploads.accept_form(Sent(part("name=a", "x" * 1_048_577)).request, setup.base)


async def test_body_is_one_file_under_a_name(setup: Setup) -> None:
    item = await setup.uploads.accept_body(Sent("年".encode(), "假。".encode()).request, setup.base, " a.txt ", SKIP)
    assert (item.name, item.outcome) == ("a.txt", "created")
    document = setup.ledger.documents.get(setup.base.id, str(item.id))
    assert document.sha256 == hashlib.sha256("年假。".encode()).hexdigest()


@pytest.mark.parametrize(
    ("name", "pieces", "code"),
    [
        ("x.zip", [zip_of({"a.txt": "a。"})], "archive-by-name"),
        ("\x07", [b"x"], "bad-name"),
        ("a.txt", [b"half", None], "client-disconnected"),
        ("a.txt", [b"x" * 600, b"x" * 600], "file-too-large"),
    ],
    ids=["zip", "no name", "gone", "large"],
)
async def test_body_that_is_refused_leaves_nothing(
    setup: Setup, name: str, pieces: list[bytes | None], code: str
) -> None:
    with pytest.raises(ServiceError) as caught:
        await setup.uploads.accept_body(Sent(*pieces).request, setup.base, name, UploadOptions())
    assert caught.value.code == code
    assert (setup.names(), setup.originals(), setup.broker.woken) == ([], set(), 0)
    assert list((setup.folder / "incoming").iterdir()) == []


async def test_full_queue_refuses_before_anything_is_read(setup: Setup) -> None:
    uploads = replace(setup.uploads, limits=replace(LIMITS, waiting_jobs=1))
    setup.one("a.txt", "一。")
    sent = Sent(b"never read")
    with pytest.raises(TooMany) as caught:
        await uploads.accept_form(sent.request, setup.base)
    assert (caught.value.code, caught.value.headers) == ("queue-full", {"Retry-After": "30"})
    with pytest.raises(TooMany, match="queue-full"):
        await uploads.accept_body(sent.request, setup.base, "b.txt", UploadOptions())
    assert sent.pieces == [b"never read"]


async def test_staging_folder_that_cannot_be_made_is_unavailable(setup: Setup) -> None:
    (setup.folder / "file").write_text("in the way")
    uploads = replace(setup.uploads, folder=setup.folder / "file" / "incoming")
    with pytest.raises(Unavailable, match="storage-unavailable"):
        await uploads.accept_body(Sent(b"x").request, setup.base, "a.txt", UploadOptions())
