"""What both READMEs tell the reader to run, run against `zhiwen up`'s own stack: curl examples in order, and Python."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.conftest import ROOT
from tests.e2e.conftest import free_port_base
from zhiwen.cli.stack import Stack
from zhiwen.common.errors import ConfigurationError

READMES = ("README.md", "README.zh-CN.md")


def examples_of(name: str, kind: str, language: str) -> list[str]:
    """The code blocks of a page that are marked as tests of this kind."""
    marked = rf"<!-- test: {kind} -->\n```{language}\n(.*?)```"
    return re.findall(marked, (ROOT / name).read_text(encoding="utf-8"), re.DOTALL)


def require(program: str) -> None:
    """Skip the test where a program is not installed."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed; on Debian: apt-get install {program}")


@pytest.mark.parametrize("name", READMES)
def test_curl_examples_succeed(name: str, stack: Stack) -> None:
    require("curl")
    examples = examples_of(name, "curl", "bash")
    assert len(examples) >= 9
    environment = {**os.environ, **{key.upper(): url for key, url in stack.addresses.items()}}
    script = "set -euo pipefail\n" + "\necho\n".join(example for example in examples)
    done = subprocess.run(
        ["bash", "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr + done.stdout[-2000:]
    assert "15天" in done.stdout
    assert "45 minutes" in done.stdout  # the search finds what was uploaded just before
    assert "event: done" in done.stdout
    assert '"status":"ready"' in done.stdout


@pytest.mark.parametrize("name", READMES)
def test_python_lines_answer(name: str, stack: Stack) -> None:
    (lines,) = examples_of(name, "python", "python")
    addresses = {f"ZHIWEN_{key.upper()}_URL": url for key, url in stack.addresses.items()}
    try:
        done = subprocess.run(
            [sys.executable, "-c", lines],
            cwd=ROOT,
            env={**os.environ, **addresses, "PYTHONUTF8": "1"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "15天" in done.stdout
        assert "员工手册.docx" in done.stdout
    finally:
        (kb,) = re.findall(r'create_knowledge_base\("(.+)"\)', lines)
        httpx.delete(f"{stack.addresses['ingest']}/v1/knowledge-bases/{kb}")


@pytest.mark.parametrize("name", READMES)
def test_line_for_containers_makes_up_every_password(name: str, tmp_path: Path) -> None:
    require("openssl")
    (line,) = examples_of(name, "env", "bash")
    (tmp_path / "deploy").mkdir()
    shutil.copy(ROOT / "deploy/.env.example", tmp_path / "deploy")
    subprocess.run(["bash", "-euc", line], cwd=tmp_path, check=True)
    filled = dict(re.findall(r"(?m)^([A-Z_]+)=(.*)$", (tmp_path / "deploy/.env").read_text(encoding="utf-8")))
    required = set(re.findall(r"\$\{(\w+):\?", (ROOT / "deploy/docker-compose.yml").read_text(encoding="utf-8")))
    assert required <= filled.keys()
    assert len(set(filled.values())) == len(filled)
    assert all(re.fullmatch(r"[0-9a-f]{48}", secret) for secret in filled.values())


def test_launcher_refuses_a_folder_in_use(stack: Stack) -> None:
    second = Stack(Path(stack.data_dir), free_port_base(47000), webui=False)
    with pytest.raises(ConfigurationError, match="already runs on"):
        second.start()
