"""`deploy/.env.example` names every setting with its true default, and nothing that is none."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr, TypeAdapter
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

import zhiwen

ROOT = Path(__file__).parents[3]
EXAMPLE = (ROOT / "deploy/.env.example").read_text(encoding="utf-8")
COMPOSE = (ROOT / "deploy/docker-compose.yml").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text(encoding="utf-8")
ENTRY = re.compile(r"(?m)^(?P<comment># )?(?P<name>[A-Z][A-Z0-9_]+)=(?P<value>.*)$")
ENTRIES = {entry["name"]: entry["value"] for entry in ENTRY.finditer(EXAMPLE)}


def settings_classes() -> Iterator[type[BaseSettings]]:
    """Every settings class in a `settings` module of a package in `services`."""
    for package in pkgutil.iter_modules(zhiwen.__path__):
        name = f"zhiwen.{package.name}.settings"
        if not package.ispkg or find_spec(name) is None:
            continue
        for value in vars(importlib.import_module(name)).values():
            if isinstance(value, type) and issubclass(value, BaseSettings) and value is not BaseSettings:
                yield value


def settings() -> dict[str, FieldInfo]:
    """Environment variable -> field, over all services."""
    return {
        f"{cls.model_config.get('env_prefix', '')}{name}".upper(): field
        for cls in settings_classes()
        for name, field in cls.model_fields.items()
    }


SETTINGS = settings()


def plain(value: Any) -> Any:
    """Secrets as text, nothing as empty text."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return "" if value is None else value


def test_every_setting_starts_with_the_prefix_and_is_described() -> None:
    assert [name for name in SETTINGS if not name.startswith("ZHIWEN_")] == []
    assert [name for name, field in SETTINGS.items() if not field.description] == []


def test_every_setting_is_in_the_example() -> None:
    assert sorted(SETTINGS.keys() - ENTRIES.keys()) == []


def test_every_entry_is_a_setting_or_used_by_the_compose_file() -> None:
    used = set(re.findall(r"\$\{([A-Z_]+)", COMPOSE))
    assert sorted(ENTRIES.keys() - SETTINGS.keys() - used) == []


def test_no_entry_stands_twice() -> None:
    names = [entry["name"] for entry in ENTRY.finditer(EXAMPLE)]
    assert len(names) == len(set(names))


def test_every_variable_of_the_compose_file_is_in_the_example() -> None:
    assert sorted(set(re.findall(r"\$\{([A-Z_]+)", COMPOSE)) - ENTRIES.keys()) == []


def test_every_variable_that_the_compose_file_sets_is_a_setting() -> None:
    variables = {
        name
        for service in yaml.safe_load(COMPOSE)["services"].values()
        for name in service.get("environment", {})
        if name.startswith("ZHIWEN_")
    }
    assert variables
    assert sorted(variables - SETTINGS.keys()) == []


def test_every_variable_that_the_dockerfile_sets_is_a_setting() -> None:
    assert set(re.findall(r"\b(ZHIWEN_[A-Z_]+)=", DOCKERFILE)) <= SETTINGS.keys()


@pytest.mark.parametrize("name", sorted(SETTINGS.keys() & ENTRIES.keys()))
def test_example_shows_the_default(name: str) -> None:
    shown, default = ENTRIES[name], plain(SETTINGS[name].get_default(call_default_factory=True))
    if shown == "":
        assert default == ""
    else:
        annotation: Any = SETTINGS[name].annotation
        assert plain(TypeAdapter(annotation).validate_python(shown)) == default


@pytest.mark.parametrize("name", ENTRIES)
def test_entry_that_is_not_commented_out_waits_to_be_filled_in(name: str) -> None:
    [entry] = [entry for entry in ENTRY.finditer(EXAMPLE) if entry["name"] == name]
    if not entry["comment"]:
        assert entry["value"] == "", "a value here would be a default password or hide the default of the code"
