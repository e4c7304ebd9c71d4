"""Where the numbers of the released CogVideo code are; `reference_root` and `item` come from the folder above."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def cogvideo_dir(reference_root: Path) -> Path:
    """The folder that holds `tiny/`, `release_constants/`, `vqvae/` and `param_lists/`."""
    folder = reference_root / "cogvideo"
    if not folder.is_dir():
        pytest.skip(f"no CogVideo reference numbers at {folder}")
    return folder
