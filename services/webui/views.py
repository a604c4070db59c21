"""Makes the rows of the tables that the page shows. Pure, without gradio."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from zhiwen.client import DocumentEvent, DocumentOut, ErrorOut, ProgressOut, UploadItem

Row = list[str]

DOCUMENT_HEADERS = ["名称 / Name", "状态 / Status", "片段 / Chunks", "大小 / Size", "说明 / Note"]
UPLOAD_HEADERS = ["名称 / Name", "结果 / Outcome", "状态 / Status", "说明 / Note"]

UPLOADING = "上传中 / uploading"
STAGES = frozenset({"parsing", "embedding", "indexing"})
STATUSES = {
    "queued": "排队 / queued",
    "parsing": "解析 / parsing",
    "embedding": "向量化 / embedding",
    "indexing": "写入索引 / indexing",
    "ready": "就绪 / ready",
    "failed": "失败 / failed",
    "cancelled": "已取消 / cancelled",
    "deleting": "删除中 / deleting",
    "deleted": "已删除 / deleted",
    "rejected": "被拒绝 / rejected",
}
OUTCOMES = {
    "created": "新建 / created",
    "replaced": "更新 / replaced",
    "unchanged": "未变 / unchanged",
    "duplicate": "重复 / duplicate",
    "rejected": "被拒绝 / rejected",
    "failed": "失败 / failed",
    "cancelled": "已取消 / cancelled",
}


def status_label(status: str, progress: ProgressOut | None = None) -> str:
    """Return a document's status in both languages, and within a stage its progress, such as `12/40`."""
    known = progress is not None and progress.stage == status and progress.total and status in STAGES
    part = f" {progress.done}/{progress.total}" if progress is not None and known else ""
    return STATUSES.get(status, status) + part


def outcome_label(outcome: str) -> str:
    """Return the outcome of an upload in both languages."""
    return OUTCOMES.get(outcome, outcome)


def document_rows(documents: Iterable[DocumentOut]) -> list[Row]:
    """Return the rows under `DOCUMENT_HEADERS`."""
    return [
        [
            document.name,
            status_label(document.status, document.progress),
            str(document.chunks),
            size_label(document.bytes),
            error_text(document.error),
        ]
        for document in documents
    ]


def upload_rows(items: Iterable[UploadItem], latest: Mapping[str, DocumentEvent]) -> list[Row]:
    """Return the rows under `UPLOAD_HEADERS`. `latest` holds the last event of each document, by id."""
    return [_upload_row(item, latest.get(item.id) if item.id and is_followed(item) else None) for item in items]


def _upload_row(item: UploadItem, event: DocumentEvent | None) -> Row:
    status, note = status_label(item.status), error_text(item.error)
    if event is not None:
        document = event.document
        status = status_label(event.status, document.progress if document else None)
        note = error_text(document.error if document else None)
    if item.duplicate_of:
        note = f"与 {item.duplicate_of} 内容相同 / same bytes as {item.duplicate_of}"
    return [item.name, outcome_label(item.outcome), status, note]


def is_followed(item: UploadItem) -> bool:
    """Return True when the item names a document of its own, whose status the page shows."""
    return item.outcome not in {"rejected", "duplicate"}


def waiting_rows(names: Iterable[str]) -> list[Row]:
    """Return the rows under `UPLOAD_HEADERS` of files that are not uploaded yet."""
    return [[name, "", UPLOADING, ""] for name in names]


def error_text(error: ErrorOut | None) -> str:
    """Return the sentence of an error, or nothing without an error."""
    return error.detail if error else ""


def size_label(count: int) -> str:
    """Return a number of bytes for people."""
    if count < 1024:
        return f"{count} B"
    return f"{count / 1024:.1f} KB" if count < 1024 * 1024 else f"{count / 1024 / 1024:.1f} MB"
