"""Printed numbers: carried over whole, disputes at the rows that they touch, matching without benefit of doubt."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest
import yaml

from cogvideo.errors import UserError
from eval.protocol import ClipRule, MetricSpec, Protocol
from eval.published import (
    PUBLISHED_FILE,
    PublishedRow,
    load_published,
    matches,
    printed_name,
    printed_value,
    rows,
    rows_for,
)

PROTOCOL = Protocol(
    name="styleganv-16f-2048",
    benchmark="ucf101",
    title="",
    clip=ClipRule(frames=16, size=(128, 128)),
    metrics=(MetricSpec(id="fvd/x", metric="fvd"),),
    n_fake=2048,
    n_real=2048,
    split="train",
    published="trained on UCF-101 train, 128 px",
)
ROW = PublishedRow(
    model="Model P",
    dataset="ucf101",
    metric="FVD",
    value=300,
    setting="trained on UCF-101 train",
    resolution=128,
    frames=16,
    samples=2048,
    source="here",
    confidence="high",
)


def test_every_row_of_the_file_is_carried_with_its_source():
    raw = yaml.safe_load(PUBLISHED_FILE.read_text())
    found = rows()
    assert len(found) == len(raw["results"])
    for row, entry in zip(found, raw["results"], strict=True):
        assert {name: getattr(row, name) for name in entry} == entry
        assert row.source_text == raw["sources"][entry["source"]]


def test_nothing_recalled_is_a_row():
    text = str([row.model_dump() for row in rows()])
    raw = yaml.safe_load(PUBLISHED_FILE.read_text())
    assert not any(note in text for note in raw["recalled_not_read"])
    assert not [row for row in rows("ucf101", "FVD") if row.value == 545]


def test_rows_are_chosen_by_data_set_and_metric():
    raw = yaml.safe_load(PUBLISHED_FILE.read_text())["results"]
    for (dataset, metric), n in Counter((entry["dataset"], entry["metric"]) for entry in raw).items():
        assert len(rows(dataset, metric)) == n
    assert rows("UCF101", "fvd") == rows("ucf101", "FVD")
    assert rows("msrvtt", "CLIPSIM") == rows("msr-vtt", "CLIPSIM")
    assert rows("no such data") == []


def one(model: str, metric: str, value: float) -> PublishedRow:
    (found,) = [row for row in rows("", metric) if row.model == model and row.value == value]
    return found


def test_a_dispute_stands_at_the_numbers_that_it_names():
    english, chinese = (
        one(f"CogVideo ({name} prompts)", "FVD", v) for name, v in (("English", 701.59), ("Chinese", 751.34))
    )
    assert len(english.disputes) == 1
    assert "710.59 (Kandinsky Video)" in english.disputes[0]
    assert chinese.disputes == ()
    # MoCoGAN and MoCoGAN-HD are two models; a name inside a name is no mention.
    assert "DIGAN" in one("MoCoGAN", "FVD", 2886.9).disputes[0]
    assert one("MoCoGAN", "IS", 12.42).disputes == ()
    assert one("DIGAN", "IS", 29.71).disputes == ()
    assert len(one("ModelScopeT2V (rerun, 2990 prompts)", "FVD", 683).disputes) == 1
    assert one("VideoDirectorGPT", "FVD", 550).disputes == ()


def test_every_dispute_stands_somewhere_unless_no_row_has_its_numbers():
    raw = yaml.safe_load(PUBLISHED_FILE.read_text())
    attached = {text for row in rows() for text in row.disputes}
    assert [text[:15] for text in raw["disputes"] if text not in attached] == ["Animate-A-Story"]


def test_the_same_setting_matches():
    assert matches(ROW, PROTOCOL) == (True, [])


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"resolution": 256}, "resolution"),
        ({"resolution": None}, "resolution"),
        ({"resolution": "custom"}, "resolution"),
        ({"frames": 128}, "frames"),
        ({"frames": None}, "frames"),
        ({"samples": None}, "samples"),
        ({"samples": 10000}, "samples"),
        ({"samples": "2048 x 10 runs"}, "samples"),
        ({"setting": "trained on UCF-101 train+test"}, "split"),
        ({"setting": "trained on UCF-101"}, "split"),
        ({"setting": "zero-shot"}, "split"),
        ({"dataset": "kinetics600"}, "data set"),
    ],
)
def test_one_different_or_unknown_field_is_enough(change, field):
    is_same, differing = matches(ROW.model_copy(update=change), PROTOCOL)
    assert not is_same
    assert field in [words.partition(":")[0] for words in differing]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"embedded": True}, "embedded data set"),
        ({"published": ""}, "no paper printed numbers"),
        ({"changes": ("8 samples",)}, "protocol changed here: 8 samples"),
        ({"clip": ClipRule(frames=16, size=None)}, "as generated"),
        ({"clip": ClipRule(frames=16, size=(128, 171))}, "171 x 128"),
    ],
)
def test_a_protocol_of_our_own_matches_nothing(change, words):
    is_same, differing = matches(ROW, dataclasses.replace(PROTOCOL, **change))
    assert not is_same
    assert words in "; ".join(differing)


def test_a_metric_may_have_its_own_number_of_samples():
    spec = MetricSpec(id="is/x", metric="inception-score", n_fake=20480)
    assert not matches(ROW, PROTOCOL, spec)[0]
    assert matches(ROW.model_copy(update={"samples": 20480}), PROTOCOL, spec)[0]


def test_no_embedded_protocol_matches_any_row():
    from eval.protocols import PROTOCOLS

    embedded = [p for p in PROTOCOLS.values() if p.embedded]
    assert embedded
    assert not any(matches(row, protocol)[0] for protocol in embedded for row in rows())


def test_rows_beside_a_run_start_with_cogvideo_and_are_of_its_metric(sample_runs):
    found = rows_for(sample_runs.result(), sample_runs.metric("FVD", 400.0))
    assert found[0].model == "CogVideo"
    assert {(row.dataset, row.metric) for row in found} == {("ucf101", "FVD")}
    assert rows_for(sample_runs.result(), sample_runs.metric("KVD", 1.0, kind="kvd")) == []
    prompts = sample_runs.result(benchmark="prompts")
    assert rows_for(prompts, sample_runs.metric("CLIPSIM", 0.3, kind="clipsim")) == []
    data = prompts.data.model_copy(update={"title": "MSR-VTT test"})
    assert rows_for(prompts.model_copy(update={"data": data}), sample_runs.metric("CLIPSIM", 0.3, kind="clipsim"))


def test_the_network_is_part_of_a_metric_s_printed_name(sample_runs):
    def name(kind: str, network: str) -> str:
        weights = {"name": network, "sha256": "", "origin": "added", "is_verified": False}
        return printed_name(sample_runs.metric("M", 1.0, kind=kind, weights=weights))

    assert name("inception-score", "c3d-tgan2") == "IS"
    assert name("inception-score", "i3d-tats") == "IS (I3D)"
    assert name("fid", "c3d-tgan2") == "FID (C3D fc7 features)"
    assert name("fid", "inception-fid") == "FID"
    assert name("fvd", "videomae-v2") == ""


def test_values_are_printed_as_the_file_has_them():
    assert printed_value(one("CogVideo", "FVD", 626)) == "626"
    assert printed_value(one("TGANv2", "FVD", 1209)) == "1,209"
    assert printed_value(one("Video-LaVIT", "FVD", 188.36)) == "188.36"


BAD_ROW = "sources: {{}}\nresults:\n  - {{model: A, dataset: d, metric: FVD, setting: s, source: x, {rest}}}\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sources: {}\nresults:\n  - {model: A}\n", "results.0"),
        (BAD_ROW.format(rest="value: .nan, confidence: high"), "finite"),
        (BAD_ROW.format(rest="value: 1, confidence: high"), "'x' is not under"),
        (BAD_ROW.format(rest="value: 1, confidence: sure"), "results.0.confidence"),
        (BAD_ROW.format(rest="value: 1, confidence: high, sitting: s"), "results.0.sitting"),
        ("sources: [", "cannot read"),
    ],
)
def test_a_damaged_file_is_one_line(tmp_path, text, words):
    path = tmp_path / "published.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"published\.yaml") as caught:
        load_published(path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
