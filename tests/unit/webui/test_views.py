"""The rows and the HTML that the page shows, without gradio."""

from __future__ import annotations

from typing import Any

from tests.unit.client.fake_api import document
from zhiwen.client import DocumentEvent, DocumentOut, DocumentStatus, UploadItem
from zhiwen.webui.views import (
    DOCUMENT_HEADERS,
    UPLOAD_HEADERS,
    document_rows,
    upload_rows,
    waiting_rows,
)

NOT_READABLE = {"code": "unsupported-type", "detail": "Not readable."}


def shown_document(**fields: Any) -> DocumentOut:
    return DocumentOut.model_validate(document("d1", "年假.txt", b"x" * 2048) | fields)


def test_document_row_has_a_cell_for_every_header() -> None:
    [row] = document_rows([shown_document(status="ready")])
    assert len(row) == len(DOCUMENT_HEADERS)
    assert row == ["年假.txt", "就绪 / ready", "3", "2.0 KB", ""]


def test_document_in_a_stage_shows_how_far_it_is() -> None:
    half = shown_document(status="embedding", progress={"stage": "embedding", "done": 12, "total": 40})
    assert document_rows([half])[0][1] == "向量化 / embedding 12/40"


def test_upload_rows_show_what_became_of_each_file() -> None:
    items = [
        UploadItem(id="d1", name="a.txt", status="queued", version=1, outcome="created"),
        UploadItem(id="d2", name="b.txt", status="ready", version=1, outcome="duplicate", duplicate_of="a.txt"),
        UploadItem.model_validate(
            {"id": None, "name": "c.bin", "status": "rejected", "version": None, "outcome": "rejected"}
            | {"error": NOT_READABLE}
        ),
    ]
    rows = upload_rows(items, {"d1": DocumentEvent.of(shown_document(status="ready"))})
    assert {len(row) for row in rows} == {len(UPLOAD_HEADERS)}
    assert [row[2] for row in rows] == ["就绪 / ready", "就绪 / ready", "被拒绝 / rejected"]
    assert "a.txt" in rows[1][3]
    assert rows[2][3] == "Not readable."


def test_document_that_is_gone_is_shown_as_deleted() -> None:
    item = UploadItem(id="d1", name="a.txt", status="queued", version=1, outcome="created")
    [row] = upload_rows([item], {"d1": DocumentEvent("d1", DocumentStatus.DELETED)})
    assert row == ["a.txt", "新建 / created", "已删除 / deleted", ""]


def test_file_that_is_not_uploaded_yet_is_waiting() -> None:
    assert waiting_rows(["a.txt"]) == [["a.txt", "", "上传中 / uploading", ""]]
