"""Features: shards that are whole and fixed by the plan, computed once, and a cache that notices every change."""

import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock

from cogvideo.errors import UserError
from cogvideo.video import write_video
from eval.decoding import DecodePool
from eval.detectors.contract import Detector
from eval.features import SHARD, Extractor, RealFeatures, ShardFolder, load_features, needs_of
from eval.generators.contract import ClipRef
from eval.plan import RealClip
from eval.protocol import ClipRule, MetricSpec, Preprocess, Protocol
from eval.records import SampleLine, append_lines
from eval.registry import Entry, detectors

PIXELS = Preprocess("plain", geometry="none", scale="zero-one")
RULE = ClipRule(frames=4, choice="first", size=(8, 8))


class Means(Detector):
    """Mean of each channel, and of each frame; counts how often it is called and with how many clips."""

    name, layers, chunk = "means", {"colour": 3, "time": 4}, 8

    def __init__(self):
        self.calls = []

    def __call__(self, clips_BCTHW):
        self.calls.append(len(clips_BCTHW))
        return {"colour": clips_BCTHW.mean(dim=(2, 3, 4)), "time": clips_BCTHW.mean(dim=(1, 3, 4))}


@pytest.fixture
def network(monkeypatch):
    made = Means()
    monkeypatch.setitem(detectors.entries, "means", Entry("means", lambda *_, **__: made, "", {}))
    return made


def protocol(*layers):
    specs = tuple(MetricSpec(f"m/{k}", "fvd", "means", "", layer, PIXELS) for k, layer in enumerate(layers))
    return Protocol("p", "ucf101", "", RULE, specs, n_fake=4, n_real=None, split="all")


def extractor(*layers, **settings):
    return Extractor(needs_of(protocol(*layers)), RULE, {}, **settings)


def clips(n, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (4, 8, 8, 3), dtype=np.uint8) for _ in range(n)]


@pytest.fixture
def real_clips(tmp_path, monkeypatch):
    """Twenty lossless videos on disk, and a cache of their own."""
    monkeypatch.setenv("COGEVAL_HOME", str(tmp_path / "home"))
    found = []
    for number, clip in enumerate(clips(20)):
        path = tmp_path / f"{number:02d}.avi"
        write_video(path, clip, fps=8, codec="ffv1")
        found.append(RealClip(ClipRef(path.name, str(path), 0, 4), "label", "caption", f"g{number // 2}"))
    return found


def test_metrics_on_one_network_share_a_pass(network):
    needs = needs_of(protocol("colour", "time", "colour"))
    assert len(needs) == 1
    assert needs[0].layers == ("colour", "time")


def test_values_are_the_networks_and_the_last_chunk_is_filled_up(network):
    frames = clips(11)
    run = extractor("colour", "time")
    found = run(frames, [str(k) for k in range(11)], run.needs)
    expected = np.stack([clip.mean(axis=(0, 1, 2)) / 255 for clip in frames])
    key = run.needs[0].key
    np.testing.assert_allclose(found[f"{key}:colour"], expected, atol=1e-6)
    assert found[f"{key}:time"].shape == (11, 4)
    assert network.calls == [8, 8]


def test_an_unknown_layer_and_too_short_clips_are_refused_before_the_work(network):
    with pytest.raises(UserError, match="no layer 'smell'; it has colour, time"):
        extractor("smell").check()
    network.min_frames = 9
    with pytest.raises(UserError, match="at least 9 frames"):
        extractor("colour").check()


def test_a_network_without_text_says_so(network):
    run = extractor("colour")
    assert not run.reads_text(run.needs[0])
    with pytest.raises(TypeError, match="does not read text"):
        run.encode_text(run.needs[0], ["a"])


def test_a_damaged_shard_is_taken_away(tmp_path):
    folder = ShardFolder(tmp_path)
    folder.write(0, ["a"], {"k:l": np.ones((1, 2), np.float32)})
    assert folder.ids(0) == ["a"]
    assert folder.ids(1) is None
    whole = folder.file(0).read_bytes()
    folder.file(0).write_bytes(whole[: len(whole) // 2])
    assert folder.ids(0) is None
    assert not folder.file(0).exists()


def test_loading_names_what_is_there(tmp_path):
    folder = ShardFolder(tmp_path)
    with pytest.raises(UserError, match="no features in"):
        folder.load("k:l")
    folder.write(0, ["a"], {"k:l": np.ones((1, 2), np.float32)})
    with pytest.raises(UserError, match=r"no features k:m; it has k:l"):
        folder.load("k:m")


def test_features_of_a_run_come_in_id_order_with_their_labels(tmp_path):
    ids = [f"{k:05d}" for k in range(3)]
    append_lines(
        tmp_path / "samples.jsonl", [SampleLine(id=i, index=0, prompt="", label=f"L{i}", seed=0, ok=True) for i in ids]
    )
    folder = ShardFolder(tmp_path / "features")
    folder.write(1, ids[2:], {"k:l": np.full((1, 2), 2, np.float32)})
    folder.write(0, ids[:2], {"k:l": np.arange(4, dtype=np.float32).reshape(2, 2)})
    found = load_features(tmp_path, "k", "l")
    assert found.ids == tuple(ids)
    assert found.labels == ("L00000", "L00001", "L00002")
    assert found.values.tolist() == [[0, 1], [2, 3], [2, 2]]


def test_samples_that_were_rejected_beside_others_are_left_out(tmp_path):
    lines = [SampleLine(id=f"{k:05d}", index=k, prompt="", seed=0, ok=k != 1) for k in range(3)]
    append_lines(tmp_path / "samples.jsonl", lines)
    values = np.arange(6, dtype=np.float32).reshape(3, 2)
    ShardFolder(tmp_path / "features").write(0, [line.id for line in lines], {"k:l": values})
    found = load_features(tmp_path, "k", "l")
    assert found.ids == ("00000", "00002")
    assert found.values.tolist() == [[0, 1], [4, 5]]


@pytest.mark.parametrize("workers", [0, 2])
def test_real_features_are_computed_once(network, real_clips, workers):
    run = extractor("colour")
    with DecodePool(workers) as pool:
        done = []
        RealFeatures(run, pool).compute(real_clips, done.append)
        assert done == [SHARD, 4]
        calls = len(network.calls)
        RealFeatures(run, pool).compute(real_clips, done.append)
        assert len(network.calls) == calls
        found = RealFeatures(run, pool).load(real_clips, run.needs[0], "colour")
    expected = np.stack([clip.mean(axis=(0, 1, 2)) / 255 for clip in clips(20)])
    np.testing.assert_allclose(found.values, expected, atol=1e-6)
    assert found.groups[:3] == ("g0", "g0", "g1")


def test_only_the_missing_shard_is_made_again(network, real_clips):
    run = extractor("colour")
    with DecodePool(0) as pool:
        features = RealFeatures(run, pool)
        features.compute(real_clips, lambda _: None)
        folder = features.folder(run.needs[0], real_clips)
        before = folder.file(0).read_bytes()
        folder.file(0).unlink()
        network.calls.clear()
        features.compute(real_clips, lambda _: None)
        assert network.calls == [8, 8]
        assert folder.file(0).read_bytes() == before


def test_a_shard_that_another_makes_is_waited_for_and_not_made(network, real_clips):
    run = extractor("colour")
    with DecodePool(0) as pool:
        features = RealFeatures(run, pool)
        folder = features.folder(run.needs[0], real_clips)
        folder.path.mkdir(parents=True)
        other = FileLock(folder.lock(0), thread_local=False)
        other.acquire()

        def write_and_let_go():
            folder.write(0, [clip.id for clip in real_clips[:SHARD]], {"theirs": np.ones((SHARD, 3), np.float32)})
            other.release()

        done, waited = [], []
        threads = []

        def pause():
            waited.append(list(done))
            if len(waited) == 2:
                threads.append(threading.Thread(target=write_and_let_go))
                threads[0].start()
                threads[0].join()

        features.compute(real_clips, done.append, pause)
    assert waited == [[4], [4]]  # the rest was made meanwhile
    assert done == [4, SHARD]
    assert network.calls == [8]
    with np.load(folder.file(0)) as stored:
        assert "theirs" in stored


def test_a_claim_ends_with_an_error(network, real_clips, monkeypatch):
    plain = Means.__call__
    monkeypatch.setattr(Means, "__call__", lambda self, x: {"colour": torch.full((len(x), 3), torch.inf)})
    run = extractor("colour")
    with DecodePool(0) as pool:
        features = RealFeatures(run, pool)
        with pytest.raises(UserError, match="not finite"):
            features.compute(real_clips, lambda _: None)
        monkeypatch.setattr(Means, "__call__", plain)
        features.compute(real_clips, lambda _: None)
        assert not list(features.folder(run.needs[0], real_clips).path.glob(".*.lock"))


AT_ONCE = """
import json, sys, time
from pathlib import Path
import torch
from eval.decoding import DecodePool
from eval.detectors.contract import Detector
from eval.features import Extractor, RealFeatures, needs_of
from eval.generators.contract import ClipRef
from eval.plan import RealClip
from eval.protocol import ClipRule, MetricSpec, Preprocess, Protocol
from eval.registry import Entry, detectors

calls = []
class Means(Detector):
    name, layers, chunk = "means", {"colour": 3}, 16
    def __call__(self, clips_BCTHW):
        calls.append(1)
        time.sleep(0.05)
        return {"colour": clips_BCTHW.mean(dim=(2, 3, 4))}

detectors.entries["means"] = Entry("means", lambda *_, **__: Means(), "", {})
rule = ClipRule(frames=4, choice="first", size=(8, 8))
spec = MetricSpec("m", "fvd", "means", "", "colour", Preprocess("p", geometry="none"))
needs = needs_of(Protocol("p", "ucf101", "", rule, (spec,), 2, None, "all"))
me, others, *paths = sys.argv[1:]
clips = [RealClip(ClipRef(f"{k}", paths[k % len(paths)], 0, 4), "", "", "") for k in range(320)]
Path(me).touch()
while not Path(others).exists():
    time.sleep(0.001)
with DecodePool(int(me[-1])) as pool:
    features = RealFeatures(Extractor(needs, rule, {}), pool)
    features.compute(clips, lambda _: None)
    values = features.load(clips, needs[0], "colour").values
print(json.dumps({"calls": len(calls), "sum": float(values.sum())}))
"""


def test_two_runs_at_once_share_the_work_and_do_none_of_it_twice(real_clips, tmp_path):
    paths = [clip.ref.path for clip in real_clips]
    places = [str(tmp_path / "ready0"), str(tmp_path / "ready1")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", AT_ONCE, places[k], places[1 - k], *paths],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for k in range(2)
    ]
    said = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    first, second = (json.loads(out) for out, _ in said)
    assert first["calls"] + second["calls"] == 320 // SHARD
    assert min(first["calls"], second["calls"]) > 0
    assert first["sum"] == second["sum"]


def test_everything_that_moves_a_value_moves_the_cache(network, real_clips, monkeypatch):
    with DecodePool(0) as pool:

        def place(run, chosen=real_clips):
            return RealFeatures(run, pool).folder(run.needs[0], chosen).path

        seen = {place(extractor("colour"))}
        assert place(extractor("colour")) in seen
        changed = [
            place(extractor("colour", dtype="bfloat16")),
            place(extractor("colour", backend="inductor")),
            place(extractor("colour", device="cuda:1")),
            place(extractor("time")),
            place(extractor("colour"), real_clips[:-1]),
            place(extractor("colour"), [replace(c, ref=replace(c.ref, start=1)) for c in real_clips]),
        ]
        with Path(real_clips[0].ref.path).open("ab") as file:
            file.write(b"longer")
        changed.append(place(extractor("colour")))
        assert len(seen | set(changed)) == 1 + len(changed)
        assert place(extractor("colour", device="cuda:0")) == place(extractor("colour", device="cuda:1"))


def test_values_that_are_not_finite_name_the_clip_and_nothing_is_kept(network, real_clips, monkeypatch):
    monkeypatch.setattr(Means, "__call__", lambda self, x: {"colour": torch.full((len(x), 3), torch.inf)})
    run = extractor("colour")
    with DecodePool(0) as pool, pytest.raises(UserError, match=r"not finite for 16 of 16 clips, first 00\.avi@0"):
        RealFeatures(run, pool).compute(real_clips, lambda _: None)
    assert RealFeatures(run, pool).folder(run.needs[0], real_clips).ids(0) is None
