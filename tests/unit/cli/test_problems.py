"""Errors on the command line: the exit code of each, and the option that would help."""

from __future__ import annotations

import httpx
import pytest

from tests.unit.client.fake_api import problem
from tests.unit.client.flavours import ONCE
from zhiwen.cli.problems import exit_code_of, problem_of
from zhiwen.client import ApiError, Client


def error_of(answer: httpx.Response | None) -> ApiError:
    """What the client raises for this answer, or for none."""

    def answering(request: httpx.Request) -> httpx.Response:
        if answer is None:
            raise httpx.ConnectError("refused", request=request)
        return answer

    client = Client(transport=httpx.MockTransport(answering), **ONCE)
    with client, pytest.raises(ApiError) as caught:
        client.search("k", "?")
    return caught.value


@pytest.mark.parametrize(("status", "exit_code"), [(403, 4), (404, 5), (409, 6), (422, 1), (503, 1)], ids=str)
def test_problem_is_the_services_and_has_an_exit_code(status: int, exit_code: int) -> None:
    error = error_of(problem(status, "some-code", "One sentence."))
    assert problem_of(error) == error.problem
    assert (problem_of(error)["detail"], exit_code_of(error.status)) == ("One sentence.", exit_code)


def test_missing_key_names_the_option() -> None:
    error = error_of(problem(401, "missing-key", "Send an API key."))
    named = {**error.problem, "detail": "Send an API key. Name a key with --api-key or ZHIWEN_API_KEY."}
    assert (problem_of(error), exit_code_of(error.status)) == (named, 4)


def test_no_answer_names_the_address_the_option_and_what_to_start() -> None:
    error = error_of(None)
    assert exit_code_of(error.status) == 3
    assert problem_of(error) == {
        "type": "about:blank",
        "title": "Service unreachable",
        "detail": "The query API does not answer at http://127.0.0.1:2: start it with `zhiwen up` (or zhiwen-query), "
        "or name another address with --query-url or ZHIWEN_QUERY_URL.",
        "code": "service-unreachable",
        "instance": "http://127.0.0.1:2",
    }
