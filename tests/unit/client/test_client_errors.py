"""What the clients raise: the service's own problem, or one sentence where no service answered."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable

import httpx
import pytest

from tests.unit.client.fake_api import problem, sse
from tests.unit.client.flavours import Caller
from zhiwen.client import (
    ApiError,
    Client,
    ConflictError,
    ConnectionLostError,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
    ServiceFailedError,
    TooLargeError,
    TooManyRequestsError,
    UnauthorizedError,
    UnavailableError,
    UnexpectedAnswerError,
    UnreachableError,
    UnsupportedError,
)

MakeCaller = Callable[..., Caller]


def refusing(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused", request=request)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidRequestError),
        (401, UnauthorizedError),
        (403, ForbiddenError),
        (404, NotFoundError),
        (409, ConflictError),
        (413, TooLargeError),
        (415, UnsupportedError),
        (422, InvalidRequestError),
        (429, TooManyRequestsError),
        (500, ServiceFailedError),
        (503, UnavailableError),
        (507, ServiceFailedError),
    ],
    ids=str,
)
def test_problem_keeps_its_fields_and_has_a_class(caller: MakeCaller, status: int, kind: type[ApiError]) -> None:
    answer = problem(status, "some-code", "One sentence.")
    answer.headers.update({"retry-after": "7", "x-request-id": "r1"})
    with pytest.raises(ApiError, match=r"^One sentence\.$") as caught:
        caller(lambda _: answer, retries=0)("get_knowledge_base", "k")
    error = caught.value
    assert type(error) is kind
    assert (error.status, error.code, error.title, error.errors) == (status, "some-code", "No", [])
    assert (error.retry_after, error.request_id) == (7.0, "r1")


def test_wrong_fields_are_named(caller: MakeCaller) -> None:
    body = {"status": 422, "code": "invalid-request", "detail": "x", "errors": [{"field": "top_k", "message": "less"}]}
    with pytest.raises(InvalidRequestError) as caught:
        caller(lambda _: httpx.Response(422, json=body))("search", "k", "?", top_k=0)
    assert caught.value.errors == [{"field": "top_k", "message": "less"}]


@pytest.mark.parametrize("odd", ["no", None, [], {}, 1e400, "200"], ids=repr)
def test_the_status_of_the_answer_counts_and_odd_fields_do_no_harm(caller: MakeCaller, odd: object) -> None:
    body = json.dumps({"status": odd, "code": "c", "detail": "x", "errors": 3})
    with pytest.raises(NotFoundError) as caught:
        caller(lambda _: httpx.Response(404, text=body))("get_document", "k", "d")
    assert (caught.value.status, caught.value.errors) == (404, [])


def test_broken_off_answer_with_an_odd_status_is_unexpected(caller: MakeCaller) -> None:
    answer = sse(("error", {"code": "c", "detail": "x", "status": "no"}))
    with pytest.raises(UnexpectedAnswerError):
        caller(lambda _: answer)("ask_stream", "k", "?")


def test_no_answer_names_the_address_and_what_to_start(caller: MakeCaller) -> None:
    with pytest.raises(UnreachableError) as caught:
        caller(refusing)("search", "k", "x")
    assert (caught.value.status, caught.value.code, caught.value.service) == (0, "service-unreachable", "query")
    assert "The query API does not answer at http://127.0.0.1:2: start it with `zhiwen up`" in caught.value.detail
    assert "ZHIWEN_QUERY_URL" in caught.value.detail


@pytest.mark.parametrize("url", ["nonsense", "ftp://127.0.0.1:1", "http://[::1"])
def test_address_that_is_none_is_one_sentence(url: str) -> None:
    with pytest.raises(UnreachableError) as caught:
        Client(ingest_url=url).get_knowledge_base("k")
    assert caught.value.detail == f"{url} is no address of the ingest API: an address is like http://127.0.0.1:8001."
    assert (caught.value.status, caught.value.code, caught.value.service) == (0, "service-unreachable", "ingest")


def test_answer_that_is_lost_says_so(caller: MakeCaller) -> None:
    def lost(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("slow", request=request)

    with pytest.raises(ConnectionLostError, match="it took too long") as caught:
        caller(lost)("ask", "k", "?")
    assert (caught.value.status, caught.value.code) == (0, "connection-lost")


@pytest.mark.parametrize(
    "answer",
    [
        (200, "<html>"),
        (404, '{"detail": "Not Found"}'),
        (200, "[1]"),
        (200, '{"status": "ok"}'),
        (404, '{"status": 404, "code": "route-not-found", "detail": "There is no such route; see /docs."}'),
    ],
    ids=["html", "foreign-404", "list", "foreign-object", "another-service"],
)
def test_foreign_server_is_named(caller: MakeCaller, answer: tuple[int, str]) -> None:
    status, text = answer
    with pytest.raises(UnexpectedAnswerError, match="is not the ingest API") as caught:
        caller(lambda _: httpx.Response(status, text=text))("list_knowledge_bases")
    assert caught.value.code == "unexpected-answer"


def test_error_survives_its_way_between_processes() -> None:
    error = NotFoundError({"status": 404, "code": "x", "detail": "Gone."}, request_id="r1")
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.problem, copy.request_id, str(copy)) == (NotFoundError, error.problem, "r1", "Gone.")
