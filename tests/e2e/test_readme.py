"""Every curl example of both READMEs, run in order against `zhiwen up`'s own stack."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.e2e.conftest import free_port_base
from zhiwen.cli.stack import Stack
from zhiwen.common.errors import ConfigurationError

EXAMPLE = re.compile(r"<!-- test: curl -->\n```bash\n(.*?)```", re.DOTALL)


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
def test_curl_examples_succeed(name: str, stack: Stack) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed; on Debian: apt-get install curl")
    examples = EXAMPLE.findall((ROOT / name).read_text(encoding="utf-8"))
    assert len(examples) >= 9
    environment = {**os.environ, **{key.upper(): url for key, url in stack.addresses.items()}}
    script = "set -euo pipefail\n" + "\necho\n".join(example for example in examples)
    done = subprocess.run(
        ["bash", "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr + done.stdout[-2000:]
    assert "15天" in done.stdout
    assert "event: done" in done.stdout
    assert '"status":"ready"' in done.stdout


def test_launcher_refuses_a_folder_in_use(stack: Stack) -> None:
    second = Stack(Path(stack.data_dir), free_port_base(47000), webui=False)
    with pytest.raises(ConfigurationError, match="already runs on"):
        second.start()
