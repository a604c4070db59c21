"""A scripted OpenAI-compatible server in a process of its own, for tests that must see real sockets.

    python -m tests.servers.fake_openai [--port 0] [--name fake]

prints `{"port": N}` on its first line. Every answer follows the script: `POST /_script` with a list of steps, taken one
per request, the last one for good. A step is `{"behaviour": NAME, ...options}`; without a script the behaviour is
`answer`. `GET /_requests` returns what was received, bytes included; `DELETE /_requests` forgets it.

Behaviours (options in brackets):

    answer          plain or streamed as the request asks [text, pieces, usage, extra, delay between pieces, finish]
    tools           answers with a tool call that echoes the names of the tools it was given
    status          an HTTP error [status, body, headers]
    strict          refuses fields it does not know (stream_options), else `answer`
    gzip            `answer`, compressed although nobody asked for it
    reset           closes the connection without an answer
    hang            accepts and never answers
    slow            `answer`, its first byte after [delay] seconds
    die-mid-body    announces a body and closes within it
    die-mid-stream  streams [after] pieces and closes without ending the chunked body
    quit-mid-stream streams [after] pieces and ends the body properly, with no finish reason and no [DONE]
    stall           streams [after] pieces and then nothing
    garbage         200 with something that is no JSON, in a stream no event
    empty           200 with nothing (in a stream: no event)
    error-event     streams [after] pieces, then [event] as data (default: OpenAI's error object)
    json-instead    answers a streamed request with the JSON [body], status 200
    split           `answer`, one byte per write (half a UTF-8 character per write)
    no-done         streams to the finish reason and ends without [DONE]
    crlf            streams with CRLF line ends, comments and an id field
    raw             writes [body] as it is, with [content_type]
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import gzip
import json
from typing import Any

from aiohttp import web

MODELS = ("fake-model", "fake-embedding")


class Script:
    """What to do next, and what came in."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Any]] = [{"behaviour": "answer"}]
        self.requests: list[dict[str, Any]] = []
        self.cancelled = 0
        self.open = 0
        self.most_open = 0

    def next_step(self) -> dict[str, Any]:
        return self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]


SCRIPT: web.AppKey[Script] = web.AppKey("script", Script)
NAME: web.AppKey[str] = web.AppKey("name", str)


async def record(request: web.Request) -> dict[str, Any]:
    """Keep the request as it came and return its parsed body."""
    body = await request.read()
    request.app[SCRIPT].requests.append(
        {
            "method": request.method,
            "path": request.path_qs,
            "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in request.raw_headers],
            "body": body.decode("utf-8", "replace"),
            "body_base64": base64.b64encode(body).decode(),
        }
    )
    try:
        payload: Any = json.loads(body)
    except ValueError:
        return {}
    return payload if isinstance(payload, dict) else {}


async def serve_completion(request: web.Request) -> web.StreamResponse:
    """Answer one model call as the script says."""
    payload = await record(request)
    script = request.app[SCRIPT]
    step = script.next_step()
    script.open += 1
    script.most_open = max(script.most_open, script.open)
    try:
        return await BEHAVIOURS[step.get("behaviour", "answer")](request, payload, step)
    except asyncio.CancelledError:
        script.cancelled += 1
        raise
    except ConnectionError:
        script.cancelled += 1
        return web.Response()
    finally:
        script.open -= 1


def pieces_of(step: dict[str, Any]) -> list[str]:
    if "pieces" in step:
        return list(step["pieces"])
    text = step.get("text", "根据已知信息,年假为 10 天。[1]")
    return [text[i : i + 4] for i in range(0, len(text), 4)]


def frame(request: web.Request, payload: dict[str, Any], kind: str) -> dict[str, Any]:
    model = payload.get("model", MODELS[0])
    return {"id": f"chatcmpl-{request.app[NAME]}", "object": kind, "created": 1760000000, "model": model}


def is_chat(request: web.Request) -> bool:
    return request.path.endswith("/chat/completions")


def usage_of(step: dict[str, Any]) -> dict[str, int]:
    return dict(step.get("usage") or {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18})


def whole(request: web.Request, payload: dict[str, Any], step: dict[str, Any]) -> dict[str, Any]:
    """The JSON of an answer that is not streamed."""
    text = "".join(pieces_of(step))
    content = {"message": {"role": "assistant", "content": text}} if is_chat(request) else {"text": text}
    choice = {"index": 0, **content, "finish_reason": step.get("finish", "stop")}
    kind = "chat.completion" if is_chat(request) else "text_completion"
    body = frame(request, payload, kind) | {"choices": [choice], "usage": usage_of(step)}
    return {**body, **step.get("extra", {})}


def stream_payloads(request: web.Request, payload: dict[str, Any], step: dict[str, Any]) -> list[dict[str, Any]]:
    """The JSON of each event but [DONE], as OpenAI sends them: `usage` null in each when it was asked for."""
    chat = is_chat(request)
    head = frame(request, payload, "chat.completion.chunk" if chat else "text_completion")
    wants_usage = (payload.get("stream_options") or {}).get("include_usage") is True
    tail: dict[str, Any] = {"usage": None} if wants_usage else {}
    found = [head | {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]}]
    contents = [{"delta": {"content": piece}} if chat else {"text": piece} for piece in pieces_of(step)]
    found = found if chat else []
    found += [head | {"choices": [{"index": 0, **content, "finish_reason": None}]} for content in contents]
    last: dict[str, Any] = {"delta": {}} if chat else {"text": ""}
    found.append(head | {"choices": [{"index": 0, **last, "finish_reason": step.get("finish", "stop")}]})
    found = [event | step.get("extra", {}) | tail for event in found]
    if wants_usage:
        found.append(head | {"choices": [], "usage": usage_of(step)})
    return found


def encode(payload: object, end: str = "\n") -> bytes:
    text = json.dumps(payload, ensure_ascii=False, separators=(",", ":"))
    return f"data: {text}{end}{end}".encode()


def events_of(request: web.Request, payload: dict[str, Any], step: dict[str, Any]) -> list[bytes]:
    return [encode(event) for event in stream_payloads(request, payload, step)]


async def begin_stream(request: web.Request, content_type: str = "text/event-stream") -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": content_type, "X-Fake": request.app[NAME]})
    response.enable_chunked_encoding()
    await response.prepare(request)
    return response


async def answer(request: web.Request, payload: dict[str, Any], step: dict[str, Any]) -> web.StreamResponse:
    if payload.get("stream") is not True:
        return web.json_response(whole(request, payload, step), headers={"X-Fake": request.app[NAME]})
    response = await begin_stream(request)
    delay = step.get("delay", 0.0)
    for event in [*events_of(request, payload, step), b"data: [DONE]\n\n"]:
        await response.write(event)
        if delay:
            await asyncio.sleep(delay)
    await response.write_eof()
    return response


async def tools(request: web.Request, payload: dict[str, Any], step: dict[str, Any]) -> web.StreamResponse:
    names = [tool["function"]["name"] for tool in payload.get("tools", [])]
    call = {
        "index": 0,
        "id": "call_1",
        "type": "function",
        "function": {"name": names[0] if names else "none", "arguments": json.dumps({"tools": names})},
    }
    if payload.get("stream") is not True:
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
        body = frame(request, payload, "chat.completion")
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
        return web.json_response(body | {"choices": [choice], "usage": usage_of(step)})
    head = frame(request, payload, "chat.completion.chunk")
    response = await begin_stream(request)
    delta = {"role": "assistant", "content": None, "tool_calls": [call]}
    await response.write(encode(head | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}))
    await response.write(encode(head | {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}))
    await response.write(b"data: [DONE]\n\n")
    return response


async def status(_request: web.Request, _payload: dict[str, Any], step: dict[str, Any]) -> web.StreamResponse:
    body = step.get("body", {"error": {"message": "scripted", "type": "server_error", "param": None, "code": None}})
    text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
    kind = "text/html" if isinstance(body, str) else "application/json"
    return web.Response(status=step["status"], text=text, content_type=kind, headers=step.get("headers", {}))


async def strict(request: web.Request, payload: dict[str, Any], step: dict[str, Any]) -> web.StreamResponse:
    if "stream_options" in payload:
        detail = [{"loc": ["body", "stream_options"], "msg": "Extra inputs are not permitted", "type": "extra"}]
        return web.json_response({"detail": detail}, status=422)
    return await answer(request, payload, step)


async def compressed(request: web.Request, payload: dict[str, Any], step: dict[str, Any]) -> web.StreamResponse:
    body = gzip.compress(json.dumps(whole(request, payload, step)).encode())
    return web.Response(body=body, content_type="application/json", headers={"Content-Encoding": "gzip"})


async def reset(request: web.Request, _payload: dict[str, Any], _step: dict[str, Any]) -> web.StreamResponse:
    cut(request)
    return web.Response()


def cut(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


async def hang(_request: web.Request, _payload: dict[str, Any], _step: dict[str, Any]) -> web.StreamResponse:
    await asyncio.sleep(3600)
    return web.Response()


async def slow(request: web.Request, payload: dict[str, Any], step: dict[str, Any]) -> web.StreamResponse:
    await asyncio.sleep(step.get("delay", 1.0))
    return await answer(request, payload, {**step, "delay": 0.0})


async def die_mid_body(request: web.Request, payload: dict[str, Any], step: dict[str, Any]) -> web.StreamResponse:
    body = json.dumps(whole(request, payload, step)).encode()
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": str(len(body))})
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    await asyncio.sleep(0.02)
    cut(request)
    return response


async def _some_events(request: web.Request, payload: dict[str, Any], step: dict[str, Any]) -> web.StreamResponse:
    response = await begin_stream(request)
    for event in events_of(request, payload, step)[: step.get("after", 2) + 1]:
        await response.write(event)
        await asyncio.sleep(0.01)
    return response


async def die_mid_stream(request: web.Request, payload: dict[str, Any], step: dict[str, Any]) -> web.StreamResponse:
    response = await _some_events(request, payload, step)
    await response.write(b'data: {"half')
    await asyncio.sleep(0.02)
    cut(request)
    return response


async def quit_mid_stream(request: web.Request, payload: dict[str, Any], step: dict[str, Any]) -> web.StreamResponse:
    return await _some_events(request, payload, step)


async def stall(request: web.Request, payload: dict[str, Any], step: dict[str, Any]) -> web.StreamResponse:
    response = await _some_events(request, payload, step)
    await asyncio.sleep(3600)
    return response


async def garbage(request: web.Request, payload: dict[str, Any], _step: dict[str, Any]) -> web.StreamResponse:
    if payload.get("stream") is not True:
        return web.Response(text="<html>It works!</html>", content_type="text/html")
    response = await begin_stream(request)
    await response.write(b"<html>It works!</html>\n\n")
    return response


async def empty(request: web.Request, payload: dict[str, Any], _step: dict[str, Any]) -> web.StreamResponse:
    if payload.get("stream") is not True:
        return web.Response(body=b"", content_type="application/json")
    return await begin_stream(request)


async def error_event(request: web.Request, payload: dict[str, Any], step: dict[str, Any]) -> web.StreamResponse:
    response = await begin_stream(request)
    for event in events_of(request, payload, step)[: step.get("after", 2)]:
        await response.write(event)
    default = {"error": {"message": "out of memory", "type": "server_error", "param": None, "code": None}}
    await response.write(encode(step.get("event", default)))
    await response.write(b"data: [DONE]\n\n")
    return response


async def json_instead(_request: web.Request, _payload: dict[str, Any], step: dict[str, Any]) -> web.StreamResponse:
    return web.json_response(step.get("body", {}))


async def split(request: web.Request, payload: dict[str, Any], step: dict[str, Any]) -> web.StreamResponse:
    response = await begin_stream(request)
    data = b"".join([*events_of(request, payload, step), b"data: [DONE]\n\n"])
    for i in range(len(data)):
        await response.write(data[i : i + 1])
        if i % 16 == 0:
            await asyncio.sleep(0)
    return response


async def no_done(request: web.Request, payload: dict[str, Any], step: dict[str, Any]) -> web.StreamResponse:
    response = await begin_stream(request)
    for event in events_of(request, payload, step):
        await response.write(event)
    return response


async def crlf(request: web.Request, payload: dict[str, Any], step: dict[str, Any]) -> web.StreamResponse:
    response = await begin_stream(request, "text/event-stream; charset=utf-8")
    await response.write(b": ping\r\n\r\n")
    for number, event in enumerate(stream_payloads(request, payload, step)):
        await response.write(f"id: {number}\r\n".encode() + encode(event, "\r\n"))
    await response.write(b"data: [DONE]\r\n\r\n")
    return response


async def raw(request: web.Request, _payload: dict[str, Any], step: dict[str, Any]) -> web.StreamResponse:
    response = await begin_stream(request, step.get("content_type", "text/event-stream"))
    for part in step["body"] if isinstance(step["body"], list) else [step["body"]]:
        await response.write(part.encode())
        await asyncio.sleep(0.01)
    return response


BEHAVIOURS = {
    "answer": answer,
    "tools": tools,
    "status": status,
    "strict": strict,
    "gzip": compressed,
    "reset": reset,
    "hang": hang,
    "slow": slow,
    "die-mid-body": die_mid_body,
    "die-mid-stream": die_mid_stream,
    "quit-mid-stream": quit_mid_stream,
    "stall": stall,
    "garbage": garbage,
    "empty": empty,
    "error-event": error_event,
    "json-instead": json_instead,
    "split": split,
    "no-done": no_done,
    "crlf": crlf,
    "raw": raw,
}


async def embeddings(request: web.Request) -> web.StreamResponse:
    """Vectors of [dimension] numbers, the first the text's length; in the order of the texts, or not [shuffled]."""
    payload = await record(request)
    step = request.app[SCRIPT].next_step()
    if step["behaviour"] != "answer":
        return await BEHAVIOURS[step["behaviour"]](request, payload, step)
    texts = payload.get("input", "")
    texts = texts if isinstance(texts, list) else [texts]
    rest = [0.5] * (step.get("dimension", 2) - 1)
    data = [{"object": "embedding", "index": i, "embedding": [float(len(str(t))), *rest]} for i, t in enumerate(texts)]
    if step.get("shuffled"):
        data.reverse()
    usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
    return web.json_response({"object": "list", "data": data, "model": payload.get("model"), "usage": usage})


async def rerank(request: web.Request) -> web.StreamResponse:
    """Scores of the documents, [scores] or the first best, best first as servers send them."""
    payload = await record(request)
    step = request.app[SCRIPT].next_step()
    if step["behaviour"] != "answer":
        return await BEHAVIOURS[step["behaviour"]](request, payload, step)
    count = len(payload.get("documents", payload.get("texts", [])))
    scores = step.get("scores") or [1 / (i + 1) for i in range(count)]
    ranked = sorted(enumerate(scores[:count]), key=lambda item: -item[1])
    if "texts" in payload:  # TEI's shape
        return web.json_response([{"index": i, "score": score} for i, score in ranked])
    return web.json_response({"results": [{"index": i, "relevance_score": score} for i, score in ranked]})


async def models(request: web.Request) -> web.StreamResponse:
    data = [{"id": name, "object": "model", "created": 0, "owned_by": request.app[NAME]} for name in MODELS]
    return web.json_response({"object": "list", "data": data})


async def set_script(request: web.Request) -> web.StreamResponse:
    steps = await request.json()
    request.app[SCRIPT].steps = steps if isinstance(steps, list) else [steps]
    return web.json_response({"steps": len(request.app[SCRIPT].steps)})


async def requests_seen(request: web.Request) -> web.StreamResponse:
    script = request.app[SCRIPT]
    return web.json_response(
        {
            "items": script.requests,
            "cancelled": script.cancelled,
            "open": script.open,
            "most_open": script.most_open,
        }
    )


async def forget(request: web.Request) -> web.StreamResponse:
    script = request.app[SCRIPT]
    script.requests.clear()
    script.cancelled = 0
    script.most_open = 0
    script.steps = [{"behaviour": "answer"}]
    return web.json_response({})


def create_app(name: str = "fake") -> web.Application:
    app = web.Application(client_max_size=2**26)
    app[SCRIPT] = Script()
    app[NAME] = name
    for prefix in ("/v1", ""):
        app.router.add_post(f"{prefix}/chat/completions", serve_completion)
        app.router.add_post(f"{prefix}/completions", serve_completion)
        app.router.add_post(f"{prefix}/embeddings", embeddings)
        app.router.add_post(f"{prefix}/rerank", rerank)
        app.router.add_get(f"{prefix}/models", models)
    app.router.add_post("/_script", set_script)
    app.router.add_get("/_requests", requests_seen)
    app.router.add_delete("/_requests", forget)
    return app


async def serve(port: int, name: str) -> None:
    # handler_cancellation: a client that leaves cancels the handler, so that tests can see it.
    runner = web.AppRunner(create_app(name), handler_cancellation=True, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    address = runner.addresses[0]
    print(json.dumps({"port": address[1]}), flush=True)
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--name", default="fake")
    args = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(args.port, args.name))


if __name__ == "__main__":
    main()
