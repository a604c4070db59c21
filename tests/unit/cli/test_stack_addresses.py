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


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"ZHIWEN_API_KEY": "a"}, "a"),
        ({"ZHIWEN_API_KEY": "a", "ZHIWEN_GATEWAY_API_KEY": "g"}, "g"),
        ({"ZHIWEN_API_KEY": "a", "ZHIWEN_GATEWAY_API_KEY": ""}, "a"),
    ],
)
def test_query_sends_the_key_of_the_settings_to_the_gateway(given: dict[str, str], expected: str) -> None:
    assert Stack(Path("data"), environment=given)._service_environment()["ZHIWEN_GATEWAY_API_KEY"] == expected


def test_without_a_key_in_the_settings_query_gets_one_of_its_own() -> None:
    first, second = (Stack(Path("data"), environment={})._service_environment() for _ in range(2))
    assert len(first["ZHIWEN_GATEWAY_API_KEY"]) > 40
    assert first["ZHIWEN_GATEWAY_API_KEY"] != second["ZHIWEN_GATEWAY_API_KEY"]
    assert "ZHIWEN_API_KEY" not in first  # every service would want it from every client


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
