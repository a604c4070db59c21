"""A small file of every format that can be made here, and what its text must and must not include."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

import docx
import openpyxl
import pptx
import pytest
from PIL import Image, ImageDraw, ImageFont

from zhiwen.common.errors import DocumentError
from zhiwen.common.models import Block
from zhiwen.ingest.parsing import ParserLimits, ParserPool

SENTENCE = "春眠不觉晓，处处闻啼鸟。"
NEEDS_TESSERACT = pytest.mark.skipif(shutil.which("tesseract") is None, reason="tesseract is not installed")


@dataclass(frozen=True, kw_only=True)
class Vector:
    """A file and what is expected of its blocks. `paths` are heading paths that some block must have."""

    name: str
    content: bytes
    must_include: list[str]
    must_not_include: list[str] = field(default_factory=list)
    paths: list[tuple[str, ...]] = field(default_factory=list)
    pages: set[int] = field(default_factory=set)
    headers: list[str] = field(default_factory=list)


def saved(save: Callable[[io.BytesIO], object]) -> bytes:
    buffer = io.BytesIO()
    save(buffer)
    return buffer.getvalue()


def word_file() -> bytes:
    document = docx.Document()
    document.add_heading("第一章 总则", 1)
    document.add_heading("第一节", 2)
    document.add_paragraph(SENTENCE)
    document.add_paragraph("list item", style="List Bullet")
    document.add_paragraph("numbered", style="List Number")
    document.add_paragraph("again", style="List Number")
    table = document.add_table(rows=3, cols=2)
    for cell, text in zip(
        (c for row in table.rows for c in row.cells), ["姓名", "部门", "张三", "销售", "李四", "研发"], strict=True
    ):
        cell.text = text
    return saved(document.save)


def slides() -> bytes:
    deck = pptx.Presentation()
    for title in ("年度计划", "Budget"):
        slide = deck.slides.add_slide(deck.slide_layouts[1])
        slide.shapes.title.text = title
        slide.placeholders[1].text = f"{title}的内容"
        slide.notes_slide.notes_text_frame.text = f"{title}备注"
    return saved(deck.save)


def workbook() -> bytes:
    book = openpyxl.Workbook()
    book.active.title = "员工"
    for row in (
        ["员工表", None],
        ["姓名", "年龄"],
        ["张三", 30],
        ["李四", 31.5],
        [None, None],
        ["部门", "人数"],
        ["研发", 7],
    ):
        book.active.append(row)
    book.create_sheet("空").append([])
    book.create_sheet("合计").append(["总数", 2])
    return saved(book.save)


BOOK = f"""# 上篇

## 春

{SENTENCE}[^1]接着 **bold** 也在。

| 甲 | 乙 |
|----|----|
| 丙 | 丁 |

- one
- two
    - three

[^1]: 脚注的文字。
"""


def by_pandoc(kind: str, source: str = BOOK) -> bytes:
    target = Path(f"/tmp/zhiwen-{os.getpid()}.{kind}")
    try:
        import_module("pypandoc").convert_text(
            source, kind, format="markdown", outputfile=str(target), extra_args=["--standalone"]
        )
        return target.read_bytes()
    finally:
        target.unlink(missing_ok=True)


def rtf(charset: int, code_page: int, text: str, encoding: str) -> bytes:
    """An RTF file as Word writes it: ASCII bytes as they are, others in hexadecimal."""
    encoded = "".join(
        chr(byte) if 0x20 < byte < 0x80 and chr(byte) not in "\\{}" else f"\\'{byte:02x}"
        for byte in text.encode(encoding)
    )
    fonts = rf"{{\fonttbl{{\f0\fnil\fcharset{charset} F;}}}}"
    return rf"{{\rtf1\ansi\ansicpg{code_page}\deff0{fonts}\f0 {encoded}\par}}".encode()


def picture(text: str, kind: str) -> bytes:
    image = Image.new("RGB", (1400, 240), "white")
    ImageDraw.Draw(image).text((40, 60), text, fill="black", font=ImageFont.load_default(72))
    return saved(lambda buffer: image.save(buffer, kind))


MARKDOWN = f"""---
title: 说明
---
# 安装
{SENTENCE}

## 步骤 `pip`
1. 第一步
2. 第二步

```python
# not a heading
print("x")
```

| 参数 | 含义 |
|---|---|
| a | 甲 |

#紧凑标题
尾声。
"""
HTML = f"""<!doctype html><html><head><meta charset="iso-8859-1"><title>页</title><style>p{{}}</style></head><body>
<h1>大标题</h1><p>{SENTENCE[:6]}
{SENTENCE[6:]}<br>第二行</p><script>alert(1)</script><p style="display:none">隐藏</p>
<h2>表</h2><table><tr><th>名</th><th>值</th></tr><tr><td>甲</td><td>1</td></tr></table>
<ul><li>one<ul><li>nested</li></ul></li></ul><pre>a  =  1
b</pre></body></html>"""
MAIL = f"""From: =?utf-8?b?5byg5LiJ?= <a@example.com>\r
To: b@example.com\r
Subject: =?gbk?B?u+HS6c2o1qo=?=\r
MIME-Version: 1.0\r
Content-Type: multipart/mixed; boundary=x\r
\r
--x\r
Content-Type: text/plain; charset=utf-8\r
Content-Transfer-Encoding: 8bit\r
\r
{SENTENCE}\r
--x\r
Content-Type: application/pdf\r
Content-Disposition: attachment; filename="broken.pdf"\r
\r
not a pdf\r
--x--\r
"""
RTF_GBK = (
    rb"{\rtf1\ansi\ansicpg936\deff0{\fonttbl{\f0\fnil\fcharset134 SimSun;}{\f1\fswiss\fcharset0 Arial;}}\f0 "
    + "".join(f"\\'{byte:02x}" for byte in SENTENCE.encode("gbk")).encode()
    + rb"\par\f1 caf\'e9\par}"
)
RST = f"""
====
书名
====

第一章
======

{SENTENCE}

.. note:: 注意这里。

.. code-block:: python

   x  =  1

.. list-table:: 表题
   :header-rows: 1

   * - 名
     - 值
   * - 乙
     - 2

.. csv-table::
   :file: a.csv

.. figure:: a.png

   图题文字

术语
   解释文字

.. math:: a^2 + b^2
"""
FEED = """<?xml version="1.0"?><rss><channel><title>博客</title><item><title>第一篇</title>
<description>&lt;p&gt;正文&lt;b&gt;粗体&lt;/b&gt;&lt;/p&gt;</description></item></channel></rss>"""
RECORDS = [
    {"姓名": "张三", "tags": ["a", "b"], "address": {"city": "杭州", "zip": 310000}},
    {"姓名": "李四", "x": None},
]

VECTORS = [
    Vector(
        name="a.txt",
        content=f"第一章 总则\n{SENTENCE}\n\n尾。".encode(),
        must_include=[SENTENCE],
        paths=[("第一章 总则",)],
    ),
    Vector(name="gbk.txt", content=(SENTENCE * 3).encode("gbk"), must_include=[SENTENCE]),
    Vector(name="gb18030.txt", content=f"{SENTENCE}㐀𠀀".encode("gb18030"), must_include=[SENTENCE, "㐀𠀀"]),
    Vector(
        name="big5.txt",
        content="春眠不覺曉，處處聞啼鳥。這是繁體中文的文字。".encode("big5"),
        must_include=["處處聞啼鳥"],
    ),
    Vector(name="utf16.txt", content=SENTENCE.encode("utf-16"), must_include=[SENTENCE], must_not_include=["\ufeff"]),
    Vector(name="utf16le.txt", content=f"{SENTENCE} 2024\n".encode("utf-16-le"), must_include=[SENTENCE]),
    Vector(name="utf16be.txt", content=f"{SENTENCE} 2024\n".encode("utf-16-be"), must_include=[SENTENCE]),
    Vector(name="utf32.txt", content=SENTENCE.encode("utf-32"), must_include=[SENTENCE]),
    Vector(name="utf32be.txt", content=f"{SENTENCE}\n".encode("utf-32-be"), must_include=[SENTENCE]),
    Vector(name="nfd.txt", content="Cafe\u0301 a\0b\x07".encode(), must_include=["Café ab"]),
    Vector(
        name="a.md",
        content=MARKDOWN.encode(),
        must_include=[SENTENCE, "1. 第一步", "# not a heading", "title: 说明"],
        paths=[("安装",), ("安装", "步骤 pip"), ("紧凑标题",)],
        headers=["| 参数 | 含义 |\n|---|---|"],
    ),
    Vector(
        name="a.html",
        content=HTML.encode(),
        must_include=[SENTENCE, "\n第二行", "- one\n  - nested", "a  =  1\nb"],
        must_not_include=["alert", "隐藏", "p{}"],
        paths=[("大标题", "表")],
        headers=["名 | 值"],
    ),
    Vector(
        name="gbk.html",
        content=f'<html><head><meta charset="utf-8"></head><body><p>{SENTENCE * 3}</p></body></html>'.encode("gbk"),
        must_include=[SENTENCE],
    ),
    Vector(
        name="a.csv", content="姓名,年龄\n张三,30\n".encode("gbk"), must_include=["张三 | 30"], headers=["姓名 | 年龄"]
    ),
    Vector(name="semicolon.csv", content=b"name;age\nx;1\ny;2,5\n", must_include=["y | 2,5"], headers=["name | age"]),
    Vector(name="a.tsv", content="名\t值\n甲\t1, 2\n".encode(), must_include=["甲 | 1, 2"], headers=["名 | 值"]),
    Vector(
        name="a.docx",
        content=word_file(),
        must_include=[SENTENCE, "- list item", "1. numbered", "2. again", "张三 | 销售"],
        paths=[("第一章 总则", "第一节")],
        headers=["姓名 | 部门"],
    ),
    Vector(
        name="a.pptx",
        content=slides(),
        must_include=["年度计划的内容", "Budget备注"],
        paths=[("年度计划",), ("Budget",)],
        pages={1, 2},
    ),
    Vector(
        name="a.xlsx",
        content=workbook(),
        must_include=["员工表", "张三 | 30\n李四 | 31.5", "总数 | 2"],
        paths=[("员工",), ("合计",)],
        pages={1, 3},
        headers=["姓名 | 年龄", "部门 | 人数"],
    ),
    *(
        Vector(
            name=f"a.{kind}",
            content=by_pandoc(kind),
            must_include=[f"{SENTENCE}接着 bold 也在。", "丙 | 丁", "- one\n- two\n  - three", "脚注的文字。"],
            must_not_include=["↩"],
            paths=[("上篇", "春")],
            headers=["甲 | 乙"],
        )
        for kind in ("odt", "epub", "rst", "org")
    ),
    Vector(
        name="a.rtf",
        content=by_pandoc("rtf"),
        must_include=[SENTENCE, "接着 bold 也在。", "one", "丙 | 丁"],
        paths=[("上篇", "春")],
        headers=["甲 | 乙"],
    ),
    Vector(name="gbk.rtf", content=RTF_GBK, must_include=[SENTENCE, "café"]),
    Vector(name="gb18030.rtf", content=rtf(134, 54936, f"{SENTENCE}㐀𠀀", "gb18030"), must_include=[f"{SENTENCE}㐀𠀀"]),
    Vector(
        name="big5.rtf",
        content=rtf(136, 950, "許功蓋說：處處聞啼鳥。", "big5"),
        must_include=["許功蓋說：處處聞啼鳥。"],
    ),
    Vector(
        name="note.rtf",
        content=rb"{\rtf1\ansi Text{\footnote Note \u-10179?\u-8704?}, 1990\u8212-1993.\par}",
        must_include=["Text, 1990—1993.", "Note 😀"],
        must_not_include=["↩"],
    ),
    Vector(
        name="full.rst",
        content=RST.encode("gbk"),
        must_include=[
            "注意这里。",
            "名 | 值\n乙 | 2",
            "表题",
            "图题文字",
            "解释文字",
            r"\[a^2 + b^2\]",
            "x  =  1",
            SENTENCE,
        ],
        must_not_include=["list-table", "a.csv"],
        paths=[("书名", "第一章")],
        headers=["名 | 值"],
    ),
    Vector(
        name="full.org",
        content=f"#+TITLE: 书名\n* 第一章\n{SENTENCE}\n#+BEGIN_SRC python\nx  =  1\n#+END_SRC\n".encode(),
        must_include=["书名", SENTENCE, "x  =  1"],
        must_not_include=["BEGIN_SRC"],
        paths=[("第一章",)],
    ),
    Vector(
        name="titled.epub",
        content=by_pandoc("epub", f"---\ntitle: 书名\n---\n\n{BOOK}"),
        must_include=["书名", SENTENCE],
        paths=[("上篇", "春")],
    ),
    Vector(
        name="a.eml",
        content=MAIL.encode(),
        must_include=[SENTENCE, "From: 张三", "Attachment: broken.pdf"],
        must_not_include=["not a pdf"],
        paths=[("会议通知",)],
    ),
    Vector(
        name="a.json",
        content=json.dumps({"员工": RECORDS, "n": 1.50}, ensure_ascii=False).encode(),
        must_include=["姓名: 张三\ntags: a, b\naddress.city: 杭州", "n: 1.5"],
        paths=[("员工",)],
    ),
    Vector(name="a.jsonl", content=b'{"a": 1}\n\n{"b": "x"}\nbroken\n', must_include=["a: 1", "b: x", "broken"]),
    Vector(name="a.xml", content=FEED.encode(), must_include=["title: 第一篇", "正文粗体"], must_not_include=["<p>"]),
    Vector(
        name="gbk.xml",
        content=f'<?xml version="1.0" encoding="GBK"?><a>{SENTENCE}</a>'.encode("gbk"),
        must_include=[SENTENCE],
    ),
]
PICTURES = [
    Vector(name="a.png", content=picture("Quarterly report 2024", "PNG"), must_include=["Quarterly report"]),
    Vector(name="a.jpg", content=picture("Quarterly report 2024", "JPEG"), must_include=["Quarterly report"]),
    Vector(name="a.tiff", content=picture("Quarterly report 2024", "TIFF"), must_include=["Quarterly report"]),
    Vector(
        name="scan.pdf", content=picture("Quarterly report 2024", "PDF"), must_include=["Quarterly report"], pages={1}
    ),
]


@pytest.fixture(scope="module")
def pool() -> Iterator[ParserPool]:
    pool = ParserPool(1, ParserLimits(wall_seconds=60))
    yield pool
    pool.close()


def parsed(pool: ParserPool, folder: Path, name: str, content: bytes) -> list[Block]:
    path = folder / "original"
    path.write_bytes(content)
    return pool.parse(path, name)


def check(vector: Vector, blocks: list[Block]) -> None:
    text = "\n".join(block.text for block in blocks)
    assert [part for part in vector.must_include if part not in text] == [], text
    assert [part for part in vector.must_not_include if part in text] == []
    assert {path for path in vector.paths if path not in {block.heading for block in blocks}} == set()
    assert vector.pages <= {block.page for block in blocks}
    tables = [block for block in blocks if block.kind == "table"]
    assert [header for header in vector.headers if header not in {table.header for table in tables}] == []
    assert all(table.header is None or table.text.startswith(table.header) for table in tables)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
def test_format(vector: Vector, pool: ParserPool, tmp_path: Path) -> None:
    check(vector, parsed(pool, tmp_path, vector.name, vector.content))


@NEEDS_TESSERACT
@pytest.mark.parametrize("vector", PICTURES, ids=lambda vector: vector.name)
def test_text_in_pictures(vector: Vector, pool: ParserPool, tmp_path: Path) -> None:
    check(vector, parsed(pool, tmp_path, vector.name, vector.content))


@pytest.mark.parametrize(
    "vector", [v for v in VECTORS if v.name in {"a.docx", "a.html", "a.epub"}], ids=lambda v: v.name
)
def test_content_wins_over_a_wrong_extension(vector: Vector, pool: ParserPool, tmp_path: Path) -> None:
    wrong = {"a.docx": "a.xls", "a.html": "a.doc", "a.epub": "a.zip"}[vector.name]
    check(vector, parsed(pool, tmp_path, wrong, vector.content))


def test_scan_without_tesseract_names_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    pool = ParserPool(1)
    try:
        with pytest.raises(DocumentError, match="tesseract-ocr-chi-sim") as caught:
            parsed(pool, tmp_path, "a.png", picture("x", "PNG"))
        assert caught.value.code == "no-text"
    finally:
        pool.close()
