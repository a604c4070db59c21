"""Settings of the ingest API and its worker."""

from __future__ import annotations

from pydantic import Field

from zhiwen.common.settings import CommonSettings, EmbeddingSettings

MEBIBYTE = 1024 * 1024


class IngestSettings(CommonSettings, EmbeddingSettings):
    """Settings of the ingest API."""

    ingest_port: int = Field(8001, ge=1, le=65535, description="Port of the ingest API.")
    max_upload_bytes: int = Field(200 * MEBIBYTE, gt=0, description="Largest file that is accepted, in bytes.")
    max_request_bytes: int = Field(1024 * MEBIBYTE, gt=0, description="Largest upload request, in bytes.")
    max_archive_files: int = Field(2000, gt=0, description="Most files that one zip may hold.")
    max_archive_bytes: int = Field(1024 * MEBIBYTE, gt=0, description="Most bytes that one zip may unpack to.")
    max_queue: int = Field(20000, gt=0, description="Unfinished jobs above which uploads answer 429.")
    chunk_size: int = Field(240, ge=16, description="Tokens in a chunk of a new knowledge base.")
    chunk_overlap: int = Field(40, ge=0, description="Tokens that neighbouring chunks share.")


class WorkerSettings(IngestSettings):
    """Settings of the Celery worker."""

    worker_concurrency: int = Field(4, ge=1, description="Documents that one worker handles at the same time.")
    worker_metrics_port: int = Field(
        0, ge=0, le=65535, description="Port of the worker's metrics, open once it is ready; 0: none."
    )
    parser_processes: int = Field(2, ge=1, description="Sandboxed parser children of one worker.")
    parser_memory_bytes: int = Field(2048 * MEBIBYTE, gt=0, description="Memory that parsing one document may take.")
    parser_cpu_seconds: float = Field(120.0, gt=0, description="CPU seconds that parsing one document may take.")
    parser_wall_seconds: float = Field(180.0, gt=0, description="Seconds that parsing one document may take.")
    parser_output_bytes: int = Field(64 * MEBIBYTE, gt=0, description="Most text that one document may give, in bytes.")
    lease_seconds: float = Field(30.0, gt=1, description="Seconds after which a silent worker loses its job.")
    reconcile_seconds: float = Field(5.0, gt=0, description="Seconds between two rounds of the reconciler.")
