"""The public interface: both clients are alike, match the REST API, and can read answers of newer services."""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys
import typing
from collections.abc import Callable

import httpx
import pytest
from pydantic import BaseModel

import zhiwen
from tests.unit.client.fake_api import ANSWER, FOUND, document, knowledge_base
from tests.unit.client.flavours import Caller
from zhiwen.client import ApiError, AsyncClient, Client, DocumentStatus
from zhiwen.client.options import AskOptions, KnowledgeBaseOptions, SearchOptions
from zhiwen.common.api.documents import DocumentOut, UploadItem
from zhiwen.common.api.knowledge_bases import CreateKnowledgeBase, UpdateKnowledgeBase
from zhiwen.common.api.questions import AskBody, SearchBody

MakeCaller = Callable[..., Caller]


def methods(kind: type) -> dict[str, inspect.Signature]:
    found = inspect.getmembers(kind, inspect.isfunction)
    return {name: inspect.signature(function) for name, function in found if not name.startswith("_")}


def test_both_clients_have_the_same_methods() -> None:
    assert methods(Client).keys() == methods(AsyncClient).keys()


@pytest.mark.parametrize("name", methods(Client))
def test_both_clients_take_the_same_arguments(name: str) -> None:
    blocking, awaited = (dict(methods(kind)[name].parameters) for kind in (Client, AsyncClient))
    blocking.pop("timeout", None)  # asyncio has its own
    assert list(blocking.values()) == list(awaited.values())


@pytest.mark.parametrize("name", methods(Client))
def test_every_method_is_documented_alike(name: str) -> None:
    blocking, awaited = (inspect.getdoc(getattr(kind, name)) or "" for kind in (Client, AsyncClient))
    assert blocking.endswith(".")
    assert awaited.split(". ")[0] == blocking.split(". ")[0] or awaited.splitlines()[0] == blocking.splitlines()[0]


@pytest.mark.parametrize(
    ("options", "body", "named"),
    [
        (KnowledgeBaseOptions, CreateKnowledgeBase, {"name"}),
        (KnowledgeBaseOptions, UpdateKnowledgeBase, set()),
        (SearchOptions, SearchBody, {"query"}),
        (AskOptions, AskBody, {"question", "stream"}),
    ],
    ids=["create", "update", "search", "ask"],
)
def test_every_field_of_a_request_is_an_option(options: type, body: type[BaseModel], named: set[str]) -> None:
    assert set(typing.get_type_hints(options)) == body.model_fields.keys() - named


def test_client_is_imported_when_it_is_asked_for() -> None:
    program = "import sys, zhiwen; assert 'httpx' not in sys.modules; from zhiwen import Client, AsyncClient, ApiError"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert zhiwen.Client is Client
    assert {"Client", "AsyncClient", "ApiError"} <= set(dir(zhiwen))
    with pytest.raises(AttributeError, match="Nothing"):
        zhiwen.__getattr__("Nothing")


def test_errors_are_drawn_as_they_are() -> None:
    module = importlib.import_module("zhiwen.client.errors")
    drawn = set(re.findall(r"\w+Error\b", module.__doc__ or ""))
    assert drawn == {
        name for name, kind in vars(module).items() if isinstance(kind, type) and issubclass(kind, ApiError)
    }


# Answers of an older and of a newer service


def test_refusal_of_an_older_service_is_one(caller: MakeCaller) -> None:
    new = ("outcome", "confidence", "closest", "citations")
    old = {name: value for name, value in ANSWER.items() if name not in new}
    for refused, outcome in ((True, "refused"), (False, "answered")):
        answer = caller(lambda _, refused=refused: httpx.Response(200, json={**old, "refused": refused}))(
            "ask", "k", "?"
        )
        assert (answer.outcome, answer.closest, answer.citations) == (outcome, [], [])


def test_newer_fields_are_ignored(caller: MakeCaller) -> None:
    newer = {**ANSWER, "mood": "good", "took_ms": {**ANSWER["took_ms"], "think": 1}}
    assert caller(lambda _: httpx.Response(200, json=newer))("ask", "k", "?").answer == ANSWER["answer"]
    base = {**knowledge_base("k"), "colour": "blue"}
    assert caller(lambda _: httpx.Response(200, json=base))("get_knowledge_base", "k").name == "k"


def test_newer_words_are_taken_as_they_are(caller: MakeCaller) -> None:
    shown = document("d1", "a.txt", status="dreaming")
    found: DocumentOut = caller(lambda _: httpx.Response(200, json=shown))("get_document", "k", "d1")
    assert (found.status, found.status.value, found.status.settled) == ("dreaming", "dreaming", False)
    assert found.model_dump(mode="json")["status"] == "dreaming"
    assert isinstance(found.status, DocumentStatus)
    assert (
        caller(lambda _: httpx.Response(200, json={**FOUND, "mode": "psychic"}))("search", "k", "?").mode == "psychic"
    )
    item = {"id": "d1", "name": "a", "status": "queued", "version": 1, "outcome": "postponed"}
    answer = {"items": [item]}
    [taken] = caller(lambda _: httpx.Response(202, json=answer))("upload_documents", "k", [("a", b"1")])
    assert taken.outcome == "postponed"


def test_services_refuse_words_that_they_do_not_know() -> None:
    for kind, wrong in ((DocumentOut, {"status": "dreaming"}), (UploadItem, {"outcome": "postponed"})):
        with pytest.raises(ValueError, match=r"(?s)status|outcome"):
            kind.model_validate({**document("d1", "a.txt"), "outcome": "created", **wrong})
