"""What the page shows, as plain functions: rows of tables and HTML. No input, no output, no gradio."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

Row = list[str]

DOCUMENT_HEADERS = ["名称 / Name", "状态 / Status", "片段 / Chunks", "大小 / Size", "说明 / Note"]
UPLOAD_HEADERS = ["名称 / Name", "结果 / Outcome", "状态 / Status", "说明 / Note"]

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


def status_label(document: Mapping[str, Any]) -> str:
    """Return the status of a document in both languages and, within a stage, how far that is: 12/40."""
    status = document.get("status") or ""
    progress = document.get("progress") or {}
    known = status == progress.get("stage") and bool(progress.get("total"))
    part = f" {progress['done']}/{progress['total']}" if known and status in STAGES else ""
    return STATUSES.get(status, status) + part


def outcome_label(outcome: str) -> str:
    return OUTCOMES.get(outcome, outcome)


def document_rows(documents: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Rows under `DOCUMENT_HEADERS`."""
    return [
        [
            str(document["name"]),
            status_label(document),
            str(document["chunks"]),
            size_label(document["bytes"]),
            error_text(document.get("error")),
        ]
        for document in documents
    ]


def upload_rows(items: Sequence[Mapping[str, Any]], latest: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """Rows under `UPLOAD_HEADERS`: upload items, with what is known by now of their documents (by id)."""
    rows = []
    for item in items:
        document = latest.get(str(item["id"]), item) if item["outcome"] not in {"rejected", "duplicate"} else item
        note = error_text(document.get("error"))
        if item.get("duplicate_of"):
            note = f"与 {item['duplicate_of']} 内容相同 / same bytes as {item['duplicate_of']}"
        rows.append([str(item["name"]), outcome_label(item["outcome"]), status_label(document), note])
    return rows


def error_text(error: Mapping[str, Any] | None) -> str:
    return str(error.get("detail", "")) if error else ""


def size_label(count: int) -> str:
    """Return a number of bytes for people."""
    if count < 1024:
        return f"{count} B"
    return f"{count / 1024:.1f} KB" if count < 1024 * 1024 else f"{count / 1024 / 1024:.1f} MB"


def sources_html(sources: Sequence[Mapping[str, Any]]) -> str:
    """Numbered sources that open on a click; everything of a document is escaped, so that it stays text."""
    if not sources:
        return ""
    items = "".join(
        f'<details class="zw-source"><summary><b>[{int(source["n"])}]</b> {escape(_place(source))}'
        f'<span class="zw-score">{float(source["score"]):.2f}</span></summary>'
        f"<div class='zw-text'>{escape(str(source['text']))}</div></details>"
        for source in sources
    )
    return f'<div class="zw-sources"><p class="zw-title">来源 / Sources</p>{items}</div>'


def _place(source: Mapping[str, Any]) -> str:
    page = f"第 {source['page']} 页 / p. {source['page']}" if source.get("page") is not None else ""
    return " · ".join(part for part in (str(source["source"]), page, str(source.get("heading") or "")) if part)
