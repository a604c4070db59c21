"""One `zhiwen up` for all tests that do not stop it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from zhiwen.cli.stack import OFFSETS, Stack, require_free_ports
from zhiwen.common.errors import ConfigurationError


def free_port_base(start: int = 41000) -> int:
    """Return a base of ports that are all free."""
    for base in range(start, start + 5000, 100):
        try:
            require_free_ports([base + offset for offset in OFFSETS.values()])
        except ConfigurationError:
            continue
        return base
    pytest.fail("no free ports")


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    running = Stack(tmp_path_factory.mktemp("stack"), free_port_base(), webui=False)
    running.start()
    yield running
    running.stop()
