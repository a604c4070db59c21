"""Settings come from the environment, and no service listens beyond this machine without a key."""

from __future__ import annotations

import pytest

from zhiwen.common.errors import ConfigurationError
from zhiwen.common.settings import CommonSettings, require_loopback_or_key


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "::1", "[::1]"])
def test_loopback_needs_no_key(host: str) -> None:
    require_loopback_or_key(host, has_key=False)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "", "10.0.0.1", "192.168.1.5", "example.org", "localhost.example.org", "128.0.0.1"]
)
def test_anything_else_needs_a_key(host: str) -> None:
    with pytest.raises(ConfigurationError, match="loopback only"):
        require_loopback_or_key(host, has_key=False)
    require_loopback_or_key(host, has_key=True)


def test_settings_come_from_the_environment_and_hide_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZHIWEN_API_KEY", "hunter2")
    monkeypatch.setenv("ZHIWEN_DATA_DIR", "/somewhere")
    monkeypatch.setenv("ZHIWEN_ORIGINALS_URL", "")
    settings = CommonSettings()
    assert settings.api_key.get_secret_value() == "hunter2"
    assert "hunter2" not in repr(settings)
    assert settings.ledger_url == "sqlite:////somewhere/ledger.db"
    assert settings.originals_location == "/somewhere/originals"
