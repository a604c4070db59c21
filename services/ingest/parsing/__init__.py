"""Turns documents into blocks of text. Only this package reads file formats.

`ParserPool.parse` works in a child process with limits (`sandbox`), so a hostile file makes only its own document fail.
`detect_media_type` is cheap and safe, and may run in the API process.
"""

from __future__ import annotations

from zhiwen.ingest.parsing.detect.media import SUPPORTED_SUFFIXES, detect_media_type
from zhiwen.ingest.parsing.runtime.pool import ParseCancelled, ParserLimits, ParserPool

__all__ = ["SUPPORTED_SUFFIXES", "ParseCancelled", "ParserLimits", "ParserPool", "detect_media_type"]
