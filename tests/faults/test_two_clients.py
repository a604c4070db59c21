"""Two clients change the same names at random: at the end ledger, originals and Milvus hold the last words alone."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from tests.servers.process_stack import ProcessStack, process_stack
from tests.servers.stores import moto_s3, new_database

SECONDS = float(os.environ.get("ZHIWEN_FAULT_SECONDS", "60"))
SEED = int(os.environ.get("ZHIWEN_FAULT_SEED", "20261120"))
NAMES = ["手册.txt", "a.txt", "b.md", "表.csv", "page.html", "c.txt"]
LETTERS = "bcdfghjklmnpqrtvwxz"

Version = tuple[str, int]


@pytest.fixture(params=["sqlite", "postgresql-s3"])
def stack(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ProcessStack]:
    if request.param == "sqlite":
        with process_stack(tmp_path, with_query=True) as stack:
            yield stack
        return
    url = new_database(request.getfixturevalue("postgres_url"), "two-clients")
    with moto_s3() as s3:
        settings = {
            "ORIGINALS_URL": "s3://two-clients/originals",
            "S3_ENDPOINT_URL": s3.url,
            "S3_ACCESS_KEY": "testing",
            "S3_SECRET_KEY": "testing",
        }
        with process_stack(tmp_path, database_url=url, settings=settings, with_query=True) as stack:
            yield stack


@dataclass
class Client:
    """A client that does what its dice say, and remembers what was acknowledged."""

    stack: ProcessStack
    kb: str
    dice: random.Random
    tokens: dict[Version, str] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    surprises: list[str] = field(default_factory=list)

    def run(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        with self.stack.client_of(self.stack.api) as http:
            while time.monotonic() < until:
                self.act(http, f"/v1/knowledge-bases/{self.kb}/documents", self.dice.choice(NAMES))
                time.sleep(self.dice.random() * 0.05)

    def act(self, http: httpx.Client, url: str, name: str) -> None:
        what = self.dice.choices(["upload", "delete", "cancel", "retry"], [6, 2, 1, 1])[0]
        if what == "upload":
            token = "zq" + "".join(self.dice.choices(LETTERS, k=10))
            text = f"口令是{token}。\n" + f"Sentence of {name}, neither here nor there.\n" * self.dice.randrange(12)
            response = http.put(f"{url}/by-name/{quote(name)}", content=text.encode())
            self.expect(response, {202})
            if response.status_code == 202:
                item = response.json()
                self.tokens[(item["id"], item["version"])] = token
            return
        found = http.get(url, params={"name": name}).json()["items"]
        if not found:
            return
        id = found[0]["id"]
        if what == "delete":
            response = http.delete(f"{url}/{id}")
            self.deleted.add(id)
        else:
            response = http.post(f"{url}/{id}/{what}")
        self.expect(response, {202, 404, 409})

    def expect(self, response: httpx.Response, allowed: set[int]) -> None:
        if response.status_code not in allowed:
            self.surprises.append(f"{response.request.method} {response.url}: {response.status_code} {response.text}")


@pytest.mark.slow
@pytest.mark.timeout(420)
def test_two_clients_on_the_same_names_leave_the_last_acknowledged_words(stack: ProcessStack) -> None:
    seconds = SECONDS if not stack.database_url else SECONDS / 6
    print(f"seed {SEED}, {seconds:g} s; ZHIWEN_FAULT_SEED and ZHIWEN_FAULT_SECONDS set them")
    kb = stack.base()
    clients = [Client(stack, kb, random.Random(SEED + number)) for number in range(2)]
    threads = [threading.Thread(target=client.run, args=(seconds,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [surprise for client in clients for surprise in client.surprises] == []
    shown = stack.settle(kb, seconds=90)
    stack.idle(60)
    stack.clean()

    tokens = clients[0].tokens | clients[1].tokens
    deleted = clients[0].deleted | clients[1].deleted
    assert {document["id"] for document in shown.values()} == {id for id, _ in tokens} - deleted
    live = {}
    for document in shown.values():
        newest = max(version for id, version in tokens if id == document["id"])
        assert document["version"] == newest
        assert document["status"] in {"ready", "cancelled"}
        if document["status"] == "ready":
            assert document["live_version"] == newest
        chunks = stack.chunks(kb, document["id"])
        if document["live_version"] is not None:
            live[document["id"]] = tokens[document["id"], document["live_version"]]
            assert live[document["id"]] in chunks[0][1]
        assert all(token not in text for _, text in chunks for token in set(tokens.values()) - set(live.values()))
    print(f"{len(tokens)} uploads, {len(deleted)} deletes, {len(live)} documents answer")
    for id, token in live.items():
        assert [hit["document_id"] for hit in stack.search(kb, token) if token in hit["text"]] == [id]
    for token in random.Random(SEED).sample(sorted(set(tokens.values()) - set(live.values())), k=20):
        assert [hit["text"] for hit in stack.search(kb, token) if token in hit["text"]] == []
