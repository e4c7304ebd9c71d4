"""Scores of FVD, FID, KVD and KID: value, interval, floor, extrapolation, facts, and paired differences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cogvideo.errors import UserError
from eval.metrics import fid, fvd, kid, kvd
from eval.metrics.features import rows_of, take
from eval.metrics.frechet import frechet
from eval.metrics.kernel import mmd
from eval.protocol import MetricSpec
from eval.registry import metrics
from eval.scoring import FeatureSet, ScoreInput

DIM = 16


def features(name, n, *, seed, mean=0.0, spread=1.0, frames=None, per_group=1):
    rng = np.random.default_rng(seed)
    shape = (n, DIM) if frames is None else (n, frames, DIM)
    values = (rng.standard_normal(shape) * spread + mean).astype(np.float32)
    ids = tuple(f"{name}{i:04d}" for i in range(n))
    groups = tuple(f"{name}-source{i // per_group}" for i in range(n))
    return FeatureSet(ids, groups, ("",) * n, values)


def spec(metric="fvd", **options):
    return MetricSpec(id=f"{metric}/test", metric=metric, options=tuple(options.items()))


def data(n=200, m=200, mean=0.3, frames=None, heldout=200):
    return ScoreInput(
        fake=features("fake", n, seed=1, mean=mean, frames=frames),
        real=features("real", m, seed=2, frames=frames, per_group=2),
        heldout=features("held", heldout, seed=3, frames=frames) if heldout else None,
    )


@pytest.mark.parametrize("ddof", [0, 1])
def test_fvd(ddof):
    given = data()
    score = fvd.score(spec(ddof=ddof), given)
    assert score.value == pytest.approx(frechet(given.fake.values, given.real.values, ddof=ddof), rel=1e-11)
    assert (score.n_fake, score.n_real) == (200, 200)
    assert 0 <= score.interval.low < score.value < score.interval.high
    assert score.floor == pytest.approx(frechet(given.heldout.values, given.real.values, ddof=ddof), rel=1e-11)
    assert score.floor < score.value
    assert score.warnings == ()
    # True distance: 16 * 0.3^2. The value is biased above it, the extrapolated one is not.
    assert score.extrapolated.value < score.value
    assert score.extrapolated.low < DIM * 0.09 < score.extrapolated.high
    assert [n for n, _ in score.extrapolated.points] == [200, 100, 67, 50]
    assert score.extrapolated.points[0][1] == score.value


def test_the_registry_has_what_tables_need():
    for name, direction, decimals in [
        ("fvd", "lower", "1"),
        ("fid", "lower", "2"),
        ("kvd", "lower", "2"),
        ("kid", "lower", "4"),
        ("inception-score", "higher", "2"),
        ("clipsim", "higher", "4"),
        ("r-precision", "higher", "3"),
        ("precision-recall", "higher", "3"),
        ("frame-consistency", "higher", "4"),
    ]:
        entry = metrics.get(name)
        assert entry.facts["direction"] == direction
        assert entry.facts["decimals"] == decimals
        assert entry.facts["label"]


@pytest.mark.parametrize("module", [fvd, kvd, fid, kid])
def test_order_of_samples_does_not_matter(module):
    frames = 3 if module in (fid, kid) else None
    given = data(60, 70, frames=frames, heldout=30)
    turn = np.random.default_rng(0).permutation
    turned = ScoreInput(take(given.fake, turn(60)), take(given.real, turn(70)), given.heldout)
    first, second = module.score(spec(), given), module.score(spec(), turned)
    assert second.value == pytest.approx(first.value, rel=1e-10)
    assert (second.interval.low, second.interval.high) == pytest.approx((first.interval.low, first.interval.high))
    if first.extrapolated:
        assert second.extrapolated.value == pytest.approx(first.extrapolated.value, rel=1e-8)


def test_the_same_twice():
    assert fvd.score(spec(), data()) == fvd.score(spec(), data())


def test_facts_are_told():
    few = fvd.score(replace(spec(), n_fake=2048), data(n=12, m=100, heldout=5))
    assert few.extrapolated is None
    assert any("12 samples for 16 features" in fact for fact in few.warnings)
    assert any("12 generated against 100 real" in fact for fact in few.warnings)
    assert any("protocol says 2,048" in fact for fact in few.warnings)
    assert "fewer than the 12 generated" in few.floor_note
    none = fvd.score(spec(), data(heldout=0))
    assert (none.floor, none.floor_note) == (None, "no held-out real clips")


def test_the_protocol_counts_the_first_samples():
    given = data()
    cut = fvd.score(replace(spec(), n_fake=150, n_real=120), given)
    assert (cut.n_fake, cut.n_real) == (150, 120)
    assert cut.value == pytest.approx(frechet(given.fake.values[:150], given.real.values[:120]))
    assert "150 held-out" in cut.floor_note


def test_floor_takes_as_many_as_the_fakes():
    given = data(n=80)
    assert fvd.score(spec(), given).floor == pytest.approx(frechet(given.heldout.values[:80], given.real.values))


def test_one_source_has_no_interval():
    given = data()
    score = fvd.score(spec(), replace(given, real=replace(given.real, groups=("one",) * 200)))
    assert score.interval is None
    assert "one source" in score.interval_note


def test_clips_of_one_source_widen_the_interval():
    given = data(40, 200)
    twice = FeatureSet(
        tuple(f"{i}{c}" for i in given.real.ids for c in "ab"),
        tuple(g for g in given.real.ids for _ in "ab"),
        ("",) * 400,
        np.repeat(given.real.values, 2, axis=0),
    )
    alone = replace(given.real, groups=given.real.ids)
    once = fvd.score(spec(ddof=0), replace(given, real=alone)).interval
    grouped = fvd.score(spec(ddof=0), replace(given, real=twice)).interval
    assert grouped.low == pytest.approx(once.low)
    assert grouped.high == pytest.approx(once.high)


def test_bad_input_is_one_line():
    given = data(10, 10)
    with pytest.raises(UserError, match="compares with real clips"):
        fvd.score(spec(), replace(given, real=None))
    broken = given.fake.values.copy()
    broken[4, 0] = np.nan
    with pytest.raises(UserError, match=r"1 of 10 fake samples .* 'fake0004'"):
        fvd.score(spec(), replace(given, fake=replace(given.fake, values=broken)))
    with pytest.raises(UserError, match="the fake set has 1"):
        fvd.score(spec(), replace(given, fake=take(given.fake, slice(1))))
    with pytest.raises(UserError, match="the real set is empty"):
        fvd.score(spec(), replace(given, real=take(given.real, slice(0))))
    with pytest.raises(UserError, match='"pooled", "mean" or "first"'):
        fid.score(spec("fid", frames="last"), data(10, 10, frames=2))


@pytest.mark.parametrize("frames", ["pooled", "mean", "first"])
def test_fid_frames(frames):
    given = data(60, 70, frames=4)
    score = fid.score(spec("fid", frames=frames), given)
    as_rows = {"pooled": lambda v: v.reshape(-1, DIM), "mean": lambda v: v.mean(axis=1), "first": lambda v: v[:, 0]}
    fake, real = (as_rows[frames](side.values) for side in (given.fake, given.real))
    assert score.value == pytest.approx(frechet(fake, real), rel=1e-5)
    assert (score.n_fake, score.details["rows_fake"]) == (60, len(fake))
    assert score.interval.low < score.value < score.interval.high


def test_frames_of_a_clip_are_no_independent_samples():
    """Sixteen equal frames a clip: the interval is that of the clips."""
    given = data(80, 90, frames=1)
    still = replace(
        given,
        fake=replace(given.fake, values=np.repeat(given.fake.values, 16, axis=1)),
        real=replace(given.real, values=np.repeat(given.real.values, 16, axis=1)),
    )
    once, many = (fid.score(spec("fid", ddof=0), each).interval for each in (given, still))
    assert (many.low, many.high) == pytest.approx((once.low, once.high))


def test_rows_carry_their_clip():
    side = features("x", 3, seed=0, frames=2)
    rows, groups = rows_of(side, "pooled")
    assert rows.shape == (6, DIM)
    assert groups.tolist() == [group for group in side.groups for _ in range(2)]


def test_kvd():
    given = data()
    score = kvd.score(spec("kvd"), given)
    assert score.value == pytest.approx(mmd(given.fake.values, given.real.values))
    assert score.interval.low < score.value < score.interval.high
    assert score.extrapolated is None
    assert score.floor < score.value
    same = kvd.score(spec("kvd"), data(mean=0.0))
    assert same.interval.low < 0 < same.interval.high


def test_kid_in_subsets_and_whole():
    given = data(150, 160, frames=2)
    whole = kid.score(spec("kid", subsets=0), given)
    assert whole.value == pytest.approx(mmd(rows_of(given.fake)[0], rows_of(given.real)[0]))
    assert whole.details["kid_x1000"] == whole.value * 1000
    assert whole.details["estimator"] == "all pairs"
    subsets = kid.score(spec("kid", subsets=30, subset_size=100), given)
    assert subsets.value == pytest.approx(whole.value, rel=0.2)
    assert subsets.value != whole.value
    assert subsets.details["estimator"] == "30 subsets of 100 rows"
    assert subsets.interval.low < whole.value < subsets.interval.high
    few = kid.score(spec("kid"), given)
    assert few.value == whole.value
    assert few.details["estimator"].startswith("all pairs")


def test_interval_of_many_rows_comes_from_some(monkeypatch):
    """About as wide as from all of them."""
    given = data(400, 400)
    full = kvd.score(spec("kvd"), given).interval
    monkeypatch.setattr("eval.metrics.distance.MOST_ROWS_FOR_INTERVAL", 200)
    part = kvd.score(spec("kvd"), given).interval
    assert part.high - part.low == pytest.approx(full.high - full.low, rel=0.25)
    assert part != full


@pytest.mark.parametrize("module", [fvd, kvd])
def test_paired_difference(module):
    given = data(150, 150)
    near = replace(given.fake, values=given.fake.values * np.float32(1.02))
    worse = replace(given.fake, values=given.fake.values * np.float32(1.3))
    found = module.difference(spec(), replace(given, fake=worse), given)
    expected = module.score(spec(), replace(given, fake=worse)).value - module.score(spec(), given).value
    assert found.value == pytest.approx(expected, rel=1e-9)
    assert found.differs
    assert found.n == 150
    unpaired = module.score(spec(), given).interval
    close = module.difference(spec(), replace(given, fake=near), given)
    assert close.high - close.low < 0.3 * (unpaired.high - unpaired.low)
    same = module.difference(spec(), given, given)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    assert not same.differs


def test_paired_difference_takes_shared_ids_in_any_order():
    given = data(100, 100)
    other = take(replace(given.fake, values=given.fake.values * np.float32(1.3)), np.arange(90)[::-1])
    found = fvd.difference(spec(), replace(given, fake=other), given)
    assert found.n == 90
    ninety = given.fake.values[:90]
    real = given.real.values
    assert found.value == pytest.approx(frechet(ninety * np.float32(1.3), real) - frechet(ninety, real))
    stranger = replace(given, fake=features("other", 100, seed=5))
    with pytest.raises(UserError, match="share 0"):
        fvd.difference(spec(), stranger, given)
    with pytest.raises(UserError, match="different real clips"):
        fvd.difference(spec(), replace(given, real=features("real2", 100, seed=2)), given)


@pytest.mark.parametrize("mean", [0.0, 0.4])
def test_extrapolated_interval_covers_the_true_distance(mean):
    hits, values = 0, []
    for seed in range(60):
        fake = features("fake", 200, seed=2 * seed, mean=mean)
        found = fvd.score(spec(), ScoreInput(fake, features("real", 200, seed=2 * seed + 1)))
        true = DIM * mean**2
        hits += found.extrapolated.low <= true <= found.extrapolated.high
        values.append(found.extrapolated.value - true)
        assert found.value > true
    assert hits / 60 > 0.9
    assert abs(np.mean(values)) < 0.1


def test_extrapolation_keeps_the_mixture_of_classes():
    """Equal sets of balanced classes: a chance mixture in the parts would pull the intercept far below zero."""
    centres = 2 * np.random.default_rng(0).standard_normal((20, DIM))
    found = []
    for seed in range(20):
        sides = []
        for side in ("fake", "real"):
            plain = features(side, 240, seed=2 * seed + (side == "real"))
            classes = np.arange(240) % 20
            values = (plain.values + centres[classes]).astype(np.float32)
            sides.append(replace(plain, labels=tuple(f"class{c:02d}" for c in classes), values=values))
        score = fvd.score(spec(), ScoreInput(*sides))
        found.append((score.value, score.extrapolated.value))
    value, extrapolated = np.mean(found, axis=0)
    assert abs(extrapolated) < 0.2 * value
