"""The rule against its published test vectors, and against what is true of it whatever the salt."""

from __future__ import annotations

import hashlib
import re

import numpy as np
import pytest


@pytest.fixture(scope="module")
def vectors(reference_json):
    return reference_json("rule_test_vectors.json")


@pytest.fixture(scope="module")
def vector_rule(vectors, make_rule):
    return make_rule(vectors["salt"])


def test_streams(vectors, vector_rule):
    seen = 0
    for call, expected in vectors.items():
        match = re.fullmatch(r'(uniform|unit)\(name="(.+)", n=(\d+)\)', call)
        if match:
            stream = getattr(vector_rule, match[1])(match[2], int(match[3]))
            assert stream.dtype == np.float64
            np.testing.assert_allclose(stream, expected, rtol=1e-15, atol=0)
            seen += 1
    if not seen:
        pytest.skip("this reference set has no vectors of streams")


def test_tensors(vectors, vector_rule, item):
    for name, expected in item(vectors, "tensors").items():
        tensor = vector_rule.tensor(name, expected["shape"])
        assert list(tensor.shape) == expected["shape"]
        np.testing.assert_allclose(tensor.ravel()[:4], expected["first4_C_order"], rtol=1e-6)
        assert hashlib.sha256(tensor.astype("<f4").tobytes()).hexdigest() == expected["sha256_float32_le"], name


def test_videos(vectors, vector_rule, item):
    for name, expected in item(vectors, "videos").items():
        video = vector_rule.video(name, *expected["args T,H,W"])
        assert video.dtype == np.uint8
        assert hashlib.sha256(video.tobytes()).hexdigest() == expected["sha256_uint8_THWC"], name


def test_features(vectors, vector_rule, item):
    for name, expected in item(vectors, "features").items():
        features = vector_rule.features(name, *expected["N,D"])
        np.testing.assert_allclose(features.ravel()[:4], expected["first4"], rtol=1e-6)
        # The matrix product's last digit depends on the BLAS, the sum over some 30,000 numbers a little more.
        assert features.astype(np.float64).sum() == pytest.approx(expected["sum_float64"], abs=1e-3)


def test_names_and_salts_give_other_streams(make_rule):
    first = make_rule("a").uniform("x", 1000)
    assert np.array_equal(first, make_rule("a").uniform("x", 1000))
    for other in (make_rule("a").uniform("y", 1000), make_rule("b").uniform("x", 1000)):
        assert abs(np.corrcoef(first, other)[0, 1]) < 0.15


def test_longer_draws_begin_with_shorter_ones(make_rule):
    assert np.array_equal(make_rule("a").raw("x", 7), make_rule("a").raw("x", 100)[:7])


def test_the_box_blur_is_the_sum_over_windows(make_rule):
    """The integral image against the windows written out, on a still video (T = 1 has no motion)."""
    rule, name, H, W = make_rule("a"), "v", 9, 11
    texture = (
        np.floor(256 * rule.uniform(name + "/tex", (H + 24) * (W + 24) * 3)).astype(int).reshape(H + 24, W + 24, 3)
    )
    k = 2 + int(6 * rule.uniform(name + "/k", 1)[0])
    tint = np.floor(81 * rule.uniform(name + "/tint", 3)).astype(int) - 40
    for y, x in ((0, 0), (H - 1, W - 1), (4, 7)):
        mean = texture[3 + y : 3 + y + k, 3 + x : 3 + x + k].sum((0, 1)) // k**2
        expected = np.clip((mean - 128) * k + 128 + tint, 0, 255)
        assert np.array_equal(rule.video(name, 1, H, W)[0, y, x], expected)


def test_roles_of_tensors(make_rule):
    rule = make_rule("a")
    assert rule.tensor("bn.num_batches_tracked", ()).dtype == np.int64
    assert rule.tensor("logit_scale", ()) == pytest.approx(2.6592601)
    assert 0.5 <= rule.tensor("bn.running_var", (500,)).min() <= rule.tensor("bn.running_var", (500,)).max() < 1.5
    assert rule.tensor("ln.weight", (500,)).mean() == pytest.approx(1, abs=0.02)
    assert rule.tensor("ln.bias", (500,)).mean() == pytest.approx(0, abs=0.02)
    assert rule.tensor("fc/W", (50, 800)).std() == pytest.approx(np.sqrt(2 / 800), rel=0.02)
