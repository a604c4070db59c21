"""The page itself. Only this module uses gradio.

Set `GRADIO_TEMP_DIR` before you import this module: gradio reads it while it is imported.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr
from fastapi import FastAPI

from zhiwen.client import ApiError
from zhiwen.webui.actions import Actions, Turn, choices
from zhiwen.webui.answers import marked_answer, passages_html, refused_html
from zhiwen.webui.views import DOCUMENT_HEADERS, UPLOAD_HEADERS, Row, document_rows

T = TypeVar("T")

TITLE = "知问 Zhiwen"
SYSTEM_FONTS = ["system-ui", "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", "WenQuanYi Micro Hei", "sans-serif"]
MONO_FONTS = ["ui-monospace", "Consolas", "monospace"]
CSS = """
.zw-sources { margin: 4px 0; }
.zw-title { font-weight: 600; margin: 4px 0; display: flex; flex-wrap: wrap; justify-content: space-between;
  gap: 0 12px; }
.zw-source { border: 1px solid var(--border-color-primary); border-radius: 8px; margin: 4px 0; padding: 6px 10px; }
.zw-source summary { cursor: pointer; }
.zw-score { float: right; margin-left: 12px; opacity: .6; }
.zw-confidence { opacity: .6; font-weight: 400; font-size: .85em; }
.zw-text mark { background: rgba(255, 200, 0, .35); color: inherit; }
.zw-refused { border-left: 4px solid var(--color-accent); padding: 4px 10px; opacity: .85; font-weight: 600; }
.zw-unsupported { color: var(--error-text-color, #b91c1c); margin: 4px 0; }
.zw-text { white-space: pre-wrap; margin-top: 6px; padding-top: 6px; font-size: .92em;
  border-top: 1px solid var(--border-color-primary); overflow-wrap: anywhere; }
.zw-table td, .zw-table td *, .zw-table th { font-family: var(--font) !important; }
footer { display: none !important; }
"""
SIGN_IN = "密码是 API 密钥,用户名任意 / The password is the API key; any user name will do."
CONFIRM_DELETE = """(kb, ids) => [kb, ids?.length && confirm(
  `删除选中的 ${ids.length} 个文档? 删除后无法恢复。\\n` +
  `Delete the chosen documents (${ids.length})? They cannot be brought back.`
) ? ids : []]"""
PRIVATE: dict[str, Any] = {"api_visibility": "private"}


def mount(app: FastAPI, actions: Actions, *, key: str) -> FastAPI:
    """Serve the page at /. With a `key`, visitors sign in: the key is the password, and any name will do."""

    def known(_name: str, password: str) -> bool:
        return hmac.compare_digest(password.encode(), key.encode())

    mounted: FastAPI = gr.mount_gradio_app(
        app,
        build(actions),
        path="/",
        auth=known if key else None,
        auth_message=SIGN_IN if key else None,
        show_error=False,
        ssr_mode=False,
        footer_links=[],
        run_history=False,
        theme=gr.themes.Default(font=SYSTEM_FONTS, font_mono=MONO_FONTS),
        css=CSS,
    )
    return mounted


def build(actions: Actions) -> gr.Blocks:
    """Lay out the page and connect it with `actions`."""
    blocks: gr.Blocks = gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(600, 600), fill_height=True)
    with blocks:
        gr.Markdown(f"# {TITLE}\n用您自己的文档回答问题 / Answers questions from your own documents")
        with gr.Row(equal_height=True):
            kb = gr.Dropdown(label="知识库 / Knowledge base", choices=[], scale=3)
            new = gr.Textbox(label="新知识库的名称 / Name of a new one", max_lines=1, scale=2)
            create = gr.Button("创建 / Create", scale=1, min_width=120)
            reload = gr.Button("刷新 / Refresh", scale=1, min_width=120)
        with gr.Tab("问答 / Ask"):
            _chat(actions, kb)
        with gr.Tab("文档 / Documents"):
            documents = _Documents.lay_out()
        _connect_bases(actions, blocks, kb, new, create, reload)
        documents.connect(actions, kb, reload)
    blocks.queue(default_concurrency_limit=8, api_open=False)
    return blocks


def _connect_bases(
    actions: Actions, blocks: gr.Blocks, kb: gr.Dropdown, new: gr.Textbox, create: gr.Button, reload: gr.Button
) -> None:
    """Connect the row at the top of the page, `blocks`, with `actions`.

    `kb` chooses the knowledge base, `new` holds the name of a new one, and `create` and `reload` are buttons.
    """

    def offered(chosen: str | None) -> Any:
        names = _told(actions.base_names)
        return gr.Dropdown(choices=names, value=chosen if chosen in names else (names[0] if names else None))

    def created(name: str) -> tuple[Any, str]:
        made = _told(lambda: actions.create_base(name))
        gr.Info(f"已创建 / Created: {made}")
        return offered(made), ""

    blocks.load(offered, kb, kb, **PRIVATE)
    reload.click(offered, kb, kb, **PRIVATE)
    gr.on([create.click, new.submit], created, new, [kb, new], **PRIVATE)


# Questions


def _chat(actions: Actions, kb: gr.Dropdown) -> None:
    turns = gr.State([])
    chat = gr.Chatbot(
        label="对话 / Chat",
        height=520,
        buttons=["copy"],
        placeholder="先选择知识库,再提问 / Choose a knowledge base, then ask",
        feedback_options=None,
    )
    with gr.Row():
        box = gr.Textbox(
            show_label=False,
            placeholder="请输入问题,按回车发送 / Type a question and press Enter",
            max_lines=4,
            scale=6,
            elem_id="question",
        )
        send = gr.Button("提问 / Ask", variant="primary", scale=1, min_width=120, elem_id="ask")
        clear = gr.Button("清空 / Clear", scale=1, min_width=120)

    def asked(base: str | None, question: str, past: list[Turn]) -> Iterator[tuple[list[Any], list[Turn], Any]]:
        if not question.strip():
            yield messages(past), past, gr.skip()
            return
        for turn in actions.ask(_chosen(base), question.strip(), past):
            now = [*past, turn]
            yield messages(now), now, ""

    def cleared() -> tuple[list[Any], list[Turn]]:
        return [], []

    running = gr.on([send.click, box.submit], asked, [kb, box, turns], [chat, turns, box], **PRIVATE)
    gr.on([clear.click, chat.clear], cleared, None, [chat, turns], cancels=[running], **PRIVATE)
    kb.change(cleared, None, [chat, turns], cancels=[running], **PRIVATE)


def messages(turns: Sequence[Turn]) -> list[Any]:
    """Return the messages of the chat: questions, answers, and passages that open on a click."""
    shown: list[Any] = []
    for turn in turns:
        shown.append(gr.ChatMessage(role="user", content=turn.question))
        if turn.outcome == "refused":
            shown.append(gr.ChatMessage(role="assistant", content=gr.HTML(refused_html(turn.answer))))
        elif turn.answer:
            shown.append(gr.ChatMessage(role="assistant", content=marked_answer(turn.answer, turn.citations)))
        if turn.error:
            shown.append(gr.ChatMessage(role="assistant", content=f"⚠ {turn.error}"))
        if turn.passages:
            passages = passages_html(turn.passages, turn.outcome, turn.confidence, turn.citations)
            shown.append(gr.ChatMessage(role="assistant", content=gr.HTML(passages)))
    return shown


# Documents


class _Documents:
    """The documents tab: the upload with its status table, and the list with a delete button."""

    def __init__(
        self, files: gr.File, progress: gr.Dataframe, listed: gr.Dataframe, chosen: gr.Dropdown, delete: gr.Button
    ) -> None:
        self.files = files
        self.progress = progress
        self.listed = listed
        self.chosen = chosen
        self.delete = delete

    @classmethod
    def lay_out(cls) -> _Documents:
        files = gr.File(
            label="拖放文件到这里,或点击选择 / Drop files here, or click to choose",
            file_count="multiple",
            height=140,
            elem_id="files",
        )
        progress = _table("上传 / Upload", UPLOAD_HEADERS, ["30%", "14%", "20%", "36%"])
        listed = _table(
            "知识库中的文档 / Documents in the knowledge base", DOCUMENT_HEADERS, ["30%", "20%", "10%", "10%", "30%"]
        )
        with gr.Row(equal_height=True):
            chosen = gr.Dropdown(label="选择要删除的文档 / Documents to delete", multiselect=True, choices=[], scale=5)
            delete = gr.Button("删除 / Delete", variant="stop", scale=1, min_width=120, elem_id="delete")
        return cls(files, progress, listed, chosen, delete)

    def connect(self, actions: Actions, kb: gr.Dropdown, reload: gr.Button) -> None:
        def refreshed(base: str | None) -> tuple[list[Row], Any]:
            documents = _told(lambda: actions.documents(base))
            return document_rows(documents), gr.Dropdown(choices=choices(documents), value=[])

        def uploaded(base: str | None, paths: list[str] | None) -> Iterator[tuple[list[Row], Any]]:
            chosen = _chosen(base)
            try:
                for rows in actions.upload(chosen, [Path(path) for path in paths or []]):
                    yield rows, None
            except ApiError as exc:
                raise gr.Error(exc.detail) from exc

        def deleted(base: str | None, ids: list[str]) -> tuple[Any, Any]:
            if not ids:  # no document is chosen, or the visitor did not confirm
                return gr.skip(), gr.skip()
            _told(lambda: actions.delete(_chosen(base), ids))
            return refreshed(base)

        listing = [self.listed, self.chosen]
        sent = self.files.upload(uploaded, [kb, self.files], [self.progress, self.files], **PRIVATE)
        sent.then(refreshed, kb, listing, **PRIVATE)
        self.delete.click(deleted, [kb, self.chosen], listing, js=CONFIRM_DELETE, **PRIVATE)
        kb.change(refreshed, kb, listing, **PRIVATE)
        reload.click(refreshed, kb, listing, **PRIVATE)


def _table(label: str, headers: list[str], widths: list[str | int]) -> gr.Dataframe:
    return gr.Dataframe(
        label=label,
        headers=headers,
        column_widths=widths,
        datatype="str",
        type="array",
        interactive=False,
        wrap=True,
        max_height=360,
        elem_classes="zw-table",
    )


def _chosen(base: str | None) -> str:
    if not base:
        raise gr.Error("请先选择或创建知识库。 / Choose or create a knowledge base first.")
    return base


def _told(action: Callable[[], T]) -> T:
    """Run `action` and return its result. An error of the API becomes a message on the page."""
    try:
        return action()
    except ApiError as exc:
        raise gr.Error(exc.detail) from exc
