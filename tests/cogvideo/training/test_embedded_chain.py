"""The chain of the small model with a handful of steps: from drawn videos to a folder that generates."""

from __future__ import annotations

import numpy as np
import pytest

import cogeval
from cogvideo.pipeline import CogVideo
from cogvideo.video import write_video

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Six clips of squares moving over noise, in folders named as the drawn classes are: no two cells look alike."""
    root = tmp_path_factory.mktemp("drawn")
    for number in range(6):
        name = ("RedSquareMovingRight", "BlueSquareMovingRight")[number % 2]
        clip = np.random.default_rng(number).integers(0, 90, (17, 64, 64, 3), np.uint8)
        for time in range(17):
            clip[time, 20:40, 10 + time : 30 + time, 0 if number % 2 == 0 else 2] = 255 - number
        (root / name).mkdir(exist_ok=True)
        write_video(root / name / f"v_{name}_g{number:02d}_c01.avi", clip, fps=8, codec="ffv1")
    return root


def test_from_videos_to_a_pipeline(drawn, tmp_path, capsys):
    flags = ["--data", str(drawn), "--out", str(tmp_path / "run"), "--steps", "2", "--quiet", "--workers", "0"]
    assert cogeval.main(["train", "embedded", *flags]) == 0
    assert capsys.readouterr().out == f"pipeline  {tmp_path / 'run' / 'pipeline'}\n"
    model = CogVideo.load(tmp_path / "run" / "pipeline", superres=False)
    assert model.networks.clusters.num_clusters == 128
    videos = model.generate(["a red square moving right"], frames=5, fps=2.0, superres=False)
    assert videos[0].clip.shape == (5, 64, 64, 3)
    # What is there is kept: nothing is trained again.
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert cogeval.main(["train", "embedded", *flags]) == 0
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*") if path.is_file()}


def test_sizes_that_shapes_are_not_for(drawn, tmp_path, capsys):
    assert cogeval.main(["train", "embedded", "--data", str(drawn), "--out", str(tmp_path), "--size", "small"]) == 2
    assert "drawn shapes are for the size tiny, not small: leave --size out" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
