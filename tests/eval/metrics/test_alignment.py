"""CLIPSIM, R-precision and frame consistency: cosines written out, ties, and captions matched by id."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from itertools import pairwise

import numpy as np
import pytest

from cogvideo.errors import UserError
from eval.metrics import clipsim, frame_consistency, r_precision
from eval.metrics.features import take
from eval.protocol import MetricSpec
from eval.scoring import FeatureSet, ScoreInput

N, T, D = 12, 5, 8


def videos(seed=0, n=N, name="s"):
    values = np.random.default_rng(seed).standard_normal((n, T, D)).astype(np.float32)
    ids = tuple(f"{name}{i:02d}" for i in range(n))
    return FeatureSet(ids, ids, tuple("ab"[i % 2] for i in range(n)), values)


def captions(of, seed=9):
    values = np.random.default_rng(seed).standard_normal((len(of), D)).astype(np.float32)
    return FeatureSet(of.ids, of.groups, of.labels, values)


def spec(name, **options):
    return MetricSpec(id=f"{name}/test", metric=name, options=tuple(options.items()))


def cosine(a, b):
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def test_clipsim_is_the_mean_cosine():
    fake = videos()
    text = captions(fake)
    found = clipsim.score(spec("clipsim"), ScoreInput(fake, fake_text=text))
    each = [
        np.mean([cosine(frame, line) for frame in clip]) for clip, line in zip(fake.values, text.values, strict=True)
    ]
    assert list(found.per_sample.values()) == pytest.approx(each, rel=1e-12)
    assert list(found.per_sample) == list(fake.ids)
    assert found.value == pytest.approx(np.mean(each), rel=1e-12)
    assert min(each) < 0, "a clamp would show"
    assert found.per_class == pytest.approx({"a": np.mean(each[::2]), "b": np.mean(each[1::2])})
    assert found.interval.low < found.value < found.interval.high
    assert found.floor is None


def test_captions_are_matched_by_id():
    fake = videos()
    text = captions(fake)
    turned = take(text, np.arange(N)[::-1])
    first, second = (clipsim.score(spec("clipsim"), ScoreInput(fake, fake_text=t)).value for t in (text, turned))
    assert first == second
    with pytest.raises(UserError, match="2 of 12 samples have no caption"):
        clipsim.score(spec("clipsim"), ScoreInput(fake, fake_text=take(text, slice(10))))
    with pytest.raises(UserError, match="needs captions"):
        clipsim.score(spec("clipsim"), ScoreInput(fake))


def test_real_videos_stand_beside():
    fake, real = videos(), videos(4, 20, "r")
    found = clipsim.score(spec("clipsim"), ScoreInput(fake, None, real, captions(fake), captions(real)))
    expected = clipsim.clipsim(real.values[:N], captions(real).values[:N]).mean()
    assert found.floor == pytest.approx(expected)
    assert "12 held-out real videos" in found.floor_note


def test_scores_are_plain_numbers():
    fake = videos()
    given = ScoreInput(fake, fake_text=captions(fake))
    for module in (clipsim, r_precision, frame_consistency):
        json.dumps(asdict(module.score(spec("x", candidates=4), given)), allow_nan=False)


def test_zero_embeddings_are_refused():
    fake = videos()
    fake.values[3, 2] = 0
    with pytest.raises(UserError, match="not zero"):
        clipsim.score(spec("clipsim"), ScoreInput(fake, fake_text=captions(fake)))


def test_r_precision_of_perfect_and_of_wrong_captions():
    fake = videos(n=30)
    perfect = replace(captions(fake), values=fake.values.mean(axis=1))
    single = replace(fake, values=np.repeat(fake.values.mean(axis=1)[:, None], T, axis=1))
    found = r_precision.score(spec("r", candidates=10), ScoreInput(single, fake_text=perfect))
    assert found.value == 1.0
    opposite = replace(perfect, values=-perfect.values)
    assert r_precision.score(spec("r", candidates=10), ScoreInput(single, fake_text=opposite)).value == 0.0
    assert found.floor == pytest.approx(0.1)
    assert found.warnings == ()


def test_r_precision_at_chance_is_one_in_k():
    rng = np.random.default_rng(0)
    first, k = r_precision.r_precision(rng.standard_normal((4000, D)), rng.standard_normal((4000, D)), candidates=5)
    assert k == 5
    assert first.mean() == pytest.approx(0.2, abs=0.03)


def test_ties_count_against():
    """Two different captions that score alike on the video: not first."""
    video = np.array([[1.0, 0.0], [0.0, 1.0]])
    text = np.array([[1.0, 1.0], [1.0, -1.0]])
    assert r_precision.r_precision(video, text)[0].tolist() == [False, False]


def test_equal_captions_are_one_candidate():
    """A class name that many videos share is no distractor of itself."""
    video = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    text = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    first, k = r_precision.r_precision(video, text, candidates=100)
    assert (first.tolist(), k) == ([True, True, True], 2)
    with pytest.raises(UserError, match="two different captions"):
        r_precision.r_precision(video, np.ones((3, 2)))


def test_r_precision_does_not_depend_on_order():
    fake = videos(n=40)
    text = replace(captions(fake), values=fake.values.mean(axis=1) + 0.8 * captions(fake).values)
    turn = np.random.default_rng(1).permutation(40)
    given, turned = ScoreInput(fake, fake_text=text), ScoreInput(take(fake, turn), fake_text=text)
    first, second = (r_precision.score(spec("r", candidates=6), each) for each in (given, turned))
    assert 0 < first.value < 1
    assert second.per_sample == first.per_sample
    few = r_precision.score(spec("r"), given)
    assert "40 different captions" in few.warnings[0]


def test_frame_consistency():
    fake = videos()
    found = frame_consistency.score(spec("f"), ScoreInput(fake, heldout=videos(5, name="r")))
    each = [np.mean([cosine(a, b) for a, b in pairwise(clip)]) for clip in fake.values]
    assert list(found.per_sample.values()) == pytest.approx(each, rel=1e-12)
    travel = np.mean([1 - cosine(clip[0], clip[-1]) for clip in fake.values])
    assert found.details["motion_first_to_last"] == pytest.approx(travel, rel=1e-12)
    assert found.details["share_frozen"] == 0
    assert found.floor is not None


def test_a_frozen_clip_scores_one_and_is_told():
    fake = videos()
    frozen = replace(fake, values=np.repeat(fake.values[:, :1], T, axis=1))
    found = frame_consistency.score(spec("f"), ScoreInput(frozen))
    assert found.value == pytest.approx(1)
    assert found.details["motion_first_to_last"] == pytest.approx(0, abs=1e-12)
    assert "100% of the clips stand still" in found.warnings[0]
    with pytest.raises(UserError, match="at least 2 frames"):
        frame_consistency.score(spec("f"), ScoreInput(replace(fake, values=fake.values[:, :1])))
