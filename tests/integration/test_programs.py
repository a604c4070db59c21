"""A program without its extra says what to install, and one with it runs."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from types import ModuleType

import pytest

from tests.conftest import ROOT
from zhiwen import programs

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SCRIPTS: dict[str, str] = PROJECT["scripts"]
LIBRARIES = {
    "zhiwen": ("typer", "zhiwen.cli.main", "cli"),
    "zhiwen-ingest": ("celery", "zhiwen.ingest.api.app", "ingest"),
    "zhiwen-worker": ("celery", "zhiwen.ingest.worker.main", "worker"),
    "zhiwen-query": ("openai", "zhiwen.query.api.app", "query"),
    "zhiwen-gateway": ("aiohttp", "zhiwen.llm_gateway.app", "gateway"),
    "zhiwen-webui": ("fastapi", "zhiwen.webui.app", "webui"),
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_program_without_its_extra_says_what_to_install(script: str) -> None:
    library, _module, extra = LIBRARIES[script]
    function = SCRIPTS[script].partition(":")[2]
    program = f"import sys; sys.modules[{library!r}] = None; from zhiwen import programs; programs.{function}()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr == f"zhiwen: the package {library} is missing. Install it with: pip install 'zhiwen[{extra}]'\n"
    assert extra in PROJECT["optional-dependencies"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_program_runs_the_main_of_its_module(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _library, module, _extra = LIBRARIES[script]
    ran: list[str] = []
    stand_in = ModuleType(module)
    stand_in.__dict__["main"] = lambda: ran.append(module)
    monkeypatch.setitem(sys.modules, module, stand_in)
    getattr(programs, SCRIPTS[script].partition(":")[2])()
    assert ran == [module]
