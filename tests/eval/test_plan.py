"""The plan: fixed by names, never padded, real clips of the two sides apart."""

from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from cogvideo.errors import UserError
from cogvideo.video import VideoInfo
from eval.datasets.items import DataSet, Item
from eval.plan import make_plan
from eval.protocol import ClipRule, Protocol

PROTOCOL = Protocol(
    name="test-protocol",
    benchmark="ucf101",
    title="",
    clip=ClipRule(frames=16, choice="random", size=(64, 64)),
    metrics=(),
    n_fake=12,
    n_real=20,
    split="train",
    heldout="test",
)


class FakePool:
    """Probes that answer from a table of frame counts; everything else has 40 frames."""

    def __init__(self, frames=None):
        self.frames = frames or {}

    def probes(self, paths):
        for path in paths:
            found = self.frames.get(Path(path).name, 40)
            if isinstance(found, UserError):
                yield found
            else:
                yield VideoInfo(
                    path=Path(path),
                    width=64,
                    height=64,
                    fps=Fraction(25),
                    n_frames=found,
                    duration_s=found / 25,
                    codec="ffv1",
                    pixel_format="bgr0",
                    rotation=0,
                    is_variable_rate=False,
                    has_audio=False,
                )


def data_set(n_classes=4, groups=10, splits=True):
    items = []
    for c in range(n_classes):
        for g in range(1, groups + 1):
            split = "test" if splits and g <= groups // 3 else "train"
            name = f"Class{c}/v_Class{c}_g{g:02d}_c01.avi"
            items.append(
                Item(name, Path("/data") / name, f"Class{c}", f"class number {c}", f"Class{c}/g{g:02d}", split)
            )
    captions = {"en": {f"Class{c}": f"class number {c}" for c in range(n_classes)}}
    return DataSet("toy", Path("/data"), tuple(items), tuple(f"Class{c}" for c in range(n_classes)), captions)


def test_the_same_plan_twice_and_another_order_on_disk():
    data = data_set()
    first = make_plan(data, PROTOCOL, seed=0, pool=FakePool())
    shuffled = replace(data, items=data.items[::-1])
    again = make_plan(shuffled, PROTOCOL, seed=0, pool=FakePool())
    assert [clip.id for clip in first.reference] == [clip.id for clip in again.reference]
    assert first.requests == again.requests


def test_seeds_differ_by_sample_and_by_run_and_fit_in_63_bits():
    one = make_plan(data_set(), PROTOCOL, seed=0, pool=FakePool()).requests
    two = make_plan(data_set(), PROTOCOL, seed=1, pool=FakePool()).requests
    assert len({request.seed for request in (*one, *two)}) == len(one) + len(two)
    assert all(0 <= request.seed < 2**63 for request in one)
    assert [r.source for r in one] == [r.source for r in two], "the run's seed must not move the real clips"


def test_no_group_stands_on_both_sides():
    plan = make_plan(data_set(), replace(PROTOCOL, split="train+test", heldout="", n_real=12), seed=0, pool=FakePool())
    assert len(plan.reference) == 12
    assert len(plan.heldout) == 12
    assert not {c.group for c in plan.reference} & {c.group for c in plan.heldout}


def test_each_request_has_a_real_clip_of_its_class():
    plan = make_plan(data_set(groups=15), PROTOCOL, seed=0, pool=FakePool())
    for request in plan.requests:
        assert request.source is not None
        assert request.source.item_id.startswith(request.label + "/")
    assert len({request.source for request in plan.requests}) == len(plan.requests)


def test_classes_follow_the_reference_and_any_first_part_is_nearly_balanced():
    plan = make_plan(data_set(), PROTOCOL, seed=0, pool=FakePool())
    wanted = Counter(clip.label for clip in plan.reference)
    got = Counter(request.label for request in plan.requests)
    for label, count in wanted.items():
        assert abs(got[label] - count * 12 / 20) < 1
    assert len({request.label for request in plan.requests[:4]}) == 4


def test_windows_lie_inside_the_video_and_vary():
    plan = make_plan(data_set(groups=30), replace(PROTOCOL, n_real=60), seed=0, pool=FakePool())
    starts = {clip.ref.start for clip in plan.reference}
    assert min(starts) >= 0
    assert max(starts) <= 40 - 16
    assert len(starts) > 10


def test_several_windows_of_a_video_are_distinct_and_few_videos_serve_both_sides():
    data = data_set(n_classes=2, groups=1, splits=False)
    rule = replace(PROTOCOL.clip, per_video=8)
    plan = make_plan(
        data, replace(PROTOCOL, clip=rule, split="all", heldout="", n_real=8, n_fake=8), seed=0, pool=FakePool()
    )
    assert len(plan.reference) == 8
    assert len(plan.heldout) == 8
    windows = {clip.id for clip in (*plan.reference, *plan.heldout)}
    assert len(windows) == 16
    assert {clip.ref.item_id for clip in plan.reference} == {item.id for item in data.items}
    assert any("same videos" in note for note in plan.notes)


def test_short_and_broken_videos_are_named_and_replaced_by_others():
    bad = {"v_Class0_g04_c01.avi": 15, "v_Class0_g05_c01.avi": UserError("v_Class0_g05_c01.avi is empty")}
    data = data_set()
    plan = make_plan(data, replace(PROTOCOL, n_real=26), seed=0, pool=FakePool(bad))
    reasons = dict(plan.skipped)
    assert "too short: 15 frames, the protocol needs 16" in reasons["Class0/v_Class0_g04_c01.avi"]
    assert "is empty" in reasons["Class0/v_Class0_g05_c01.avi"]
    assert len(plan.reference) == 26
    assert not {clip.ref.item_id for clip in plan.reference} & set(reasons)


def test_too_few_real_clips_is_one_line_with_both_numbers():
    with pytest.raises(UserError, match=r"needs 2,000 real clips; toy at /data gives 28") as caught:
        make_plan(data_set(), replace(PROTOCOL, n_real=2000), seed=0, pool=FakePool())
    assert "--real-samples" in str(caught.value)


def test_an_absent_split_names_those_that_are_there():
    with pytest.raises(UserError, match=r"no items of split 'validation' \(splits found: test, train\)"):
        make_plan(data_set(), replace(PROTOCOL, split="validation"), seed=0, pool=FakePool())


def test_frame_prediction_scores_the_clips_that_it_is_primed_with():
    rule = replace(PROTOCOL.clip, given=5)
    protocol = replace(PROTOCOL, clip=rule, prompts="one-per-item", n_fake=6, n_real=6, heldout="")
    plan = make_plan(data_set(), protocol, seed=0, pool=FakePool())
    assert [request.source for request in plan.requests] == [clip.ref for clip in plan.reference]
    assert not {clip.ref.item_id for clip in plan.heldout} & {clip.ref.item_id for clip in plan.reference}


def test_prompts_without_videos_need_none():
    items = tuple(Item(f"line-{k}", None, "", f"prompt {k}", "", "all") for k in range(5))
    protocol = replace(PROTOCOL, split="all", heldout="", prompts="one-per-item", n_fake=0, n_real=None)
    plan = make_plan(DataSet("prompts", Path("p.txt"), items), protocol, seed=0, pool=FakePool())
    assert [request.prompt for request in plan.requests] == [f"prompt {k}" for k in range(5)]
    assert plan.reference == ()


def test_chinese_prompts_are_scored_with_the_english_caption():
    data = data_set()
    captions = {**data.captions, "zh": {f"Class{c}": f"第{c}类" for c in range(4)}}
    plan = make_plan(replace(data, captions=captions), PROTOCOL, seed=0, pool=FakePool(), language="zh")
    assert plan.requests[0].prompt.startswith("第")
    assert plan.captions[0].startswith("class number")
