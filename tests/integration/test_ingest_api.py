"""Every route of the ingest API, its success and its errors, with real stores and both ledgers."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import zipfile
from typing import Any
from urllib.parse import quote

import pytest

from tests.servers.in_process_stack import InProcessStack, events_of, problem_of, texts
from tests.servers.ledgers import unique
from tests.servers.stores import wait_until
from zhiwen.common.ledger import Retry

UNKNOWN = "0" * 32


@pytest.fixture
def zw(stack_on_each_ledger: InProcessStack) -> InProcessStack:
    return stack_on_each_ledger


@pytest.fixture
def kb(zw: InProcessStack) -> str:
    return zw.base()


@pytest.fixture(scope="session")
def empty_kb(stack_on_each_ledger: InProcessStack) -> str:
    """A knowledge base that tests leave empty."""
    return stack_on_each_ledger.base()


def path(kb: str, rest: str = "") -> str:
    return f"/v1/knowledge-bases/{quote(kb, safe='')}{rest}"


def zip_of(members: dict[str, bytes | str], *, gbk: bool = False) -> bytes:
    """Return a zip; with `gbk` its names are as Windows in China writes them, without the flag of UTF-8."""
    data = io.BytesIO()
    sent = {
        name: "N" * (len(name.encode("gb18030")) - 1) + chr(65 + n) if gbk else name for n, name in enumerate(members)
    }
    with zipfile.ZipFile(data, "w") as archive:
        for name, content in members.items():
            archive.writestr(sent[name], content)
    packed = data.getvalue()
    for name in members if gbk else ():
        packed = packed.replace(sent[name].encode(), name.encode("gb18030"))
    return packed


# Knowledge bases


def test_base_is_created_shown_and_listed(zw: InProcessStack) -> None:
    name = unique("产品 手册（2026）\u3000全角 🎉")
    body = {
        "name": name,
        "description": "说明\n第二行",
        "index": {"type": "IVF_FLAT", "metric": "IP", "params": {"nlist": 64}, "search": {"nprobe": 8}},
        "chunking": {"size": 100, "overlap": 10},
        "prompt_template": "资料 {context} 问题 {question} {其他}",
    }
    created = zw.ingest.post("/v1/knowledge-bases", json=body)
    assert created.status_code == 201
    shown = created.json()
    assert {key: shown[key] for key in body} == body
    assert (shown["documents"], shown["chunks"], shown["dimension"]) == ({}, 0, 384)
    assert shown["created_at"].endswith("Z")
    assert zw.ingest.get(path(name)).json() == shown
    assert name in listed_bases(zw)


def listed_bases(zw: InProcessStack) -> list[str]:
    names: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = zw.ingest.get(
            "/v1/knowledge-bases", params={"limit": 3, **({"cursor": cursor} if cursor else {})}
        ).json()
        names += [item["name"] for item in page["items"]]
        assert len(page["items"]) <= 3
        cursor = page["next_cursor"]
    assert len(names) == len(set(names))
    return names


def test_index_that_names_no_metric_keeps_the_present_one(zw: InProcessStack) -> None:
    index = {"type": "AUTOINDEX", "metric": "COSINE"}
    kb = zw.base(index=index)
    changed = zw.ingest.patch(path(kb), json={"index": {"type": "AUTOINDEX"}}).json()
    assert (changed["index"]["metric"], changed["rebuild"]) == ("COSINE", None)
    assert zw.ingest.get(path(zw.base(index={"type": "AUTOINDEX"}))).json()["index"]["metric"] == "IP"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"name": ""}, "invalid-request"),
        ({"name": "a/b"}, "invalid-request"),
        ({"name": " a"}, "invalid-request"),
        ({"name": "a\nb"}, "invalid-request"),
        ({"name": "长" * 65}, "invalid-request"),
        ({"name": ".."}, "invalid-request"),
        ({"name": 7}, "invalid-request"),
        ({"nmae": "typo"}, "invalid-request"),
        ({"description": "a\0b"}, "invalid-request"),
        ({"description": "half \ud800"}, "invalid-request"),
        ({"half \ud800": 1}, "invalid-request"),
        ({"prompt_template": "no placeholders"}, "bad-template"),
        ({"prompt_template": "{context} {question}\0"}, "invalid-request"),
        ({"embedding_model": "a\0b"}, "invalid-request"),
        ({"index": {"type": "HNSW"}}, "index-not-available"),
        ({"index": {"type": "MAGIC"}}, "unknown-index-type"),
        ({"index": {"metric": "HAMMING"}}, "unknown-metric"),
        ({"index": {"type": "IVF_FLAT", "params": {"nlist": 0}}}, "bad-index-parameter"),
        ({"index": {"type": "FLAT", "params": {"nlist": 5}}}, "bad-index-parameter"),
        ({"index": {"type": "IVF_FLAT", "params": {"nlist": 10**30}}}, "bad-index-parameter"),
        ({"chunking": {"size": 9999, "overlap": 0}}, "invalid-request"),
        ({"embedding_model": "all-MiniLM-L6-v2", "chunking": {"size": 300, "overlap": 0}}, "bad-chunking"),
        ({"chunking": {"size": 100, "overlap": 60}}, "bad-chunking"),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_bad_base_is_refused_and_leaves_nothing(zw: InProcessStack, change: dict[str, Any], code: str) -> None:
    name = unique("bad")
    body = json.dumps({"name": name, **change})
    headers = {"Content-Type": "application/json"}
    problem_of(zw.ingest.post("/v1/knowledge-bases", content=body, headers=headers), 422, code)
    problem_of(zw.ingest.get(path(name)), 404, "knowledge-base-not-found")


def test_second_base_of_a_name_is_a_conflict_and_leaves_no_collection(zw: InProcessStack, empty_kb: str) -> None:
    before = len(zw.store.collections())
    problem_of(zw.ingest.post("/v1/knowledge-bases", json={"name": empty_kb}), 409, "knowledge-base-exists")
    assert len(zw.store.collections()) == before


@pytest.mark.parametrize("body", [b"{", b"", b"[]", b'"text"', b"\xff\xfe", b"[" * 50_000, b'{"name": NaN}'], ids=repr)
def test_broken_json_is_a_problem(zw: InProcessStack, body: bytes) -> None:
    response = zw.ingest.post("/v1/knowledge-bases", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code in {400, 422}
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["code"] in {"invalid-json", "invalid-request", "bad-request"}


def test_only_uploads_may_be_large(zw: InProcessStack, kb: str) -> None:
    large = b"\0" * (2 * 2**20)
    for client, address in ((zw.ingest, "/v1/knowledge-bases"), (zw.query, path(kb, "/search"))):
        problem_of(client.post(address, content=large), 413, "request-too-large")
    assert zw.upload(kb, {"a.bin": large})[0]["error"]["code"] == "unsupported-type"
    put = zw.ingest.put(path(kb, "/documents/by-name/a.bin"), content=large)
    assert put.json()["error"]["code"] == "unsupported-type"


def test_description_and_template_can_be_changed_and_unset(zw: InProcessStack, kb: str) -> None:
    changed = zw.ingest.patch(path(kb), json={"description": "新", "prompt_template": "{context}{question}"}).json()
    assert (changed["description"], changed["prompt_template"]) == ("新", "{context}{question}")
    reset = zw.ingest.patch(path(kb), json={"prompt_template": None}).json()
    assert (reset["description"], reset["prompt_template"]) == ("新", None)
    problem_of(zw.ingest.patch(path(kb), json={"prompt_template": "x"}), 422, "bad-template")
    problem_of(zw.ingest.patch(path(kb), json={"name": "other"}), 422, "invalid-request")
    assert zw.ingest.get(path(kb)).json()["prompt_template"] is None


def test_deleted_base_is_gone_at_once_with_all_it_held(zw: InProcessStack, kb: str) -> None:
    document = zw.add(kb, "年假.txt", "员工年假为十天。" + kb)
    collection = zw.ledger.bases.get(kb).live.collection
    assert zw.ingest.delete(path(kb)).status_code == 202
    problem_of(zw.ingest.get(path(kb)), 404, "knowledge-base-not-found")
    problem_of(zw.query.post(path(kb, "/search"), json={"query": "年假"}), 404, "knowledge-base-not-found")
    problem_of(zw.ingest.delete(path(kb)), 404, "knowledge-base-not-found")
    wait_until(lambda: collection not in zw.store.collections(), 30, "the collection is still there")
    wait_until(lambda: not zw.originals.exists(document["sha256"]), 30, "the original is still there")
    again = zw.ingest.post("/v1/knowledge-bases", json={"name": kb})
    assert again.status_code == 201
    assert again.json()["documents"] == {}


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
@pytest.mark.parametrize(
    "address", ["/v1/nothing", "/v1/knowledge-bases/a%00b", "/v1/knowledge-bases/a/documents/b%00"]
)
def test_addresses_that_are_none_are_problems(zw: InProcessStack, method: str, address: str) -> None:
    response = zw.ingest.request(method, address)
    assert response.status_code in {404, 405, 422}
    assert response.headers["content-type"] == "application/problem+json"


def test_wrong_method_is_a_problem_that_names_the_right_ones(zw: InProcessStack) -> None:
    response = zw.ingest.put("/v1/knowledge-bases")
    problem_of(response, 405, "method-not-allowed")
    assert "POST" in response.headers["allow"] or "GET" in response.headers["allow"]


# Upload


def test_upload_ends_ready_with_its_chunks(zw: InProcessStack, kb: str) -> None:
    content = "# 请假制度\n\n## 年假\n\n员工年假为十天。\n\n## 病假\n\n病假需要医生证明。\n"
    item = zw.upload(kb, {"制度/请假.md": content}, metadata='{"部门": "人事", "年": 2026}')[0]
    assert (item["name"], item["outcome"], item["version"], item["error"]) == ("制度/请假.md", "created", 1, None)
    document = zw.settled(kb, item["id"])
    assert (document["status"], document["error"], document["attempts"]) == ("ready", None, 1)
    assert document["metadata"] == {"部门": "人事", "年": 2026}
    assert document["media_type"] == "text/markdown"
    assert document["bytes"] == len(content.encode())
    assert document["sha256"] == hashlib.sha256(content.encode()).hexdigest()
    chunks = zw.ingest.get(path(kb, f"/documents/{item['id']}/chunks")).json()["items"]
    assert len(chunks) == document["chunks"] == document["progress"]["total"]
    assert "员工年假为十天。" in "".join(texts(chunks))
    assert any("年假" in chunk["heading"] for chunk in chunks)
    shown = zw.ingest.get(path(kb)).json()
    assert (shown["documents"], shown["chunks"]) == ({"ready": 1}, document["chunks"])


def test_one_bad_file_never_fails_the_others(zw: InProcessStack, kb: str) -> None:
    files: dict[str, bytes | str] = {
        "好.txt": "好的内容。",
        "空.txt": b"",
        "程序.exe": b"MZ\x90\x00" + bytes(range(256)),
        "坏.zip": b"PK\x03\x04 this is no archive",
        "也好.txt": "也好的内容。",
    }
    items = {item["name"]: item for item in zw.upload(kb, files)}
    assert [items[name]["outcome"] for name in files] == ["created", "rejected", "rejected", "rejected", "created"]
    assert items["空.txt"]["error"]["code"] == "empty-file"
    assert items["程序.exe"]["error"]["code"] == "unsupported-type"
    assert items["坏.zip"]["error"]["code"] == "corrupt"
    assert items["空.txt"]["id"] is None
    assert {d["name"] for d in documents(zw, kb)} == {"好.txt", "也好.txt"}


def documents(zw: InProcessStack, kb: str, **params: Any) -> list[dict[str, Any]]:
    response = zw.ingest.get(path(kb, "/documents"), params=params)
    assert response.status_code == 200, response.text
    items: list[dict[str, Any]] = response.json()["items"]
    return items


def test_document_without_text_fails_and_says_so(zw: InProcessStack, kb: str) -> None:
    item = zw.upload(kb, {"空白.html": "<html><body><p> </p></body></html>"})[0]
    document = zw.settled(kb, item["id"])
    assert (document["status"], document["error"]["code"], document["chunks"]) == ("failed", "no-text", 0)
    assert document["error"]["detail"].endswith(".")
    assert zw.ingest.get(path(kb, f"/documents/{item['id']}/chunks")).json()["items"] == []
    retried = zw.ingest.post(path(kb, f"/documents/{item['id']}/retry"))
    assert (retried.status_code, retried.json()["status"], retried.json()["error"]) == (202, "queued", None)
    assert zw.settled(kb, item["id"])["status"] == "failed"


def test_line_without_a_space_is_indexed_and_found(zw: InProcessStack, kb: str) -> None:
    document = zw.add(kb, "长行.txt", "编号" + "A1b2C3d4" * 30_000 + "。年假十天。")
    assert document["chunks"] > 1
    assert any("年假十天" in hit["text"] for hit in zw.search(kb, "年假十天", top_k=100))


def test_names_arrive_in_every_encoding_that_clients_use(zw: InProcessStack, kb: str) -> None:
    names = {
        b'filename="\xe5\xb9\xb4\xe5\x81\x87\xe3\x80\x80a.txt"': "年假\u3000a.txt",
        'filename="年假b.txt"'.encode("gb18030"): "年假b.txt",
        b"filename*=UTF-8''%E5%B9%B4%E5%81%87c.txt": "年假c.txt",
        b"filename=\"x.txt\"; filename*=UTF-8''%E5%B9%B4%E5%81%87d.txt": "年假d.txt",
        'filename="C:\\\\资料\\\\年假e.txt"'.encode(): "C:/资料/年假e.txt",
        'filename="家庭👨‍👩‍👧.txt"'.encode(): "家庭👨‍👩‍👧.txt",
    }
    body = b""
    for number, disposition in enumerate(names):
        body += b'--X\r\nContent-Disposition: form-data; name="file"; ' + disposition
        body += f"\r\nContent-Type: text/plain\r\n\r\ncontent {number}\r\n".encode()
    response = zw.ingest.post(
        path(kb, "/documents"), content=body + b"--X--\r\n", headers={"Content-Type": "multipart/form-data; boundary=X"}
    )
    assert [item["name"] for item in response.json()["items"]] == list(names.values())
    assert {item["outcome"] for item in response.json()["items"]} == {"created"}


@pytest.mark.parametrize("name", ["", "   ", "/", "a\x07b.txt", "长" * 400 + ".txt"], ids=lambda n: ascii(n)[:12])
def test_names_that_are_none_are_rejected(zw: InProcessStack, empty_kb: str, name: str) -> None:
    body = f'--X\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\nx\r\n--X--\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=X"}
    response = zw.ingest.post(path(empty_kb, "/documents"), content=body.encode(), headers=headers)
    assert response.status_code == 202, response.text
    assert response.json()["items"][0]["error"]["code"] == "bad-name"


def test_longest_name_of_different_characters_is_kept(zw: InProcessStack, kb: str) -> None:
    name = "".join(chr(0x4E00 + 13 * n) for n in range(340)) + ".md"
    assert zw.add(kb, name, "内容。")["name"] == name


@pytest.mark.parametrize("gbk", [False, True], ids=["utf-8", "gbk"])
def test_zip_is_unpacked_with_chinese_names(zw: InProcessStack, kb: str, gbk: bool) -> None:
    packed = zip_of({"制度/年假.txt": "年假十天。", "制度/病假.md": "# 病假\n需要证明。"}, gbk=gbk)
    items = zw.upload(kb, {"资料.zip": packed})
    assert {item["name"]: item["outcome"] for item in items} == {"制度/年假.txt": "created", "制度/病假.md": "created"}


def test_bad_members_of_a_zip_are_named_and_the_others_stand(zw: InProcessStack, kb: str) -> None:
    inner = zip_of({"a.txt": "a"})
    packed = zip_of({"一.txt": "一。", "../外.txt": "x", "空.txt": "", "内.zip": inner, "二.txt": "二。"})
    items = {item["name"]: item for item in zw.upload(kb, {"资料.zip": packed})}
    codes = {name: (item["error"] or {}).get("code") for name, item in items.items()}
    assert codes == {
        "一.txt": None,
        "../外.txt": "archive-unsafe-path",
        "空.txt": "empty-file",
        "内.zip": "nested-archive",
        "二.txt": None,
    }


def test_zip_by_name_is_refused_and_leaves_nothing(zw: InProcessStack, empty_kb: str) -> None:
    packed = zip_of({"a.txt": "a。", "b.txt": "b。"})
    problem_of(zw.ingest.put(path(empty_kb, "/documents/by-name/x.zip"), content=packed), 422, "archive-by-name")
    assert documents(zw, empty_kb) == []


def test_put_creates_replaces_and_leaves_unchanged(zw: InProcessStack, kb: str) -> None:
    address = path(kb, "/documents/by-name/" + quote("制度/年假 1.txt"))
    first = zw.ingest.put(address, content="年假五天。".encode(), params={"metadata": '{"年": 1}'})
    assert (first.status_code, first.json()["outcome"], first.json()["name"]) == (202, "created", "制度/年假 1.txt")
    zw.settled(kb, first.json()["id"])
    same = zw.ingest.put(address, content="年假五天。".encode()).json()
    assert (same["outcome"], same["version"], same["status"]) == ("unchanged", 1, "ready")
    other = zw.ingest.put(address, content="年假十天。".encode()).json()
    assert (other["outcome"], other["version"], other["id"]) == ("replaced", 2, first.json()["id"])
    document = zw.settled(kb, first.json()["id"])
    assert (document["live_version"], document["metadata"]) == (2, {"年": 1})
    assert texts(zw.search(kb, "年假", top_k=10)) == ["年假十天。"]


@pytest.mark.parametrize("choice", ["skip", "error"])
def test_duplicate_bytes_name_the_document_that_holds_them(zw: InProcessStack, kb: str, choice: str) -> None:
    first = zw.upload(kb, {"甲.txt": "同样的内容。"})[0]
    second = zw.upload(kb, {"乙.txt": "同样的内容。"}, on_duplicate=choice)[0]
    if choice == "skip":
        assert (second["outcome"], second["duplicate_of"], second["id"]) == ("duplicate", "甲.txt", first["id"])
    else:
        assert second["outcome"] == "rejected"
        assert second["error"]["code"] == "duplicate-content"
        assert "甲.txt" in second["error"]["detail"]
    assert [d["name"] for d in documents(zw, kb)] == ["甲.txt"]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"metadata": "{"}, "invalid-json"),
        ({"metadata": '{"a": NaN}'}, "invalid-json"),
        ({"metadata": '{"a": "\\ud800"}'}, "invalid-json"),
        ({"metadata": "[" * 100_000}, "invalid-json"),
        ({"metadata": "[1]"}, "bad-metadata"),
        ({"metadata": '{"a":' * 200 + "1" + "}" * 200}, "bad-metadata"),
        ({"metadata": json.dumps({"a": "长" * 30_000})}, "bad-metadata"),
        ({"on_duplicate": "maybe"}, "bad-on-duplicate"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_bad_fields_are_refused_and_leave_nothing(
    zw: InProcessStack, empty_kb: str, fields: dict[str, str], code: str
) -> None:
    response = zw.ingest.post(path(empty_kb, "/documents"), files={"file": ("a.txt", "内容")}, data=fields)
    problem_of(response, 422, code)
    assert documents(zw, empty_kb) == []


def test_metadata_of_every_kind_comes_back_and_is_searched(zw: InProcessStack, kb: str) -> None:
    metadata = {
        '引"号': 'it\'s \\ "x"',
        "零": "a\u0000b",
        "数": 1.5,
        "大": 2**53,
        "真": True,
        "空": None,
        "列": [1, ["二"]],
    }
    document = zw.add(kb, "a.txt", "内容在此。", metadata=json.dumps(metadata))
    assert document["metadata"] == metadata
    assert zw.search(kb, "内容", filter={'metadata.引"号': {"eq": 'it\'s \\ "x"'}})[0]["metadata"] == metadata


@pytest.mark.parametrize(
    ("content_type", "body", "code"),
    [
        ("application/json", b"{}", "bad-multipart"),
        ("multipart/form-data", b"--X--", "bad-multipart"),
        ("multipart/form-data; boundary=X", b"", "bad-multipart"),
        ("multipart/form-data; boundary=X", b"garbage", "bad-multipart"),
        (
            "multipart/form-data; boundary=X",
            b"--X\r\nContent-Disposition: form-data; name=file; filename=a\r\n\r\nhalf",
            "bad-multipart",
        ),
        ("multipart/form-data; boundary=X", b"--X\r\n" + b"A" * 10_000 + b": b\r\n\r\nx\r\n--X--\r\n", "bad-multipart"),
        ("multipart/form-data; boundary=X", b"--X--\r\n", "no-file"),
        (
            "multipart/form-data; boundary=X",
            b"--X\r\nContent-Disposition: form-data; name=a\r\n\r\nx\r\n--X--\r\n",
            "no-file",
        ),
        ("", b"x", "bad-multipart"),
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_broken_multipart_is_a_problem(
    zw: InProcessStack, empty_kb: str, content_type: str, body: bytes, code: str
) -> None:
    response = zw.ingest.post(path(empty_kb, "/documents"), content=body, headers={"Content-Type": content_type})
    problem_of(response, 422, code)
    assert list((zw.data_dir / "incoming").iterdir()) == []


@pytest.mark.parametrize("rest", ["", "/documents", f"/documents/{UNKNOWN}", f"/documents/{UNKNOWN}/content"])
def test_unknown_base_is_not_found_everywhere(zw: InProcessStack, rest: str) -> None:
    problem_of(zw.ingest.get(path("没有这个库", rest)), 404, "knowledge-base-not-found")


def test_upload_to_an_unknown_base_is_not_found(zw: InProcessStack) -> None:
    response = zw.ingest.post(path("没有", "/documents"), files={"file": ("a.txt", "内容")})
    problem_of(response, 404, "knowledge-base-not-found")


@pytest.mark.parametrize(
    ("method", "rest"),
    [
        ("GET", ""),
        ("GET", "/events"),
        ("GET", "/content"),
        ("GET", "/chunks"),
        ("POST", "/retry"),
        ("POST", "/cancel"),
        ("DELETE", ""),
    ],
)
def test_unknown_document_is_not_found_everywhere(zw: InProcessStack, empty_kb: str, method: str, rest: str) -> None:
    problem_of(zw.ingest.request(method, path(empty_kb, f"/documents/{UNKNOWN}{rest}")), 404, "document-not-found")


# Lists


def test_pages_hold_each_document_once(zw: InProcessStack, kb: str) -> None:
    names = [f"文件{number:02}.txt" for number in range(23)]
    zw.upload(kb, {name: f"内容 {name}" for name in names})
    seen: list[str] = []
    cursor: str | None = ""
    for _ in range(5):
        params: dict[str, Any] = {"limit": 5, **({"cursor": cursor} if cursor else {})}
        page = zw.ingest.get(path(kb, "/documents"), params=params).json()
        seen += [item["name"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert (sorted(seen), cursor) == (names, None)


def test_list_by_status_and_name(zw: InProcessStack, kb: str) -> None:
    zw.add(kb, "手册/甲.txt", "甲。")
    zw.settled(kb, zw.upload(kb, {"手册/空.html": "<p></p>"})[0]["id"])
    assert [d["name"] for d in documents(zw, kb, status="ready")] == ["手册/甲.txt"]
    assert [d["name"] for d in documents(zw, kb, status="failed")] == ["手册/空.html"]
    assert [d["name"] for d in documents(zw, kb, name="手册/甲.txt")] == ["手册/甲.txt"]
    assert len(documents(zw, kb, name="手册/*")) == 2
    assert documents(zw, kb, name="甲*") == []


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"cursor": "xyz"}, "bad-cursor"),
        ({"cursor": "WzFd"}, "bad-cursor"),
        ({"cursor": "\u4e2d"}, "bad-cursor"),
        ({"limit": 0}, "invalid-request"),
        ({"limit": 100000}, "invalid-request"),
        ({"status": "lost"}, "invalid-request"),
        ({"name": "a\0"}, "invalid-request"),
    ],
    ids=str,
)
def test_bad_list_parameters_are_refused(zw: InProcessStack, empty_kb: str, params: dict[str, Any], code: str) -> None:
    problem_of(zw.ingest.get(path(empty_kb, "/documents"), params=params), 422, code)


def test_chunks_come_in_pages_and_in_order(zw: InProcessStack, kb: str) -> None:
    text = "\n\n".join(f"第{n}条：" + "规定内容" * 40 + "。" for n in range(12))
    document = zw.add(kb, "规定.txt", text)
    whole = zw.ingest.get(path(kb, f"/documents/{document['id']}/chunks"), params={"limit": 500}).json()
    paged: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        params: dict[str, Any] = {"limit": 3, **({"cursor": cursor} if cursor else {})}
        page = zw.ingest.get(path(kb, f"/documents/{document['id']}/chunks"), params=params).json()
        paged += page["items"]
        cursor = page["next_cursor"]
    assert paged == whole["items"]
    assert [chunk["ordinal"] for chunk in paged] == list(range(document["chunks"]))


def test_forged_cursor_of_chunks_does_no_harm(zw: InProcessStack, kb: str) -> None:
    document = zw.add(kb, "a.txt", "内容。")
    chunks = path(kb, f"/documents/{document['id']}/chunks")
    positions: list[object] = [[1e30], ["a"], [True], [1, 2], {}, None]
    for position in positions:
        problem_of(zw.ingest.get(chunks, params={"cursor": cursor_of(position)}), 422, "bad-cursor")
    for number in (-5, 10**6, 2**62):
        assert zw.ingest.get(chunks, params={"cursor": cursor_of([number])}).status_code in {200, 422}


def cursor_of(position: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode().rstrip("=")


# One document


def test_events_follow_a_document_until_it_is_ready(zw: InProcessStack, kb: str) -> None:
    with zw.resting():
        item = zw.upload(kb, {"年假.txt": "年假十天。"})[0]
        with zw.ingest.stream("GET", path(kb, f"/documents/{item['id']}/events")) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            events = events_of(response)
            first = next(events)
            zw.worker.stopping.clear()
            rest = list(events)
    assert (first.name, first.data["status"]) == ("document", "queued")
    assert [event.name for event in rest] == ["document"] * len(rest)
    assert rest[-1].data["status"] == "ready"
    assert rest[-1].data["chunks"] == 1


def test_events_of_a_settled_document_are_one(zw: InProcessStack, kb: str) -> None:
    document = zw.add(kb, "a.txt", "内容。")
    with zw.ingest.stream("GET", path(kb, f"/documents/{document['id']}/events")) as response:
        assert [event.data for event in events_of(response)] == [document]


def test_events_are_neither_stored_nor_held_back_on_their_way(zw: InProcessStack, kb: str) -> None:
    document = zw.add(kb, "a.txt", "内容。")
    response = zw.ingest.get(path(kb, f"/documents/{document['id']}/events"))
    assert "no-store" in response.headers["cache-control"]
    assert response.headers["x-accel-buffering"] == "no"
    first, rest = response.text.split("\n\n")
    assert first.split("\n")[0] == "event: document"
    assert (json.loads(first.split("\n")[1].removeprefix("data: ")), rest) == (document, "")


def test_content_is_the_original_to_the_byte_and_cannot_run(zw: InProcessStack, kb: str) -> None:
    content = "<script>alert('年假')</script><p>年假十天。</p>".encode("gb18030")
    document = zw.add(kb, "制度/年假 '1'.html", content)
    response = zw.ingest.get(path(kb, f"/documents/{document['id']}/content"))
    assert response.content == content
    assert int(response.headers["content-length"]) == len(content)
    disposition = response.headers["content-disposition"]
    assert disposition == "attachment; filename*=UTF-8''" + quote("年假 '1'.html", safe="")
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in response.headers["content-security-policy"]


def test_lost_original_is_a_problem(zw: InProcessStack, kb: str) -> None:
    document = zw.add(kb, "a.txt", "独一无二的内容。" + kb)
    zw.originals.remove(document["sha256"])
    problem_of(zw.ingest.get(path(kb, f"/documents/{document['id']}/content")), 404, "original-missing")


def test_cancelled_document_is_not_indexed_and_can_be_retried(zw: InProcessStack, kb: str) -> None:
    with zw.resting():
        item = zw.upload(kb, {"a.txt": "年假十天。"})[0]
        cancelled = zw.ingest.post(path(kb, f"/documents/{item['id']}/cancel"))
        assert (cancelled.status_code, cancelled.json()["status"]) == (202, "cancelled")
        problem_of(zw.ingest.post(path(kb, f"/documents/{item['id']}/cancel")), 409, "not-cancellable")
    assert zw.search(kb, "年假") == []
    assert zw.ingest.post(path(kb, f"/documents/{item['id']}/retry")).status_code == 202
    assert zw.settled(kb, item["id"])["status"] == "ready"
    problem_of(zw.ingest.post(path(kb, f"/documents/{item['id']}/retry")), 409, "not-retryable")


def test_deleted_document_is_gone_from_search_at_once_and_deleted_later(zw: InProcessStack, kb: str) -> None:
    document = zw.add(kb, "年假.txt", "年假十天。" + kb)
    zw.add(kb, "病假.txt", "病假需要证明。")
    with zw.resting():
        deleting = zw.ingest.delete(path(kb, f"/documents/{document['id']}"))
        assert (deleting.status_code, deleting.json()["status"]) == (202, "deleting")
        assert texts(zw.search(kb, "年假", top_k=10)) == ["病假需要证明。"]
        assert [d["name"] for d in documents(zw, kb)] == ["病假.txt"]
        assert zw.ingest.get(path(kb, f"/documents/{document['id']}/chunks")).json()["items"] == []
    gone = zw.settled(kb, document["id"])
    assert (gone["status"], gone["chunks"], gone["sha256"]) == ("deleted", 0, "")
    assert zw.store.count(zw.ledger.bases.get(kb).live.collection, document["id"]) == 0
    wait_until(lambda: not zw.originals.exists(document["sha256"]), 20, "the original is still there")
    assert zw.ingest.delete(path(kb, f"/documents/{document['id']}")).json()["status"] == "deleted"


def test_original_that_another_document_shares_is_kept(zw: InProcessStack, kb: str) -> None:
    content = "共享的内容。" + kb
    first, second = zw.add(kb, "甲.txt", content), zw.add(kb, "乙.txt", content)
    zw.ingest.delete(path(kb, f"/documents/{first['id']}"))
    assert zw.settled(kb, first["id"])["status"] == "deleted"
    assert zw.ingest.get(path(kb, f"/documents/{second['id']}/content")).text == content


def test_old_version_answers_until_the_new_one_does_and_never_both(zw: InProcessStack, kb: str) -> None:
    document = zw.add(kb, "年假.txt", "年假五天。")
    with zw.resting():
        zw.upload(kb, {"年假.txt": "年假十天。"})
        assert texts(zw.search(kb, "年假", top_k=10)) == ["年假五天。"]
    assert zw.settled(kb, document["id"])["live_version"] == 2
    assert texts(zw.search(kb, "年假", top_k=10)) == ["年假十天。"]


def test_failed_new_version_leaves_the_old_one_answering(zw: InProcessStack, kb: str) -> None:
    document = zw.add(kb, "年假.html", "<p>年假五天。</p>")
    zw.upload(kb, {"年假.html": "<p> </p>"})
    failed = zw.settled(kb, document["id"])
    assert (failed["status"], failed["version"], failed["live_version"]) == ("failed", 2, 1)
    assert texts(zw.search(kb, "年假", top_k=10)) == ["年假五天。"]
    assert len(zw.ingest.get(path(kb, f"/documents/{document['id']}/chunks")).json()["items"]) == 1


def test_many_deleted_chunks_hide_no_live_one(zw: InProcessStack, kb: str) -> None:
    """More chunks than a search fetches at first are deleted but not yet removed."""
    lines = "\n\n".join(f"年假规定第{number}条说明。" + "年假" * 100 for number in range(150))
    old = zw.add(kb, "旧.txt", lines)
    assert old["chunks"] > 120
    zw.add(kb, "新.txt", "年假十天。")
    with zw.resting():
        zw.ingest.delete(path(kb, f"/documents/{old['id']}"))
        for mode in ("dense", "full_text", "hybrid"):
            assert texts(zw.search(kb, "年假规定说明", mode=mode)) == ["年假十天。"]
    zw.settled(kb, old["id"])


# Service


def test_health_metrics_and_documentation(zw: InProcessStack) -> None:
    assert zw.ingest.get("/healthz").json() == {"status": "ok"}
    ready = zw.ingest.get("/readyz")
    checks = dict.fromkeys(("ledger", "milvus", "broker", "originals"), "ok")
    assert ready.json() == {"status": "ready", "checks": checks}
    metrics = zw.ingest.get("/metrics").text
    assert 'zhiwen_http_requests_total{method="GET",route="/healthz",service="ingest",status="200"}' in metrics
    assert UNKNOWN not in metrics
    assert zw.ingest.get("/docs").status_code == 200


@pytest.mark.parametrize(("sent", "kept"), [("abc-123.X:y_z", True), ("a b", False), ("x" * 200, False), ("中", False)])
def test_request_id_is_kept_when_it_is_sane(zw: InProcessStack, sent: str, kept: bool) -> None:
    for address in ("/healthz", "/v1/nothing"):
        got = zw.ingest.get(address, headers={b"X-Request-ID": sent.encode()}).headers["x-request-id"]
        assert (got == sent) is kept
        assert got


def test_upload_carries_its_request_id_to_the_job(zw: InProcessStack, kb: str) -> None:
    with zw.resting():
        response = zw.ingest.post(
            path(kb, "/documents"), files={"file": ("a.txt", "内容。")}, headers={"X-Request-ID": "trace-me-1"}
        )
        assert response.headers["x-request-id"] == "trace-me-1"
        taken = []
        while job := zw.ledger.jobs.claim("test", 30):
            taken.append(job)
            zw.ledger.endings.put_off(job, Retry(0.0, job.attempts - 1, job.waits + 1), "test", "Test.")
            if job.request_id == "trace-me-1":
                break
    assert taken[-1].request_id == "trace-me-1"
