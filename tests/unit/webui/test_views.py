"""What the page shows, without the page."""

from __future__ import annotations

from typing import Any

from tests.unit.cli.fake_api import document, source
from zhiwen.webui.views import DOCUMENT_HEADERS, UPLOAD_HEADERS, document_rows, sources_html, upload_rows

NOT_READABLE = {"code": "unsupported-type", "detail": "Not readable."}


def test_document_row_has_a_cell_for_every_header() -> None:
    [row] = document_rows([document("d1", "年假.txt", b"x" * 2048, status="ready")])
    assert len(row) == len(DOCUMENT_HEADERS)
    assert row == ["年假.txt", "就绪 / ready", "3", "2.0 KB", ""]


def test_document_in_a_stage_shows_how_far_it_is() -> None:
    half = document("d1", "a.txt", status="embedding") | {"progress": {"stage": "embedding", "done": 12, "total": 40}}
    assert document_rows([half])[0][1] == "向量化 / embedding 12/40"


def test_upload_rows_show_what_became_of_each_file() -> None:
    items: list[dict[str, Any]] = [
        {"id": "d1", "name": "a.txt", "status": "queued", "outcome": "created"},
        {"id": "d2", "name": "b.txt", "status": "ready", "outcome": "duplicate", "duplicate_of": "a.txt"},
        {
            "id": None,
            "name": "c.bin",
            "status": "rejected",
            "outcome": "rejected",
            "error": {"detail": "Not readable."},
        },
    ]
    rows = upload_rows(items, {"d1": document("d1", "a.txt", status="ready")})
    assert {len(row) for row in rows} == {len(UPLOAD_HEADERS)}
    assert [row[2] for row in rows] == ["就绪 / ready", "就绪 / ready", "被拒绝 / rejected"]
    assert "a.txt" in rows[1][3]
    assert rows[2][3] == "Not readable."


def test_sources_are_numbered_with_file_page_and_text() -> None:
    shown = sources_html([source(1), source(2)])
    assert shown.count("<details") == 2
    for text in ("[1]", "[2]", "员工手册.docx", "p. 3", "满十年的员工享有15天年假。", "0.88"):
        assert text in shown


def test_text_of_a_document_stays_text() -> None:
    shown = sources_html([source(text="<img src=x onerror=alert(1)>") | {"source": '"><script>'}])
    assert "<img" not in shown
    assert "<script" not in shown


def test_no_sources_show_nothing() -> None:
    assert sources_html([]) == ""
