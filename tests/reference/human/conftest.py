"""The reference set of human studies: its tables and expected values, read by name; what is absent is skipped."""

import json
from functools import reduce
from operator import getitem

import pandas as pd
import pytest


class Section(dict):
    """A part of a JSON file; asking for what the set does not have skips the test."""

    def __missing__(self, key):
        pytest.skip(f"this reference set has no {key!r} here")


@pytest.fixture(scope="session")
def human_dir(reference_root):
    folder = reference_root / "human"
    if not folder.is_dir():
        pytest.skip(f"no reference numbers of human studies at {folder}")
    return folder


@pytest.fixture(scope="session")
def human_json(human_dir):
    """The content of a JSON file of the set."""

    def load(name):
        path = human_dir / name
        if not path.is_file():
            pytest.skip(f"this reference set has no {name}")
        return json.loads(path.read_text(encoding="utf-8"), object_hook=Section)

    return load


@pytest.fixture(scope="session")
def human_csv(human_dir):
    """A table of the set, all cells as text unless a column is named as a number."""

    def load(name, **options):
        path = human_dir / name
        if not path.is_file():
            pytest.skip(f"this reference set has no {name}")
        return pd.read_csv(path, **({"dtype": str, "keep_default_na": False} | options))

    return load


@pytest.fixture(scope="session")
def expected(human_json):
    """One section of expected.json, by its path."""
    content = human_json("expected.json")

    def section(*path):
        return reduce(getitem, path, content)

    return section


@pytest.fixture(scope="session")
def canonical(human_json):
    """One section of canonical.json."""
    content = human_json("canonical.json")

    return content.__getitem__


@pytest.fixture(scope="session")
def bootstrap_agrees():
    """Whether our bootstrap has the spread and ends of the reference one, within the share of its error allowed."""

    def check(interval, expected, *, se_rel, bound_se, what):
        if "se" in expected:
            assert interval.se == pytest.approx(expected["se"], rel=se_rel), what
        if "ci" in expected:
            scale = expected.get("se", interval.se)
            for ours, theirs in zip(interval.ends, expected["ci"], strict=True):
                assert abs(ours - theirs) <= bound_se * scale, (what, interval.ends, expected["ci"])

    return check
