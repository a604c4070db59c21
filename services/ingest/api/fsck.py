"""Routes of the consistency check."""

from __future__ import annotations

from fastapi import APIRouter, Depends

from zhiwen.common.api.fsck import FsckReport
from zhiwen.common.auth.dependency import Needs
from zhiwen.common.web import problems
from zhiwen.ingest.api.dependencies import IngestDep
from zhiwen.ingest.fsck import Findings

router = APIRouter(prefix="/v1/fsck", tags=["operations"])


@router.get("", responses=problems(503), dependencies=[Depends(Needs("admin"))])
def check(ingest: IngestDep) -> FsckReport:
    """Compare ledger, originals and Milvus; change nothing."""
    return _report(ingest.fsck.run(repair=False))


@router.post("", responses=problems(503), dependencies=[Depends(Needs("admin"))])
def repair(ingest: IngestDep) -> FsckReport:
    """Compare and repair: remove what no document owns, and index missing chunks again from the originals."""
    findings = ingest.fsck.run(repair=True)
    ingest.broker.wake()
    return _report(findings)


def _report(findings: Findings) -> FsckReport:
    return FsckReport(
        clean=findings.clean,
        **{name: getattr(findings, name) for name in FsckReport.model_fields if name != "clean"},
    )
