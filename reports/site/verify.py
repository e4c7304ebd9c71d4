"""Is a site what its manifest says: every hash again, nothing missing or added, and the board builds these pages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from reports.board.stored import read_board
from reports.site.build import MANIFEST, files, read_manifest_of


@dataclass
class Verified:
    """What was found. `is_good` only if nothing is wrong."""

    checked: int = 0
    inputs: int = 0
    rebuilt: int = 0
    changed: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    added: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        return not (self.changed or self.missing or self.added or self.differing)

    def lines(self) -> list[str]:
        """Every trouble in words."""
        return [
            *(f"changed: {path}" for path in self.changed),
            *(f"missing: {path}" for path in self.missing),
            *(f"in no manifest: {path}" for path in self.added),
            *(f"not what the board builds: {path}" for path in self.differing),
        ]


def verify(site: Path, *, with_rebuild: bool = True, advance: Callable[[int], None] = lambda n: None) -> Verified:
    """Check a built site. Raises UserError where there is no manifest, or where the board cannot be read."""
    manifest = read_manifest_of(site)
    found = Verified(inputs=len(manifest.get("inputs", [])))
    listed = manifest["files"]
    for path, facts in sorted(listed.items()):
        target = site / path
        if not target.is_file():
            found.missing.append(path)
        elif sha256(target.read_bytes()).hexdigest() != facts["sha256"]:
            found.changed.append(path)
        found.checked += 1
        advance(1)
    here = {path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file()}
    found.added = sorted(here - set(listed) - {MANIFEST})
    if with_rebuild and "data/board.json" in listed and not found.missing:
        for path, text in files(read_board(site / "data" / "board.json")):
            found.rebuilt += 1
            if path not in listed or sha256(text.encode("utf-8")).hexdigest() != listed[path]["sha256"]:
                found.differing.append(path)
    return found
