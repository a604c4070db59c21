"""The YAML file of upstreams, keys and limits: read, checked, and turned into frozen values.

`ConfigurationError` says in one sentence what is wrong. PyYAML is used in this module only.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError, model_validator
from yarl import URL

from zhiwen.common.errors import ConfigurationError
from zhiwen.llm_gateway.settings import GatewaySettings


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelConfig(_Part):
    """A model as the upstream calls it, and the names under which clients may ask for it. `*` matches anything."""

    name: str = Field(min_length=1)
    aliases: tuple[str, ...] = ()


class TimeoutConfig(_Part):
    """Time limits in seconds: to connect, to the first byte, and for a silence. None means the gateway's setting."""

    connect: float | None = Field(None, gt=0)
    first_byte: float | None = Field(None, gt=0)
    idle: float | None = Field(None, gt=0)


class HealthCheckConfig(_Part):
    """The health check: GET `base_url` + `path` every `interval` seconds. Only 502, 503 and 504 are unhealthy."""

    path: str = "/models"
    interval: float = Field(10.0, gt=0)
    timeout: float = Field(3.0, gt=0)
    enabled: bool = True


class BreakerPolicy(_Part):
    """When a circuit breaker opens, and for how long.

    It opens after `failures` failures in a row. It also opens when `window` seconds hold at least `least` calls, and
    the share `rate` of them failed. It stays open for `open_seconds`, and twice as long after each failed probe, up to
    `longest` seconds.
    """

    failures: int = Field(5, ge=1)
    rate: float = Field(0.5, gt=0, le=1)
    least: int = Field(20, ge=1)
    window: float = Field(30.0, gt=0)
    open_seconds: float = Field(5.0, gt=0)
    longest: float = Field(60.0, gt=0)


class RetryPolicy(_Part):
    """How often a request is tried, and how long the gateway waits between two attempts.

    `attempts` includes the first one. Waits grow from `base` to `cap` seconds, with full jitter. The gateway gives up
    when a `Retry-After` is longer than `longest_wait` seconds.
    """

    attempts: int = Field(3, ge=1)
    base: float = Field(0.2, ge=0)
    cap: float = Field(2.0, ge=0)
    longest_wait: float = Field(10.0, ge=0)


class QueuePolicy(_Part):
    """How many requests may wait for a free upstream. Further requests get 429."""

    size: int = Field(100, ge=0)


def _model_of(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


class UpstreamConfig(_Part):
    """One model server. The lowest `priority` is asked first. Servers of one priority share calls by `weight`."""

    name: str = Field(min_length=1)
    base_url: str
    api_key: SecretStr = SecretStr("")
    api_key_env: str = ""
    headers: Mapping[str, str] = Field(default_factory=dict)
    models: tuple[Annotated[ModelConfig, BeforeValidator(_model_of)], ...] = (ModelConfig(name="*"),)
    weight: float = Field(1.0, gt=0)
    priority: int = 0
    max_concurrent: int = Field(1000, ge=1)
    ask_usage: bool = True
    timeouts: TimeoutConfig = TimeoutConfig()
    health: HealthCheckConfig = HealthCheckConfig()

    @property
    def root(self) -> str:
        """`base_url` without a slash at its end, and with `/v1` if it has no path."""
        url = URL(self.base_url)
        return f"{url.with_path('/v1')}" if url.path in ("", "/") else self.base_url.rstrip("/")


class KeyLimits(_Part):
    """What the key of this name may do. None means no limit. The name `*` is for keys that are not listed."""

    name: str = Field(min_length=1)
    models: tuple[str, ...] = ("*",)
    requests_per_minute: int | None = Field(None, ge=0)
    tokens_per_minute: int | None = Field(None, ge=0)

    @property
    def counts(self) -> bool:
        """True when requests or tokens have to be counted."""
        return self.requests_per_minute is not None or self.tokens_per_minute is not None


class GatewayConfig(_Part):
    """Everything the YAML file can say."""

    upstreams: tuple[UpstreamConfig, ...] = ()
    default_model: str = ""
    extractive: bool | None = None
    keys: tuple[KeyLimits, ...] = ()
    retry: RetryPolicy = RetryPolicy()
    breaker: BreakerPolicy = BreakerPolicy()
    queue: QueuePolicy = QueuePolicy()

    @property
    def serves_extractive(self) -> bool:
        """True when the built-in answerer serves: as the file says, or by default when there is no upstream."""
        return not self.upstreams if self.extractive is None else self.extractive

    @model_validator(mode="after")
    def _consistent(self) -> GatewayConfig:
        for what, names in (("upstream", [u.name for u in self.upstreams]), ("key", [k.name for k in self.keys])):
            if repeated := {name for name in names if names.count(name) > 1}:
                raise ValueError(f"{what} {sorted(repeated)[0]} is listed twice")
        for upstream in self.upstreams:
            if URL(upstream.base_url).scheme not in ("http", "https") or not URL(upstream.base_url).host:
                raise ValueError(f"base_url of {upstream.name} is not an HTTP address: {upstream.base_url}")
        return self


def load_config(settings: GatewaySettings) -> GatewayConfig:
    """Read the YAML file, or make a configuration of the three ZHIWEN_LLM_… settings if there is no file.

    Raises `ConfigurationError`.
    """
    if settings.gateway_config is not None:
        return _with_keys(parse_config(_read(settings.gateway_config), source=str(settings.gateway_config)))
    if not settings.llm_base_url:
        return GatewayConfig()
    return parse_config(
        {
            "upstreams": [{"name": "llm", "base_url": settings.llm_base_url, "api_key": settings.llm_api_key}],
            "default_model": settings.llm_model,
        },
        source="ZHIWEN_LLM_BASE_URL",
    )


def parse_config(data: object, *, source: str) -> GatewayConfig:
    """Check plain data. Raises `ConfigurationError`, which names `source` and the first thing that is wrong."""
    try:
        return GatewayConfig.model_validate(data if data is not None else {})
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(f"{source}: {place + ': ' if place else ''}{first['msg']}") from None


def _read(path: Path) -> object:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ConfigurationError(f"The gateway's file {path} cannot be read: {exc.strerror}.") from exc
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"The gateway's file {path} is not valid YAML: {exc}") from exc


def _with_keys(config: GatewayConfig) -> GatewayConfig:
    return config.model_copy(update={"upstreams": tuple(_with_key(upstream) for upstream in config.upstreams)})


def _with_key(upstream: UpstreamConfig) -> UpstreamConfig:
    """Return the upstream with the key from its environment variable."""
    if not upstream.api_key_env:
        return upstream
    value = os.environ.get(upstream.api_key_env)
    if not value:
        raise ConfigurationError(
            f"Upstream {upstream.name} takes its key from {upstream.api_key_env}, which is not set."
        )
    return upstream.model_copy(update={"api_key": SecretStr(value)})
