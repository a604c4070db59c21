"""A gateway under test: the real application on a real socket, in a thread of the test process."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import uvicorn

from zhiwen.common.embedding.base import Embedder
from zhiwen.llm_gateway.accounting.usage import WriteUsage
from zhiwen.llm_gateway.app import create_app
from zhiwen.llm_gateway.settings import GatewaySettings


@contextlib.contextmanager
def serve_in_thread(app: Any) -> Iterator[str]:
    """Serve an ASGI application with uvicorn on a free port; yields its base URL."""
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, access_log=False, timeout_graceful_shutdown=5)
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the application did not start"
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@contextlib.contextmanager
def gateway(
    folder: Path,
    config: Mapping[str, Any] | None = None,
    *,
    embedder: Embedder | None = None,
    write_usage: WriteUsage | None = None,
    **settings: Any,
) -> Iterator[str]:
    """Run a gateway with this YAML file (JSON is YAML) and these settings."""
    folder.mkdir(parents=True, exist_ok=True)
    if config is not None:
        settings["gateway_config"] = write_config(folder, config)
    app = create_app(GatewaySettings(data_dir=folder, **settings), embedder=embedder, write_usage=write_usage)
    with serve_in_thread(app) as url:
        yield url


def write_config(folder: Path, config: Mapping[str, Any]) -> Path:
    path = folder / "gateway.yaml"
    path.write_text(json.dumps(config), encoding="utf-8")
    return path


def upstream(name: str, base_url: str, models: Sequence[Any] = ("fake-model",), **more: Any) -> dict[str, Any]:
    """One entry of `upstreams`, its health not checked, so that requests alone say what is known of it."""
    return {"name": name, "base_url": base_url, "models": list(models), "health": {"enabled": False}, **more}
