"""Where a pipeline comes from: a folder, or a hub's snapshot. Read here are small files alone; no weights are loaded.

The commit names a hub's files; a local folder is named by the hashes of all of them.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cogvideo.errors import MissingPrerequisite, UserError
from cogvideo.weights.places import is_offline
from eval.generators.diffusers.options import KIND

INDEX = "model_index.json"
CONFIGS = ("config.json", "scheduler_config.json", "preprocessor_config.json")
WEIGHTS = (".safetensors", ".bin", ".ckpt", ".pt")
# Larger files are named by size and the hash of their first and last mebibyte: 20 GB are not read for a name.
WHOLE_FILE_BYTES = 64 << 20
EDGE_BYTES = 1 << 20


@dataclass(frozen=True)
class Snapshot:
    """One pipeline's files. `repo` and `commit` are those of a hub; a local folder has neither.

    Of a hub's pipeline only the small files are there until `fetch_weights`.
    """

    name: str
    folder: Path
    repo: str = ""
    commit: str = ""

    @cached_property
    def index(self) -> dict[str, Any]:
        """`model_index.json`. Raises UserError if it is absent or damaged."""
        if not (self.folder / INDEX).is_file():
            raise UserError(
                f"generator {KIND}: {self.repo or self.folder} has no {INDEX}: expected a whole pipeline, as"
                " save_pretrained writes it"
            )
        return _json(self.folder / INDEX)

    @property
    def components(self) -> dict[str, tuple[str, str]]:
        """Name -> (library, class) of each part that the pipeline has."""
        return {
            name: (str(value[0]), str(value[1]))
            for name, value in self.index.items()
            if not name.startswith("_") and isinstance(value, list) and len(value) == 2 and value[1]
        }

    def config(self, component: str) -> dict[str, Any]:
        """The component's own configuration without what is a trace of how it was saved; empty if it has none."""
        path = next((p for name in CONFIGS if (p := self.folder / component / name).is_file()), None)
        found = _json(path) if path else {}
        traces = ("_name_or_path", "_diffusers_version", "transformers_version", "_commit_hash")
        return {name: value for name, value in found.items() if name not in traces}

    def describe(self) -> dict[str, Any]:
        """What identifies every file: the hub's commit, or names with hashes."""
        if self.repo:
            return {"hub": self.repo, "commit": self.commit}
        return {"folder": self.folder.name, "files": self._hashes}

    def require_weights(self) -> None:
        """Raise MissingPrerequisite for a part without weights, where they can be here only already."""
        if self.repo and not is_offline():
            return
        for name, (_, kind) in self.components.items():
            place = self.folder / name
            has_network = (place / "config.json").is_file() and not kind.endswith(("Processor", "Extractor"))
            if has_network and not any(path.suffix in WEIGHTS for path in place.iterdir()):
                hint = "fetch the pipeline once without --offline" if self.repo else "copy the whole pipeline"
                raise MissingPrerequisite(
                    f"generator {KIND}: {self.name} has no weights of {name!r} in {place}; {hint}"
                )

    def fetch_weights(self, variant: str) -> Path:
        """The folder with all files, fetched into the hub's cache if need be. Raises MissingPrerequisite offline."""
        if not self.repo:
            return self.folder
        from diffusers import DiffusionPipeline

        try:
            fetched: str = DiffusionPipeline.download(
                self.repo, revision=self.commit, variant=variant or None, local_files_only=is_offline()
            )
        except Exception as error:
            raise _not_fetched(self.repo, self.commit, error) from error
        return Path(fetched)

    @cached_property
    def _hashes(self) -> dict[str, dict[str, Any]]:
        files = sorted(path for path in self.folder.rglob("*") if path.is_file() and path.suffix != ".md")
        return {
            path.relative_to(self.folder).as_posix(): _of_file(path)
            for path in files
            if not any(part.startswith(".") for part in path.relative_to(self.folder).parts)
        }


def open_snapshot(argument: str, revision: str = "") -> Snapshot:
    """The pipeline of a folder, or of a hub's id at a revision.

    Raises UserError if it is neither, MissingPrerequisite if the hub's files are not here and cannot be had.
    """
    folder = Path(argument).expanduser()
    if folder.is_dir():
        if revision:
            raise UserError(f"generator {KIND}: {argument} is a folder, which has no 'revision'; leave it out")
        return Snapshot(folder.resolve().name, folder)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", argument) or argument.startswith("."):
        raise UserError(
            f"generator {KIND}: no such folder: {argument}; expected a folder that save_pretrained wrote, or a hub's id"
            " such as THUDM/CogVideoX-2b"
        )
    place = _fetch_small_files(argument, revision, [INDEX, "*.json", "*/*.json"])
    return Snapshot(argument.rpartition("/")[2], place, argument, place.name)


def open_part(argument: str) -> tuple[Path, dict[str, Any]]:
    """A single network (a motion adapter) of a folder or a hub: its folder, and what identifies it.

    Raises as `open_snapshot`.
    """
    folder = Path(argument).expanduser()
    if folder.is_dir():
        return folder, Snapshot(folder.name, folder).describe()
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", argument):
        raise UserError(f"generator {KIND}: no such folder: {argument}; expected a folder or a hub's id")
    place = _fetch_small_files(argument, "", ["*.json", "*.safetensors", "*.bin"])
    return place, {"hub": argument, "commit": place.name}


def _fetch_small_files(repo: str, revision: str, patterns: list[str]) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                repo, revision=revision or None, allow_patterns=patterns, local_files_only=is_offline(), max_workers=2
            )
        )
    except Exception as error:
        raise _not_fetched(repo, revision, error) from error


def _not_fetched(repo: str, revision: str, error: Exception) -> MissingPrerequisite:
    """The one line about a hub's files that are not here; its own message is long, and its first line says enough."""
    at = f" at {revision}" if revision else ""
    if is_offline():
        return MissingPrerequisite(
            f"generator {KIND}: {repo}{at} is not in the hub's cache, and --offline forbids to fetch it; run once"
            f" without --offline, or give the folder of a copy: {KIND}:DIR"
        )
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return MissingPrerequisite(
        f"generator {KIND}: {repo}{at} cannot be fetched from the hub: {said.rstrip('.')}; check the name and your"
        f" access, or give the folder of a copy: {KIND}:DIR"
    )


def _of_file(path: Path) -> dict[str, Any]:
    size = path.stat().st_size
    if size <= WHOLE_FILE_BYTES:
        return {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    with path.open("rb") as file:
        digest = hashlib.sha256(file.read(EDGE_BYTES))
        file.seek(size - EDGE_BYTES)
        digest.update(file.read())
    return {"size_bytes": size, "edges_sha256": digest.hexdigest()}


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"generator {KIND}: cannot read {path}: {error}; fetch or save the pipeline again") from None
    if not isinstance(found, dict):
        raise UserError(f"generator {KIND}: {path} is no table of settings; fetch or save the pipeline again")
    return found
