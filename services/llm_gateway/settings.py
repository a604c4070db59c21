"""Settings of the gateway. The settings of single upstreams are in a YAML file (`config`)."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr

from zhiwen.common.settings import CommonSettings


class GatewaySettings(CommonSettings):
    """Environment variables `ZHIWEN_<NAME>`. Times are in seconds and sizes in bytes."""

    gateway_port: int = Field(8003, ge=0, le=65535, description="Port of the gateway.")
    gateway_api_key: SecretStr = Field(
        SecretStr(""), description="Key that query sends; the gateway takes it beside those of `zhiwen keys create`."
    )
    llm_base_url: str = Field(
        "",
        description="Any OpenAI-compatible server, for example http://127.0.0.1:8000/v1; empty: the built-in "
        "extractive answerer, which quotes and is no language model.",
    )
    llm_api_key: SecretStr = Field(SecretStr(""), description="Key that the model server wants, if any.")
    llm_model: str = Field(
        "", description="Model to ask there when a request names none; empty: the first one the server lists."
    )
    gateway_config: Path | None = Field(
        None,
        description="YAML file with several upstreams, routing, keys and limits; replaces the three ZHIWEN_LLM_… "
        "settings and is read again when it changes.",
    )
    gateway_connect_timeout: float = Field(5.0, gt=0, description="Seconds to connect to a model server.")
    gateway_first_byte_timeout: float = Field(
        120.0, gt=0, description="Seconds until a model server sends the first byte of its answer."
    )
    gateway_idle_timeout: float = Field(60.0, gt=0, description="Longest silence in seconds within an answer.")
    gateway_deadline: float = Field(
        600.0, gt=0, description="Seconds one request may take in all, queueing and retries included."
    )
    gateway_max_request_bytes: int = Field(
        16 * 2**20, gt=0, description="Largest request body in bytes; more is answered 413."
    )
    gateway_max_response_bytes: int = Field(
        64 * 2**20, gt=0, description="Largest answer of a model server, in bytes, that is not streamed."
    )
    gateway_redis_url: SecretStr = Field(
        SecretStr(""),
        description="Redis that counts the limits of keys for several gateways together; empty: each counts its own.",
    )
    gateway_usage_interval: float = Field(
        5.0, gt=0, description="Seconds between two writes of the used tokens to the ledger."
    )
    gateway_embeddings: bool = Field(
        False,
        description="Serve the built-in embedding model at /v1/embeddings (needs the transformers extra).",
    )
    gateway_export_dir: Path | None = Field(
        None, description="Folder for conversations as JSON Lines; empty: none are kept."
    )
    gateway_export_interval: float = Field(3600.0, gt=0, description="Seconds until a new export file is begun.")
