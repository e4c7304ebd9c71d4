"""Every protocol is complete, consistent and documented; its fingerprint moves with everything that moves a number."""

import importlib.util
from dataclasses import fields, replace
from pathlib import Path

import pytest

from cogvideo.errors import UserError
from eval.protocol import ClipRule, MetricSpec, Preprocess, metric_fingerprint
from eval.protocols import DEFAULTS, PROTOCOLS, get_protocol
from eval.registry import detectors, metrics
from eval.weights import open_store

REPO = Path(__file__).resolve().parents[2]
# Arithmetic on pixels.
WITHOUT_WEIGHTS = ("changes", "tracks")
KNOWN = {"weights_sha256": "w", "list_sha256": "l", "seed": 0}


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
def test_complete(protocol):
    store = open_store()
    assert protocol.metrics
    assert len({spec.id for spec in protocol.metrics}) == len(protocol.metrics)
    for spec in protocol.metrics:
        assert spec.metric in metrics.names()
        assert spec.detector in detectors.names()
        assert spec.preprocess is not None
        assert spec.id.endswith("-shapes") or spec.id.endswith("/shapes") or not protocol.embedded
        if spec.detector in WITHOUT_WEIGHTS:
            assert not spec.weights
        elif not protocol.embedded:
            assert store.entry(spec.weights)
        if spec.n_fake:
            assert spec.n_fake <= protocol.n_fake
    assert protocol.embedded or protocol.source
    assert not (protocol.embedded and protocol.published)


def test_one_metric_id_always_means_the_same_computation():
    seen: dict[str, MetricSpec] = {}
    for protocol in PROTOCOLS.values():
        for spec in protocol.metrics:
            assert seen.setdefault(spec.id, spec) == spec, spec.id


def test_defaults_exist_and_the_second_is_embedded():
    for benchmark, (own, embedded) in DEFAULTS.items():
        assert not get_protocol(own, benchmark).embedded
        assert get_protocol(embedded, benchmark).embedded


def test_unknown_and_foreign_names():
    with pytest.raises(UserError, match="did you mean tats-16f-2048"):
        get_protocol("tats-16f-2046", "ucf101")
    with pytest.raises(UserError, match="belongs to `cogeval kinetics600`"):
        get_protocol("vdm-5to16f-50000", "ucf101")


CHANGES = {
    "clip": [replace(ClipRule(), **{f.name: value}) for f, value in zip(
        fields(ClipRule), (8, 2, 8.0, "first", 2, (9, 9), "stretch", False, 3), strict=True)],
    "n_fake": [7],
    "n_real": [7],
    "split": ["all"],
    "prompts": ["uniform"],
}  # fmt: skip


def test_every_setting_moves_the_fingerprint():
    protocol = replace(PROTOCOLS["tats-16f-2048"], clip=ClipRule())
    spec = protocol.metrics[0]
    seen = {metric_fingerprint(protocol, spec, **KNOWN)}
    for name, values in CHANGES.items():
        for value in values:
            seen.add(metric_fingerprint(replace(protocol, **{name: value}), spec, **KNOWN))
    for name in KNOWN:
        seen.add(metric_fingerprint(protocol, spec, **{**KNOWN, name: 1 if name == "seed" else "other"}))
    pixels = spec.preprocess
    for changed in (
        replace(pixels, size=(9, 9)),
        replace(pixels, grid="legacy"),
        replace(pixels, antialias=True),
        replace(pixels, channels="bgr"),
    ):
        seen.add(metric_fingerprint(protocol, replace(spec, preprocess=changed), **KNOWN))
    seen.add(metric_fingerprint(protocol, replace(spec, options=(("ddof", 0),)), **KNOWN))
    seen.add(metric_fingerprint(protocol, replace(spec, layer="pooled"), **KNOWN))
    assert len(seen) == 1 + sum(map(len, CHANGES.values())) + len(KNOWN) + 4 + 2


def test_titles_and_notes_do_not_move_it():
    protocol = PROTOCOLS["tats-16f-2048"]
    spec = protocol.metrics[0]
    other = replace(protocol, title="x", source="y", published="z", playback_fps=1.0, metrics=protocol.metrics[:1])
    assert metric_fingerprint(protocol, spec, **KNOWN) == metric_fingerprint(other, spec, **KNOWN)


def test_metrics_on_the_same_pixels_share_a_pass():
    by_id = {spec.id: spec for spec in PROTOCOLS["tats-16f-2048"].metrics}
    assert by_id["fvd/tats-16f-2048"].feature_key == by_id["kvd/tats-16f-2048"].feature_key
    changed = replace(by_id["fvd/tats-16f-2048"], preprocess=Preprocess("other", size=(9, 9)))
    assert changed.feature_key != by_id["fvd/tats-16f-2048"].feature_key


def test_the_page_is_current():
    page = REPO / "docs" / "make_protocols.py"
    spec = importlib.util.spec_from_file_location("make_protocols", page)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text(encoding="utf-8") == module.page(), "run python docs/make_protocols.py"
