"""Documents in, blocks of text out: the only package that reads file formats.

`ParserPool.parse` does the work in a child process with limits (`sandbox`), so that a hostile file fails its own
document only. `detect_media_type` is cheap and safe, and may be called in the API process.
"""

from __future__ import annotations

from zhiwen.ingest.parsing.detect.media import SUPPORTED_SUFFIXES, detect_media_type
from zhiwen.ingest.parsing.runtime.pool import ParseCancelled, ParserLimits, ParserPool

__all__ = ["SUPPORTED_SUFFIXES", "ParseCancelled", "ParserLimits", "ParserPool", "detect_media_type"]
