"""Every curl example of both READMEs, run in order against `zhiwen up`'s own stack."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.cli.launcher import OFFSETS, Stack, require_free_ports
from services.common.errors import ConfigurationError
from tests.conftest import ROOT

EXAMPLE = re.compile(r"<!-- test: curl -->\n```bash\n(.*?)```", re.DOTALL)


def free_port_base(start: int = 41000) -> int:
    """Return a base of ports that are all free."""
    for base in range(start, start + 5000, 100):
        try:
            require_free_ports([base + offset for offset in OFFSETS.values()])
        except ConfigurationError:
            continue
        return base
    pytest.fail("no free ports")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    running = Stack(tmp_path_factory.mktemp("readme"), free_port_base(), webui=False)
    running.start()
    yield running
    running.stop()


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
