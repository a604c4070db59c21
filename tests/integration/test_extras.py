"""Each service starts with nothing but its own extra: what belongs to another is not there."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from starlette.testclient import TestClient

HEAVY = ["torch", "transformers", "sentence_transformers", "gradio", "spacy"]
PARSERS = ["unstructured", "pypdfium2", "langchain_text_splitters", "docx", "openpyxl"]
WEB = ["fastapi", "starlette", "uvicorn", "pydantic_settings", "structlog", "prometheus_client", "orjson", "typer"]
STORES = ["sqlalchemy", "alembic", "numpy", "pymilvus", "celery", "redis", "boto3", "openai", "aiohttp"]
FORBIDDEN = {
    "zhiwen": ["httpx", "httpx_sse", "pydantic", *WEB, *STORES],
    "zhiwen.client": [*HEAVY, *PARSERS, *WEB, *STORES],
    "zhiwen.llm_gateway.app": [*HEAVY, *PARSERS, "pymilvus", "celery", "openai", "boto3", "typer"],
    "zhiwen.ingest.api.app": [*HEAVY, *PARSERS, "rjieba", "Stemmer", "openai", "aiohttp", "typer"],
    "zhiwen.query.api.app": [*HEAVY, *PARSERS, "celery", "aiohttp", "typer", "boto3"],
    "zhiwen.ingest.worker.main": [*HEAVY, "unstructured", "openai", "aiohttp", "typer"],
    "zhiwen.webui.app": ["torch", "pymilvus", "celery", "sqlalchemy", "openai", *PARSERS],
    "zhiwen.cli.main": [*HEAVY, *PARSERS, "celery", "openai", "pymilvus"],
}

PROGRAM = """
import importlib, sys
for name in {forbidden!r}:
    sys.modules[name] = None  # an import of it raises ImportError
importlib.import_module({module!r})
"""


@pytest.mark.parametrize("module", FORBIDDEN)
def test_service_imports_without_the_packages_of_others(module: str) -> None:
    program = PROGRAM.format(forbidden=FORBIDDEN[module], module=module)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("service", ["ingest.api", "query.api", "llm_gateway"])
def test_docs_need_nothing_from_the_network(service: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZHIWEN_DATA_DIR", str(tmp_path))
    app = importlib.import_module(f"zhiwen.{service}.app").create_app()
    client = TestClient(app)
    page = client.get("/docs").text
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', page)
    for path in re.findall(r'(?:src|href)="(/[^"]+)"', page):
        assert client.get(path).status_code == 200, path
