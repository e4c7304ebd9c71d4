"""Influence values beside a result: the same differences as from features, and files that load whole or not at all."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cogvideo.errors import UserError
from eval.influence import INFLUENCE_FILE, influences, read_influences, write_influences
from eval.intervals import linearised
from eval.metrics import fid, fvd, inception_score, kvd
from eval.protocol import MetricSpec
from eval.scoring import FeatureSet, ScoreInput

SPEC = MetricSpec(id="m/test", metric="fvd")


def features(name, n, mean=0.0, seed=0, frames=None, per_group=1):
    shape = (n, 8) if frames is None else (n, frames, 8)
    values = (np.random.default_rng(seed).standard_normal(shape) + mean).astype(np.float32)
    ids = tuple(f"{name}{i:04d}" for i in range(n))
    return FeatureSet(ids, tuple(f"{name}-{i // per_group}" for i in range(n)), ("",) * n, values)


@pytest.mark.parametrize(("module", "frames"), [(fvd, None), (fid, 3), (kvd, None)])
def test_a_paired_difference_follows_from_influence_values_alone(module, frames) -> None:
    real = features("real", 80, seed=9, frames=frames, per_group=2)
    a, b = (ScoreInput(features("fake", 90, mean, seed, frames), real) for mean, seed in ((0.2, 1), (0.3, 2)))
    expected = module.difference(SPEC, a, b)
    first, second = (module.score(SPEC, side) for side in (a, b))
    one, two = first.influence, second.influence
    value = first.value - second.value
    low, high = linearised(value, [(one.fake - two.fake, one.ids), (one.real - two.real, one.real_groups)])
    assert (value, low, high) == pytest.approx((expected.value, expected.low, expected.high), rel=1e-9)
    assert one.real_sha256 == two.real_sha256 != ""


@pytest.mark.parametrize("splits", [1, 4])
def test_inception_score_moves_as_its_influence_values_say(splits) -> None:
    """A derivative against the score with one row's weight raised, and its spread against the bootstrap's."""
    spec = MetricSpec(id="is/test", metric="inception-score", options=(("splits", splits),))
    logits = features("fake", 200, seed=3)
    found = inception_score.score(spec, ScoreInput(logits))
    assert found.influence.fake.mean() == pytest.approx(0, abs=1e-12)
    if splits == 1:
        probs = inception_score.softmax(logits.values)
        weights = np.full(200, 1 / 200)
        weights[7] += 1e-6
        weights /= weights.sum()
        marginal = weights @ probs
        moved = math.exp(float(weights @ (probs * np.log(probs / marginal)).sum(axis=1)))
        assert (moved - found.value) / 1e-6 == pytest.approx(found.influence.fake[7], rel=1e-3)
    low, high = linearised(found.value, [(found.influence.fake, logits.groups)])
    assert high - low == pytest.approx(found.interval.high - found.interval.low, rel=0.25)


def test_what_is_written_is_read_and_the_same_bytes_twice(tmp_path) -> None:
    given = {
        "fvd/x": influences(["a", "b"], np.array([1.5, -1.5]), np.array([0.25, 0.5, -0.75]), "xyz", ["u", "v", "u"]),
        "is/x": influences(["a", "b"], np.array([0.5, -0.5]), np.zeros(0), (), ()),
    }
    write_influences(tmp_path, given)
    first = (tmp_path / INFLUENCE_FILE).read_bytes()
    found = read_influences(tmp_path)
    assert set(found) == set(given)
    assert found["fvd/x"].ids == ("a", "b")
    assert found["fvd/x"].real.tolist() == [0.25, 0.5, -0.75]
    assert found["fvd/x"].real_groups.tolist() == [0, 1, 0]
    assert found["is/x"].real_sha256 == ""
    write_influences(tmp_path, dict(reversed(given.items())))
    assert (tmp_path / INFLUENCE_FILE).read_bytes() == first


def test_absent_damaged_and_newer_files(tmp_path) -> None:
    assert read_influences(tmp_path) == {}
    (tmp_path / INFLUENCE_FILE).write_bytes(b"PK no archive")
    with pytest.raises(UserError, match="damaged"):
        read_influences(tmp_path)
    write_influences(tmp_path, {"m": influences(["a"], np.array([math.nan]), np.zeros(0), (), ())})
    with pytest.raises(UserError, match="damaged"):
        read_influences(tmp_path)
    np.savez(tmp_path / INFLUENCE_FILE, version=np.asarray(99))
    with pytest.raises(UserError, match="newer"):
        read_influences(tmp_path)
