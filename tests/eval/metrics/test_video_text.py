"""Video-text similarity: the plain cosine of clip and caption, matched by id."""

from __future__ import annotations

import numpy as np
import pytest

from cogvideo.errors import UserError
from eval.metrics import video_text
from eval.metrics.features import take
from eval.protocol import MetricSpec
from eval.scoring import FeatureSet, ScoreInput

SPEC = MetricSpec(id="video-text/test", metric="video-text", detector="viclip")


def vectors(n, seed, name="f", shape=(8,)):
    ids = tuple(f"{name}{i:02d}" for i in range(n))
    values = np.random.default_rng(seed).standard_normal((n, *shape)).astype(np.float32)
    return FeatureSet(ids, ids, tuple("ab"[i % 2] for i in range(n)), values)


def test_cosine_of_clip_and_caption():
    fake, text = vectors(10, 0), vectors(10, 1)
    found = video_text.score(SPEC, ScoreInput(fake, fake_text=take(text, np.arange(10)[::-1])))
    each = [np.dot(a, b) / np.sqrt(np.dot(a, a) * np.dot(b, b)) for a, b in zip(fake.values, text.values, strict=True)]
    assert list(found.per_sample.values()) == pytest.approx(each, abs=1e-6)
    assert found.value == pytest.approx(np.mean(each), abs=1e-6)
    assert found.floor is None


def test_real_videos_stand_beside():
    real = vectors(4, 3, "r")
    found = video_text.score(SPEC, ScoreInput(vectors(4, 0), None, real, vectors(4, 1), real))
    assert found.floor == pytest.approx(1)


def test_frames_and_missing_captions_are_refused():
    with pytest.raises(UserError, match="embeds frames, whose metric is clipsim"):
        video_text.score(SPEC, ScoreInput(vectors(4, 0, shape=(3, 8)), fake_text=vectors(4, 1)))
    with pytest.raises(UserError, match="needs captions"):
        video_text.score(SPEC, ScoreInput(vectors(4, 0)))
