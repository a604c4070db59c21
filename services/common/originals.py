"""Originals: uploaded bytes, kept under their SHA-256 on disk or in an S3 bucket. boto3 is imported only here.

Both stores promise the same. When `put` returns, the bytes survive a power cut. The same bytes can be put any number of
times. Removing bytes that are not there is no error.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from zhiwen.common.errors import NotFound, ServiceError, Unavailable

if TYPE_CHECKING:
    from zhiwen.common.settings import CommonSettings

SHA256 = re.compile(r"[0-9a-f]{64}")
"""The name of an original. Files with other names do not belong to us and are left alone."""
PART = ".part"


class Originals(Protocol):
    """Where uploaded bytes live."""

    def put(self, sha256: str, source: Path) -> None:
        """Store the bytes of `source` under `sha256`, and return when they are durable. `source` stays as it is.

        Raises `Unavailable` (`disk-full`, `storage-unavailable`).
        """

    def open_file(self, sha256: str) -> contextlib.AbstractContextManager[Path]:
        """Yield the path of a local file with the bytes. Raises `NotFound` (`original-missing`)."""

    def exists(self, sha256: str) -> bool:
        """Return whether the bytes are stored."""

    def remove(self, sha256: str) -> None:
        """Remove the bytes, if they are there."""

    def list(self) -> Iterator[str]:
        """Yield the sha256 of every original."""

    def remove_leftovers(self, before: float) -> None:
        """Remove what killed `put` calls left behind, if it was last written before `before` (seconds since 1970)."""

    def ping(self) -> None:
        """Raise `Unavailable` (`storage-unavailable`) unless the store can be used."""


def open_originals(settings: CommonSettings) -> Originals:
    """Return the store of originals that the settings choose."""
    location = settings.originals_location
    if location.startswith("s3://"):
        return S3Originals(
            location,
            endpoint_url=settings.s3_endpoint_url or None,
            access_key=settings.s3_access_key.get_secret_value() or None,
            secret_key=settings.s3_secret_key.get_secret_value() or None,
            region=settings.s3_region,
        )
    return DiskOriginals(Path(location))


def _missing(sha256: str) -> NotFound:
    return NotFound("original-missing", f"The original file {sha256[:12]}… is no longer stored.")


def _fsync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class DiskOriginals:
    """Files `root/ab/abcdef…`, named by their content."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def _path(self, sha256: str) -> Path:
        return self.root / sha256[:2] / sha256

    def put(self, sha256: str, source: Path) -> None:
        target = self._path(sha256)
        if target.exists():
            return
        temporary = target.parent / f".{uuid.uuid4().hex}{PART}"
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with source.open("rb") as reading, temporary.open("wb") as writing:
                shutil.copyfileobj(reading, writing, 1 << 20)
                writing.flush()
                os.fsync(writing.fileno())
            temporary.replace(target)
            _fsync_folder(target.parent)
            _fsync_folder(self.root)
        except OSError as exc:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise storage_error(exc) from exc

    @contextmanager
    def open_file(self, sha256: str) -> Iterator[Path]:
        path = self._path(sha256)
        if not path.exists():
            raise _missing(sha256)
        yield path

    def exists(self, sha256: str) -> bool:
        return self._path(sha256).exists()

    def remove(self, sha256: str) -> None:
        self._path(sha256).unlink(missing_ok=True)

    def list(self) -> Iterator[str]:
        for path in self.root.glob("??/*"):
            if SHA256.fullmatch(path.name):
                yield path.name

    def remove_leftovers(self, before: float) -> None:
        for path in self.root.glob(f"??/.*{PART}"):
            with contextlib.suppress(FileNotFoundError):  # its `put` has ended meanwhile
                if path.stat().st_mtime < before:
                    path.unlink()

    def ping(self) -> None:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise storage_error(exc) from exc


def storage_error(exc: OSError) -> ServiceError:
    """Return the error that a client sees for an error of the disk: `disk-full` (507) or `storage-unavailable`."""
    if exc.errno in {errno.ENOSPC, errno.EDQUOT}:
        error: ServiceError = Unavailable(
            "disk-full", "There is no space left where uploads are kept; nothing was stored."
        )
        error.status = 507
        error.title = "Insufficient storage"
        return error
    return Unavailable("storage-unavailable", f"Uploads cannot be kept: {os.strerror(exc.errno or errno.EIO)}.")


class S3Originals:
    """Objects `prefix/sha256` in a bucket of any S3-compatible store. The bucket is created if it does not exist.

    `url` is `s3://bucket/prefix`. `endpoint_url` is the address of the store; None: Amazon S3 in `region`. `access_key`
    and `secret_key` are the credentials; None: boto3 looks for them in its usual places.
    """

    def __init__(
        self,
        url: str,
        *,
        endpoint_url: str | None,
        access_key: str | None,
        secret_key: str | None,
        region: str,
    ) -> None:
        import boto3
        from botocore.config import Config

        parts = urlsplit(url)
        self.bucket = parts.netloc
        self.prefix = f"{parts.path.strip('/')}/" if parts.path.strip("/") else ""
        self.client = boto3.client(
            "s3",
            endpoint_url=endpoint_url,
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
            region_name=region,
            config=Config(retries={"max_attempts": 3, "mode": "standard"}, connect_timeout=5, read_timeout=60),
        )
        self._bucket_exists = False

    def put(self, sha256: str, source: Path) -> None:
        try:
            with _s3_errors():
                self._ensure_bucket()
                if not self.exists(sha256):
                    self.client.upload_file(str(source), self.bucket, self.prefix + sha256)
        except Unavailable:
            self._bucket_exists = False  # the bucket may be gone: the next put checks
            raise

    @contextmanager
    def open_file(self, sha256: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="zhiwen-") as folder:
            path = Path(folder) / sha256
            with _s3_errors(sha256):
                self.client.download_file(self.bucket, self.prefix + sha256, str(path))
            yield path

    def exists(self, sha256: str) -> bool:
        try:
            with _s3_errors(sha256):
                self.client.head_object(Bucket=self.bucket, Key=self.prefix + sha256)
        except NotFound:
            return False
        return True

    def remove(self, sha256: str) -> None:
        with _s3_errors():
            self.client.delete_object(Bucket=self.bucket, Key=self.prefix + sha256)

    def list(self) -> Iterator[str]:
        with _s3_errors():
            pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.prefix)
            for page in pages:
                for item in page.get("Contents", []):
                    name = item["Key"].removeprefix(self.prefix)
                    if SHA256.fullmatch(name):
                        yield name

    def remove_leftovers(self, before: float) -> None:
        """Do nothing: S3 shows no half-written object, and the bucket's lifecycle rules remove broken uploads."""

    def ping(self) -> None:
        with _s3_errors():
            self._ensure_bucket()
            self.client.head_bucket(Bucket=self.bucket)

    def _ensure_bucket(self) -> None:
        if self._bucket_exists:
            return
        from botocore.exceptions import ClientError

        try:
            self.client.head_bucket(Bucket=self.bucket)
        except ClientError as exc:
            if _status(exc) != 404:
                raise
            self.client.create_bucket(Bucket=self.bucket)
        self._bucket_exists = True


def _status(exc: Any) -> int:
    return int(exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


@contextmanager
def _s3_errors(sha256: str = "") -> Iterator[None]:
    from boto3.exceptions import S3UploadFailedError
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as exc:
        if _status(exc) == 404 and sha256:
            raise _missing(sha256) from exc
        raise Unavailable("storage-unavailable", "The store of originals refused the request.") from exc
    except (BotoCoreError, S3UploadFailedError) as exc:
        raise Unavailable("storage-unavailable", "The store of originals does not answer.") from exc
