"""Routes that accept uploads."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from zhiwen.common.api.documents import Uploaded, UploadItem
from zhiwen.common.auth.dependency import Needs
from zhiwen.common.ledger import OnDuplicate
from zhiwen.common.web import problems
from zhiwen.ingest.api.dependencies import BaseDep, IngestDep
from zhiwen.ingest.upload.options import ON_DUPLICATE, checked_options

router = APIRouter(prefix="/v1/knowledge-bases/{kb}/documents", tags=["documents"])

FORM_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {"type": "array", "items": {"type": "string", "format": "binary"}},
                        "metadata": {"type": "string", "description": "A JSON object.", "example": '{"部门": "人事"}'},
                        "on_duplicate": {"type": "string", "enum": list(ON_DUPLICATE), "default": "keep"},
                    },
                }
            }
        },
    }
}
RAW_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/octet-stream": {
                "schema": {"type": "string", "format": "binary"},
                "example": "员工年假为十天。",
            }
        },
    }
}


@router.post(
    "",
    status_code=202,
    responses=problems(404, 409, 413, 429, 503, 507),
    openapi_extra=FORM_BODY,
    dependencies=[Depends(Needs("write"))],
)
async def upload_documents(request: Request, ingest: IngestDep, base: BaseDep) -> Uploaded:
    """Upload files (field `file`, repeated; a zip is unpacked). The response comes when all bytes are stored durably.

    Each file has its own outcome: one bad file never fails the others.
    """
    return Uploaded(items=await ingest.uploads.accept_form(request, base))


@router.put(
    "/by-name/{name:path}",
    status_code=202,
    responses=problems(404, 409, 413, 415, 429, 503, 507),
    openapi_extra=RAW_BODY,
    dependencies=[Depends(Needs("write"))],
)
async def put_document(
    request: Request,
    ingest: IngestDep,
    base: BaseDep,
    name: str,
    on_duplicate: OnDuplicate = "keep",
    metadata: Annotated[str | None, Query(description="A JSON object.")] = None,
) -> UploadItem:
    """Upload one file under a name. The raw body is the file."""
    return await ingest.uploads.accept_body(request, base, name, checked_options(metadata, on_duplicate))
