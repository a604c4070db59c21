"""Settings of the page."""

from __future__ import annotations

from pydantic import Field

from zhiwen.common.settings import CommonSettings


class WebuiSettings(CommonSettings):
    """Settings of the page. With `ZHIWEN_API_KEY` it sends that key to the services, and asks its visitors for it."""

    webui_port: int = Field(8080, ge=1, le=65535, description="Port of the page.")
    ingest_url: str = Field("http://127.0.0.1:8001", description="Where clients reach the ingest API.")
    query_url: str = Field("http://127.0.0.1:8002", description="Where clients reach the query API.")
