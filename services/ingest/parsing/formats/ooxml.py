"""The package format of Office Open XML (ECMA-376): a zip of XML parts that refer to each other by relationships."""

from __future__ import annotations

import zipfile
from pathlib import Path

from lxml import etree

from zhiwen.common.errors import DocumentError
from zhiwen.ingest.parsing.formats.markup import attribute, local_name, parse_xml, resolve_part


class Package:
    """An open package, to be used with `with`. Parts are parsed on demand and never with entities."""

    def __init__(self, path: Path) -> None:
        self._zip = zipfile.ZipFile(path)
        self._names = {name.lower().lstrip("/"): name for name in self._zip.namelist()}

    def __enter__(self) -> Package:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def part(self, name: str) -> etree._Element | None:
        """Return the root of a part; None if the package has no such part."""
        real = self._names.get(name.lower())
        return parse_xml(self._zip.read(real)) if real is not None else None

    def required(self, name: str) -> etree._Element:
        """Return the root of a part. Raises DocumentError `corrupt` if it is missing."""
        root = self.part(name)
        if root is None:
            raise DocumentError(
                "corrupt", "This file lacks its main part. Open it in its own program and save it again."
            )
        return root

    def names(self, prefix: str) -> list[str]:
        """Return the names of the parts that begin with `prefix`."""
        return sorted(name for name in self._names if name.startswith(prefix))

    def relations(self, name: str) -> dict[str, tuple[str, str]]:
        """Return the relationships of a part by id: (kind, zip name of the target). External ones are left out."""
        folder, _, leaf = name.rpartition("/")
        root = self.part(f"{folder}/_rels/{leaf}.rels" if folder else f"_rels/{leaf}.rels")
        found: dict[str, tuple[str, str]] = {}
        for relation in root if root is not None else ():
            target, kind = attribute(relation, "Target"), attribute(relation, "Type")
            if local_name(relation) == "relationship" and target and attribute(relation, "TargetMode") != "External":
                key = attribute(relation, "Id") or ""
                found[key] = ((kind or "").rpartition("/")[2], resolve_part(name, target))
        return found

    def main_part(self, fallback: str) -> str:
        """Return the zip name of the main part; `fallback` if the package does not name it."""
        kinds = dict(self.relations("").values())
        return kinds.get("officeDocument", fallback)
