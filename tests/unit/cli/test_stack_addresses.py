"""Where `zhiwen up` listens: the ports it needs, and sockets whose paths the kernel can hold."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

import pytest

from zhiwen.cli.stack import Stack


def test_only_what_is_started_needs_its_port() -> None:
    with_page, without = Stack(Path("data"), 8000), Stack(Path("data"), 8000, webui=False)
    assert with_page.ports == {**without.ports, "page": 8080}
    assert sorted(without.ports.values()) == [8001, 8002, 8003, 8004]
    assert "page" not in without.addresses


@pytest.mark.parametrize("name", ["短", "很长的资料文件夹" * 2, "long" * 20])
def test_sockets_can_be_bound_whatever_the_name_of_the_data_folder(tmp_path: Path, name: str) -> None:
    data = tmp_path / name
    data.mkdir()
    folder = Stack(data)._socket_folder()
    try:
        path = folder / "milvus.sock"
        assert len(os.fsencode(path)) < 108
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(path))
    finally:
        shutil.rmtree(folder)
