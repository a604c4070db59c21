"""Settings of the command line: the addresses of the services, and the knowledge base."""

from __future__ import annotations

from pydantic import Field

from zhiwen.common.settings import CommonSettings


class CliSettings(CommonSettings):
    """Settings of the command line. Each is also an option of the commands that use it."""

    ingest_url: str = Field("http://127.0.0.1:8001", description="Where clients reach the ingest API.")
    query_url: str = Field("http://127.0.0.1:8002", description="Where clients reach the query API.")
    gateway_url: str = Field("http://127.0.0.1:8003", description="Where the LLM gateway listens.")
    kb: str = Field("", description="Knowledge base that the command line uses without --kb.")
