"""`make demo`: the first command of the README, twice on one folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import sqlalchemy as sa

from zhiwen.cli.stack import OFFSETS

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def free_base() -> int:
    taken = {c.laddr.port for c in psutil.net_connections("tcp") if c.laddr}
    return next(b for b in range(31_000, 60_000, 100) if not taken & {b + offset for offset in OFFSETS.values()})


def demo(folder: Path, here: Path) -> str:
    """Run the demo from the folder `here`; return what it printed."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("ZHIWEN_")}
    command = [
        *(sys.executable, "-m", "zhiwen.cli.demo", "--data-dir", str(folder)),
        *("--port-base", str(free_base()), "--examples", str(EXAMPLES)),
    ]
    ended = subprocess.run(command, cwd=here, env=clean, capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


def versions(folder: Path) -> list[tuple[object, ...]]:
    """Return what the ledger says of every document: how often it was tried, and when it changed last."""
    engine = sa.create_engine(f"sqlite:///{folder / 'ledger.db'}")
    with engine.connect() as connection:
        query = "SELECT name, version, live_version, status, attempts, updated_at FROM documents ORDER BY name"
        rows = [tuple(row) for row in connection.exec_driver_sql(query)]
    engine.dispose()
    return rows


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_demo_answers_and_its_second_run_embeds_nothing(tmp_path: Path) -> None:
    folder, here = tmp_path / "demo", tmp_path / "here"
    here.mkdir()
    printed = demo(folder, here)
    assert "[1]" in printed
    assert "根据已知信息无法回答该问题" in printed  # the question whose answer is not there
    first = versions(folder)
    assert len(first) >= 12
    assert {row[3] for row in first} == {"ready"}
    assert "[1]" in demo(folder, here)
    assert versions(folder) == first
