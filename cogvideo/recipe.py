"""What a generated video was made from, in a JSON file beside it: everything that is needed to make it again."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cogvideo.errors import UserError

RECIPE_VERSION = 1
NAME_LETTERS = 48


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the pixels of one video. `model` and `settings` are JSON types.

    `seed` is the command's, `sample_seed` the video's own. `given` names the frames that it starts with: file, sha256,
    how many.
    """

    prompt: str
    sample: int
    seed: int
    sample_seed: int
    frames: int
    fps: float
    model: Mapping[str, Any]
    settings: Mapping[str, Any]
    given: Mapping[str, Any] | None = None
    device: str = "cpu"
    dtype: str = "float32"

    def values(self) -> dict[str, Any]:
        """As JSON types."""
        return {"recipe_version": RECIPE_VERSION, **asdict(self)}

    def key(self) -> str:
        """Eight hexadecimal digits that tell recipes apart; part of the file's name."""
        text = json.dumps(self.values(), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def stem(self) -> str:
        """A file name: the prompt's first words, the sample's number, the key."""
        words = re.sub(r"[^\w]+", "-", self.prompt.lower()).strip("-_")
        # Some file systems count bytes: a Chinese sign has three.
        while len(words.encode()) > NAME_LETTERS:
            words = words[:-1]
        return f"{words.strip('-_') or 'video'}-{self.sample}-{self.key()}"


@dataclass(frozen=True)
class Made:
    """What came of a recipe, for its sidecar. `seconds` by phase are of the whole batch of `batch` videos."""

    file: str
    sha256: str
    width: int
    height: int
    batch: int
    seconds: Mapping[str, float] = field(default_factory=dict)
    command: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)


def sidecar_of(video: Path) -> Path:
    """Where the recipe of a video, or of a folder of frames, is."""
    return video.with_name(f"{video.stem}.json")


def write_sidecar(video: Path, recipe: Recipe, made: Made) -> Path:
    """Write recipe and result beside the video, whole. Raises UserError if it cannot be written."""
    path = sidecar_of(video)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    values = {**recipe.values(), "made": asdict(made)}
    try:
        temporary.write_text(json.dumps(values, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; free space or choose another --out") from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return path


def is_finished(video: Path, recipe: Recipe) -> bool:
    """Whether this very video is there: its sidecar is written last, and has to tell the same recipe."""
    try:
        values = json.loads(sidecar_of(video).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    wanted = json.loads(json.dumps(recipe.values()))
    return video.exists() and isinstance(values, dict) and all(values.get(name) == wanted[name] for name in wanted)


def content_sha256(path: Path) -> str:
    """Of a file, or of the files of a folder in the order of their names."""
    digest = hashlib.sha256()
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        digest.update(file.read_bytes())
    return digest.hexdigest()
