"""The settings that services share. Each service extends `CommonSettings` with its own.

A setting is an environment variable `ZHIWEN_<NAME>`. A test checks that `deploy/.env.example` documents every one. No
setting is read at import: `create_app()` and `main()` build the settings and pass values down.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from zhiwen.common.addresses import is_loopback
from zhiwen.common.errors import ConfigurationError

BUILT_IN_MODEL = "zhiwen-static-v2"
RETIRED_MODELS = frozenset({"zhiwen-static-v1"})
"""Built-in models of earlier releases. Nothing can embed a question as they did, so their indexes are rebuilt."""


class CommonSettings(BaseSettings):
    """The settings of every service: where state is kept, which address to listen on, and how to log."""

    model_config = SettingsConfigDict(env_prefix="ZHIWEN_", frozen=True, extra="ignore", env_ignore_empty=True)

    data_dir: Path = Field(Path("zhiwen-data"), description="Folder for everything that is kept on this machine.")
    database_url: str = Field(
        "",
        description="SQLAlchemy URL of the ledger; empty: SQLite in the data folder. PostgreSQL: postgresql+psycopg://…",
    )
    redis_url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"),
        description="Celery's broker. `redis+socket:///path` for a unix socket.",
    )
    milvus_url: str = Field("http://127.0.0.1:19530", description="Milvus, or `unix:/path` of a Milvus Lite server.")
    milvus_token: SecretStr = Field(SecretStr(""), description="`user:password` or an API key of the Milvus server.")
    milvus_timeout: float = Field(30.0, gt=0, description="Seconds that one Milvus call may take.")
    originals_url: str = Field(
        "", description="Where uploaded bytes are kept; empty: the data folder. A bucket: s3://bucket/prefix"
    )
    s3_endpoint_url: str = Field("", description="Endpoint of an S3-compatible store, for example MinIO's.")
    s3_access_key: SecretStr = Field(SecretStr(""), description="Access key of the S3-compatible store.")
    s3_secret_key: SecretStr = Field(SecretStr(""), description="Secret key of the S3-compatible store.")
    s3_region: str = Field("us-east-1", description="Region of the S3-compatible store.")
    host: str = Field("127.0.0.1", description="Address to listen on. Anything but loopback needs an API key.")
    api_key: SecretStr = Field(
        SecretStr(""), description="An admin key that is always valid, in addition to those of `zhiwen keys create`."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Least severe log line shown.")
    log_format: Literal["json", "console"] = Field("json", description="json for machines, console for people.")

    @property
    def ledger_url(self) -> str:
        """The SQLAlchemy URL of the ledger."""
        return self.database_url or f"sqlite:///{self.data_dir.absolute() / 'ledger.db'}"

    @property
    def originals_location(self) -> str:
        """Where originals are kept: a folder, or an `s3://` URL."""
        return self.originals_url or str(self.data_dir.absolute() / "originals")


class EmbeddingSettings(BaseSettings):
    """The settings of embedding: the worker embeds passages, and query embeds questions."""

    model_config = SettingsConfigDict(env_prefix="ZHIWEN_", frozen=True, extra="ignore", env_ignore_empty=True)

    embedding_model: str = Field(
        BUILT_IN_MODEL,
        description="Model of new knowledge bases: the built-in one, a sentence-transformers name or folder, openai:X.",
    )
    embedding_base_url: str = Field(
        "", description="OpenAI-compatible server of `openai:` models, ending in /v1: http://localhost:11434/v1"
    )
    embedding_api_key: SecretStr = Field(SecretStr(""), description="Key that the embedding server wants, if any.")
    embedding_max_tokens: int = Field(510, ge=32, description="Tokens that an `openai:` model reads.")
    embedding_backend: Literal["torch", "openvino", "onnx"] = Field(
        "torch", description="What computes a sentence-transformers model; the last two need an extra of that name."
    )
    embedding_device: str = Field("auto", description="cpu, cuda, cuda:0, …; auto: CUDA where there is one.")
    embedding_dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="Numbers that torch computes with; auto: bfloat16 where the hardware has it."
    )
    embedding_threads: int = Field(0, ge=0, description="Threads one embedding may use; 0: the library decides.")


def require_loopback_or_key(host: str, *, has_key: bool) -> None:
    """Raise `ConfigurationError` when `host` is not a loopback address and no API key exists."""
    if has_key or is_loopback(host):
        return
    raise ConfigurationError(
        f"No API key is configured, so this service listens on loopback only and will not bind {host}. "
        "Create one with `zhiwen keys create --scope admin`, or set ZHIWEN_API_KEY."
    )
