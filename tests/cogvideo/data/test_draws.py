"""Draws hang on their key alone, and are evenly spread."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from cogvideo.data.draws import below, distinct, uniform


def test_the_rule_is_the_first_64_bits_of_sha256():
    digest = hashlib.sha256(b"a\n1").hexdigest()
    assert uniform("a", 1) == (int(digest[:16], 16) >> 11) / 2**53
    assert below(10, "a", 1) == int(10 * int(digest[:16], 16) / 2**64)


def test_spread():
    counts = np.bincount([below(7, "spread", n) for n in range(14_000)], minlength=7)
    # Six degrees of freedom: 99.99 % of chi-squares lie below 28.
    assert ((counts - 2000) ** 2 / 2000).sum() < 28
    assert abs(np.mean([uniform("mean", n) for n in range(10_000)]) - 0.5) < 4 * 0.289 / 100


@pytest.mark.parametrize(("count", "end"), [(1, 1), (3, 10), (10, 10), (20, 10), (0, 4)])
def test_distinct(count, end):
    found = distinct(count, end, "key")
    assert found == sorted(set(found))
    assert len(found) == min(count, end)
    assert set(found) <= set(range(end))


def test_more_keep_those_of_fewer():
    assert set(distinct(3, 100, "k")) < set(distinct(8, 100, "k"))
    assert distinct(3, 100, "k") != distinct(3, 100, "l")
