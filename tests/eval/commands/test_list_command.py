"""`cogeval list` shows every name of the registries and protocols, as text and as JSON."""

from __future__ import annotations

import json

import pytest

import cogeval
from eval import registry
from eval.protocols import DEFAULTS, PROTOCOLS
from eval.published import rows


def listed(capsys, *arguments: str) -> str:
    assert cogeval.main(["list", *arguments]) == 0
    return capsys.readouterr().out


def test_protocols_and_benchmarks_have_all_names(capsys):
    found = json.loads(listed(capsys, "protocols", "benchmarks", "--json"))
    assert [row["name"] for row in found["protocols"]] == list(PROTOCOLS)
    assert [row["name"] for row in found["benchmarks"]] == list(DEFAULTS)
    text = listed(capsys, "protocols")
    assert all(name in text for name in PROTOCOLS)


@pytest.mark.parametrize("kind", ["metrics", "detectors", "datasets", "generators"])
def test_every_registered_name_is_listed_once(capsys, kind):
    (found,) = json.loads(listed(capsys, kind, "--json")).values()
    names = [row["name"] for row in found]
    assert names == getattr(registry, kind).names()
    assert all(row["summary"] for row in found)


def test_published_numbers_can_be_read_in_full(capsys):
    found = json.loads(listed(capsys, "published", "--json"))["published"]
    assert len(found) == len(rows())
    assert {"value", "setting", "confidence", "disputes", "source_text"} <= found[0].keys()
    assert "710.59 (Kandinsky Video)" in " ".join(listed(capsys, "published").split())


def test_a_name_that_cannot_be_loaded_is_listed_with_its_reason(capsys, monkeypatch):
    monkeypatch.setitem(registry.generators.builtin, "imagined", "eval.generators.no_such_module")
    found = json.loads(listed(capsys, "generators", "--json"))["generators"]
    (row,) = [row for row in found if row["name"] == "imagined"]
    assert row["summary"].startswith("cannot be loaded: No module named")


def test_an_unknown_kind_is_exit_2(capsys):
    assert cogeval.main(["list", "metric"]) == 2
    assert "'metric'" in capsys.readouterr().err
