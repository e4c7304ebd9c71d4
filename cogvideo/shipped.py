"""cogvideo-tiny: the small CogVideo that comes with the package, trained on drawn shapes. No torch."""

from __future__ import annotations

from pathlib import Path

from cogvideo.errors import MissingPrerequisite

NAME = "cogvideo-tiny"
FOLDER = Path(__file__).parent / "embedded"


def shipped() -> Path:
    """The pipeline folder of cogvideo-tiny. Raises MissingPrerequisite for an installation without it."""
    if not (FOLDER / "pipeline.json").is_file():
        raise MissingPrerequisite(
            f"{NAME} is not in this installation: {FOLDER} is missing; install cogeval anew, or give the folder of"
            " other networks"
        )
    return FOLDER
