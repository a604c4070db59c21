"""A streamed answer passes event by event, changed only where it must be."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiwen.llm_gateway.errors import FailureKind, UpstreamFailure
from zhiwen.llm_gateway.passthrough.answer_stream import AnswerStream, choice_texts


def chunk(content: str, *, finish: str | None = None, model: str = "up", **extra: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": model, "choices": [choice], **extra}


def event(payload: object, end: str = "\n") -> bytes:
    return f"data: {json.dumps(payload, ensure_ascii=False, separators=(',', ':'))}{end}{end}".encode()


ANSWER = [event(chunk(text)) for text in ("年", "假", '"error" and "usage"', "[DONE]")]
ANSWER += [event(chunk("", finish="stop")), b"data: [DONE]\n\n"]
WHOLE = b"".join(ANSWER)


def run(stream: AnswerStream, *parts: bytes) -> bytes:
    out = b"".join(stream.feed(part) for part in parts)
    return out + stream.end()


def plain() -> AnswerStream:
    return AnswerStream(alias=None, hide_usage=False)


@given(st.lists(st.integers(1, len(WHOLE) - 1), max_size=30))
def test_every_byte_arrives_however_the_bytes_are_cut(cuts: list[int]) -> None:
    places = [0, *sorted(set(cuts)), len(WHOLE)]
    parts = [WHOLE[a:b] for a, b in pairwise(places)]
    stream = plain()
    assert run(stream, *parts) == WHOLE
    assert stream.done
    assert stream.complete


def test_one_byte_at_a_time() -> None:
    assert run(plain(), *(WHOLE[i : i + 1] for i in range(len(WHOLE)))) == WHOLE


def test_each_event_leaves_when_it_is_complete() -> None:
    stream = plain()
    assert stream.feed(ANSWER[0]) == ANSWER[0]
    assert stream.feed(ANSWER[1][:-1]) == b""
    assert stream.feed(ANSWER[1][-1:]) == ANSWER[1]
    assert stream.feed(ANSWER[2] + ANSWER[3] + ANSWER[4][:9]) == ANSWER[2] + ANSWER[3]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_comments_other_fields_and_crlf_pass_unchanged(end: str) -> None:
    data = f": ping{end}{end}id: 7{end}".encode() + event(chunk("x"), end) + event(chunk("", finish="stop"), end)
    data += f"data: [DONE]{end}{end}".encode()
    assert run(plain(), data) == data


def test_a_missing_done_is_added_after_a_proper_end() -> None:
    assert run(plain(), *ANSWER[:-1]) == WHOLE


def test_a_missing_last_blank_line_is_forgiven() -> None:
    assert run(plain(), WHOLE[:-2]) == WHOLE


def test_bytes_after_done_are_not_passed_on() -> None:
    assert run(plain(), WHOLE + event(chunk("more"))) == WHOLE


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", FailureKind.EMPTY),
        (b": ping\n\n", FailureKind.EMPTY),
        (ANSWER[0] + ANSWER[1], FailureKind.DIED),
        (ANSWER[0] + b'data: {"half', FailureKind.GARBAGE),
        (b"<html>It works!</html>\n\n", FailureKind.GARBAGE),
        (b"data: not json\n\n", FailureKind.GARBAGE),
        (b"data: [1]\n\n", FailureKind.GARBAGE),
    ],
)
def test_an_answer_that_does_not_end_properly_is_a_failure(data: bytes, kind: FailureKind) -> None:
    with pytest.raises(UpstreamFailure) as failure:
        run(plain(), data)
    assert failure.value.kind is kind


def test_an_answer_is_complete_only_when_every_choice_has_ended() -> None:
    two = chunk("a")
    two["choices"] += [{"index": 1, "delta": {"content": "b"}, "finish_reason": None}]
    with pytest.raises(UpstreamFailure):
        run(plain(), event(two), event(chunk("", finish="stop")))


@pytest.mark.parametrize("indent", [None, 1])
def test_the_alias_replaces_the_model_and_nothing_else(indent: int | None) -> None:
    def spell(payload: object) -> bytes:
        text = json.dumps(payload, ensure_ascii=False, indent=None) if indent else None
        return f"data: {text}\n\n".encode() if text else event(payload)

    payloads = [chunk('say "model":"up"'), chunk("b", meta={"model": "up"}), chunk("", finish="stop")]
    sent = b"".join(map(spell, payloads)) + b"data: [DONE]\n\n"
    got = run(AnswerStream(alias="千问", hide_usage=False), sent)
    assert got == b"".join(spell({**payload, "model": "千问"}) for payload in payloads) + b"data: [DONE]\n\n"


def test_the_alias_is_right_when_the_head_of_the_events_changes() -> None:
    payloads = [chunk(str(n)) | {"id": f"c{n // 3}"} for n in range(9)] + [chunk("", finish="stop")]
    got = run(AnswerStream(alias="a", hide_usage=False), *map(event, payloads))
    assert got == b"".join(event({**payload, "model": "a"}) for payload in payloads) + b"data: [DONE]\n\n"


@pytest.mark.parametrize("alias", [None, "a"])
def test_usage_that_the_client_did_not_ask_for_is_kept_and_not_shown(alias: str | None) -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    payloads = [chunk("a"), chunk("b"), chunk("", finish="stop")]
    sent = [event({**payload, "usage": None}) for payload in payloads]
    sent.append(event({"id": "c", "choices": [], "usage": usage, "model": "up"}))
    stream = AnswerStream(alias=alias, hide_usage=True)
    expected = b"".join(event({**payload, "model": alias or "up"}) for payload in payloads) + b"data: [DONE]\n\n"
    assert run(stream, *sent, b"data: [DONE]\n\n") == expected
    assert stream.usage == usage


def test_usage_that_the_client_asked_for_passes() -> None:
    last = event({"id": "c", "choices": [], "usage": {"prompt_tokens": 3}, "model": "up"})
    sent = ANSWER[0] + ANSWER[4] + last + ANSWER[5]
    stream = plain()
    assert run(stream, sent) == sent
    assert stream.usage == {"prompt_tokens": 3}


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ({"error": {"message": "out of memory", "type": "server_error"}}, "out of memory"),
        ({"error": "model not loaded"}, "model not loaded"),
        ({"object": "error", "message": "too long", "code": 40303}, "too long"),
        ({"text": "**NETWORK ERROR**", "error_code": 50004}, "**NETWORK ERROR**"),
        ({"detail": "broken"}, "broken"),
    ],
)
def test_an_error_event_of_any_shape_leaves_as_openais_and_ends_the_answer(
    payload: dict[str, Any], message: str
) -> None:
    stream = plain()
    out = stream.feed(ANSWER[0] + event(payload) + ANSWER[1])
    assert out.startswith(ANSWER[0])
    assert out.count(b"data: ") == 2
    told = json.loads(out[len(ANSWER[0]) + 6 :])["error"]
    assert told["message"] == message
    assert {"message", "type", "param", "code"} >= {"message", "type"}
    assert stream.error is not None


def test_chunks_without_finish_reason_and_usage_in_the_last_as_transformers_sends_them() -> None:
    head = {"id": "c", "created": 1, "model": "tiny@main", "object": "chat.completion.chunk", "system_fingerprint": ""}
    first = head | {"choices": [{"delta": {"role": "assistant"}, "index": 0}]}
    more = head | {"choices": [{"delta": {"content": "x"}, "index": 0}]}
    last = head | {"choices": [{"delta": {}, "index": 0, "finish_reason": "length"}]}
    usage = {"completion_tokens": 4, "prompt_tokens": 9, "total_tokens": 13}
    stream = AnswerStream(alias=None, hide_usage=True)
    got = run(stream, event(first), event(more), event(more), event({**last, "usage": usage}))
    assert got == event(first) + event(more) * 2 + event(last) + b"data: [DONE]\n\n"
    assert stream.usage == usage


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
CHOICE = st.fixed_dictionaries({}, optional=dict.fromkeys(["index", "delta", "text", "message", "finish_reason"], JSON))


@given(JSON | st.lists(CHOICE | JSON, max_size=3), st.booleans())
def test_choices_of_any_shape_pass_unchanged(choices: object, collected: bool) -> None:
    stream = AnswerStream(alias=None, hide_usage=True, texts=[] if collected else None)
    sent = ANSWER[0] + event({"id": "c", "model": "up", "choices": choices}) + ANSWER[1] + ANSWER[-1]
    assert run(stream, sent) == sent


@pytest.mark.parametrize("index", [None, "0", [0], {}, -1, 2**70, 0.5])
def test_a_choice_with_an_odd_index_ends_as_any_other(index: object) -> None:
    odd = [chunk("a"), chunk("", finish="stop")]
    for payload in odd:
        payload["choices"][0]["index"] = index
    sent = b"".join(map(event, odd))
    assert run(plain(), sent) == sent + b"data: [DONE]\n\n"


@pytest.mark.parametrize("choices", [None, 7, "x", {"index": 0}, [None, "x", 7, []]])
def test_what_is_no_choice_has_no_text(choices: object) -> None:
    assert choice_texts(choices) == []


def test_text_is_collected_when_it_is_wanted() -> None:
    texts: list[str] = []
    run(AnswerStream(alias=None, hide_usage=False, texts=texts), WHOLE)
    assert "".join(texts) == '年假"error" and "usage"[DONE]'
