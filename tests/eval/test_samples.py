"""Samples shared by processes (threads here): the same lines and features, whoever makes what, in any order."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from torch.distributed import HashStore

from eval.detectors.contract import Detector
from eval.features import Extractor, ShardFolder, needs_of
from eval.generators.contract import Generator, Rejection, Request
from eval.processes import Joined, Processes
from eval.protocol import ClipRule, MetricSpec, Preprocess, Protocol
from eval.records import append_lines, fold_parts, part_files, read_samples
from eval.registry import Entry, detectors
from eval.samples import SampleStore
from eval.verdicts import judged_together

RULE = ClipRule(frames=4, choice="first")
SPEC = MetricSpec("m", "fvd", "means", "", "colour", Preprocess("plain", geometry="none", scale="zero-one"))
PROTOCOL = Protocol("p", "ucf101", "", RULE, (SPEC,), n_fake=40, n_real=None, split="all")
REQUESTS = [Request(f"{k:05d}", k, f"prompt {k}", "", 100 + k, 4, 0, 0, 8.0) for k in range(40)]


class Means(Detector):
    name, layers, chunk = "means", {"colour": 3}, 8

    def __call__(self, clips_BCTHW):
        return {"colour": clips_BCTHW.mean(dim=(2, 3, 4))}


class Noise(Generator):
    """Noise of each seed; 9 repeats 6, 20 is of another size, 30 cannot be had, and 33 is one colour."""

    name = title = "noise"

    def __init__(self):
        self.made, self.pending = [], []

    def describe(self):
        return {}

    def begin(self, folder, pending, prime):
        self.pending = [request.id for request in pending]

    def generate(self, requests, progress=None):
        self.made += [request.id for request in requests]
        return [self._clip(request) for request in requests]

    def _clip(self, request):
        if request.index == 30:
            return Rejection("no memory")
        if request.index == 33:
            return np.zeros((4, 8, 8, 3), np.uint8)
        seed = 106 if request.index == 9 else request.seed
        side = 16 if request.index == 20 else 8
        return np.random.default_rng(seed).integers(0, 256, (4, side, side, 3), np.uint8)


@pytest.fixture(autouse=True)
def network(monkeypatch):
    monkeypatch.setitem(detectors.entries, "means", Entry("means", lambda *_, **__: Means(), "", {}))


def complete(run, processes, notify=lambda *_: None):
    generator = Noise()
    extractor = Extractor(needs_of(PROTOCOL), RULE, {})
    store = SampleStore(
        run, generator, REQUESTS, PROTOCOL, extractor, batch_size=3, keep_videos=False, processes=processes
    )
    lines = store.complete(notify)
    processes.gather()
    return generator, lines


def together(run, size):
    """The generator and the lines of each process."""
    store, found = HashStore(), [None] * size

    def work(rank):
        one = Joined(store, rank, size)
        found[rank] = complete(run, one)
        one.leave(seconds=0)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return found


def plain(lines):
    return [line.model_dump(exclude={"seconds", "peak_memory_bytes"}) for line in lines]


def features(run):
    return ShardFolder(run / "features").load(f"{SPEC.feature_key}:colour")


@pytest.fixture
def alone(tmp_path):
    _, lines = complete(tmp_path / "alone", Processes())
    return lines, features(tmp_path / "alone")


@pytest.mark.parametrize("size", [2, 3, 7])
def test_shared_by_several_it_is_the_same(alone, tmp_path, size):
    lines, (ids, values) = alone
    found = together(tmp_path / "run", size)
    for _, seen in found:
        assert plain(seen) == plain(lines)
    made = [generator.made for generator, _ in found]
    assert sum(map(len, made)) == 40
    assert {name for some in made for name in some} == {request.id for request in REQUESTS}
    assert len(part_files(tmp_path / "run")) == size
    other_ids, other_values = features(tmp_path / "run")
    assert other_ids == ids
    np.testing.assert_array_equal(other_values, values)


def test_what_is_good_alone_has_features_of_its_own(alone):
    """Also a clip of another size, which shares no batch with the others, and one that repeats another."""
    lines, (ids, values) = alone
    assert ids == [request.id for request in REQUESTS if request.index not in (30, 33)]
    expected = [Noise()._clip(REQUESTS[int(name)]).mean(axis=(0, 1, 2)) / 255 for name in ids]
    np.testing.assert_allclose(values, expected, atol=1e-6)
    kinds = {line.index: line.kind for line in judged_together(lines) if not line.ok}
    assert kinds == {9: "duplicate", 20: "mixed-sizes", 30: "no-clip", 33: "constant"}


def test_another_number_of_processes_goes_on(alone, tmp_path):
    lines, (_, values) = alone
    run = tmp_path / "run"
    # What a start of three left behind: some samples of each, and the first shard of features is not there yet.
    for rank in range(3):
        append_lines(run / "parts" / f"{rank:05d}.jsonl", [lines[k] for k in range(rank, 20 - 4 * rank, 3)])
    before = set(read_samples(run))
    fold_parts(run)
    found = together(run, 2)
    assert {len(generator.pending) for generator, _ in found} == {(40 - len(before)) // 2, -(-(40 - len(before)) // 2)}
    # Frames of finished samples were lost with their spool: they are made again, checked, and not counted anew.
    for _, seen in found:
        assert plain(seen) == plain(lines)
    np.testing.assert_array_equal(features(run)[1], values)


def test_progress_counts_samples_of_all(tmp_path):
    counted = {"generate": 0, "audit": 0, "features": 0}

    def notify(stage, n):
        counted[stage] += n

    store = HashStore()
    one, two = (Joined(store, rank, 2) for rank in range(2))
    other = threading.Thread(target=complete, args=(tmp_path / "run", two))
    other.start()
    complete(tmp_path / "run", one, notify)
    other.join(60)
    one.leave(seconds=0)
    two.leave(seconds=0)
    assert counted == {"generate": 40, "audit": 40, "features": 40}
