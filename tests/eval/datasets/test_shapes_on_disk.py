"""`shapes` as a folder: UCF-101's layout, lossless, whole or not at all, the same from its seed."""

import hashlib
from collections import Counter

import numpy as np
import pytest

from cogvideo.errors import UserError
from cogvideo.video import probe, read_clip
from eval.datasets import shapes
from eval.datasets.shapes_drawing import classes, draw_clip
from eval.registry import datasets


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return shapes.render(tmp_path_factory.mktemp("data") / "shapes")


def digest(folder):
    """One hash over the names and bytes of all files."""
    sha = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        sha.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return sha.hexdigest()


def small_plan(monkeypatch, n_classes=2):
    """The first classes only, so that a rendering takes a moment."""
    whole = shapes.plan

    def few(**settings):
        return whole(**settings)[: n_classes * shapes.GROUPS * shapes.CLIPS_PER_GROUP]

    monkeypatch.setattr(shapes, "plan", few)


def test_it_reads_as_a_complete_data_set(root):
    data = shapes.open_(root)
    assert data.name == "shapes"
    assert data.official_counts == {"train": 640, "test": 320}
    assert (data.missing, data.extra, data.broken) == ((), (), ())
    assert data.classes == tuple(of.name for of in classes("benchmark"))
    assert Counter(item.label for item in data.select("test")) == dict.fromkeys(data.classes, 8)
    assert Counter(item.label for item in data.select("train")) == dict.fromkeys(data.classes, 16)


def test_captions_describe_the_class(root):
    captions = {item.label: item.caption for item in shapes.open_(root).items}
    assert captions["RedCircleMovingLeft"] == "a red circle moving left"
    assert captions["WhiteTriangleGrowing"] == "a white triangle growing"
    assert len(set(captions.values())) == 40


def test_no_group_is_on_both_sides(root):
    data = shapes.open_(root)
    test, train = ({item.group for item in data.select(side)} for side in ("test", "train"))
    assert not test & train
    assert (len(test), len(train)) == (160, 320)


def test_files_hold_the_drawn_frames(root):
    path = root / "RedCircleMovingLeft" / "v_RedCircleMovingLeft_g03_c02.avi"
    scene = "0/RedCircleMovingLeft/g03"
    assert (read_clip(path) == draw_clip("circle", "red", "left", f"{scene}/c02", scene=scene)).all()
    info = probe(path)
    assert (info.width, info.height, info.n_frames, info.fps) == (64, 64, 17, 8)


def test_frames_of_the_shipped_seed_never_change(root):
    sha = hashlib.sha256()
    for item in sorted(shapes.open_(root).items, key=lambda item: item.id)[::40]:
        sha.update(read_clip(item.path).tobytes())
    assert sha.hexdigest()[:16] == "7a7cc10fa65d46e3"


def test_no_clip_is_there_twice():
    keys = {(clip.of, clip.group, clip.number) for clip in shapes.plan()}
    assert len(keys) == len(shapes.plan()) == 960
    some = [
        draw_clip("square", "green", "right", f"0/GreenSquareMovingRight/g{g:02d}/c{c:02d}")
        for g in (1, 2)
        for c in (1, 2)
    ]
    assert len({clip.tobytes() for clip in some}) == 4


def test_the_same_seed_gives_the_same_bytes_with_any_number_of_workers(tmp_path, monkeypatch):
    small_plan(monkeypatch)
    one = shapes.render(tmp_path / "one", workers=1)
    two = shapes.render(tmp_path / "two", workers=2)
    other = shapes.render(tmp_path / "other", seed=1)
    assert digest(one) == digest(two)
    assert digest(one) != digest(other)


def test_plain_ones_are_drawn_on_request(tmp_path, monkeypatch):
    small_plan(monkeypatch)
    root = shapes.render(tmp_path / "plain", style="plain")
    paths = sorted(root.glob("*/*.avi"))
    assert paths
    for path in paths:
        clip = read_clip(path)
        assert (clip[:, 0, 0] == clip[:1, 0, 0]).all()
    assert digest(root) != digest(shapes.render(tmp_path / "textured"))


def test_progress_ends_at_the_number_of_clips(tmp_path, monkeypatch):
    small_plan(monkeypatch)
    seen = []
    shapes.render(tmp_path / "s", progress=lambda done, of: seen.append((done, of)))
    assert seen == [(24, 48), (48, 48)]


def test_an_interrupted_rendering_leaves_nothing(tmp_path, monkeypatch):
    small_plan(monkeypatch)

    def stop(done, of):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shapes.render(tmp_path / "s", progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    small_plan(monkeypatch)

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shapes, "write_video", full)
    with pytest.raises(UserError, match="No space left on device") as caught:
        shapes.render(tmp_path / "s")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(UserError, match="new or empty folder"):
        shapes.render(tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "keep"


def test_an_empty_folder_is_filled(tmp_path, monkeypatch):
    small_plan(monkeypatch)
    (tmp_path / "s").mkdir()
    assert len(shapes.open_(shapes.render(tmp_path / "s")).items) == 48


def test_it_is_rendered_into_the_cache_once(tmp_path, monkeypatch):
    small_plan(monkeypatch)
    monkeypatch.setenv("COGEVAL_HOME", str(tmp_path / "home"))
    open_ = datasets.get("shapes").make
    first = open_()
    place = tmp_path / "home" / "data" / "shapes-v1-0"
    assert first.root == place
    written = {path: path.stat().st_mtime_ns for path in place.rglob("*.avi")}
    assert len(written) == 48
    again = open_()
    assert again.list_sha256 == first.list_sha256
    assert written == {path: path.stat().st_mtime_ns for path in place.rglob("*.avi")}


def test_two_that_render_at_once_agree(tmp_path, monkeypatch):
    """The slower one finds the folder there and throws its own away."""
    small_plan(monkeypatch)

    def overtaken(done, of):
        if done == of and not (tmp_path / "s").exists():
            shapes.render(tmp_path / "s")

    shapes.render(tmp_path / "s", progress=overtaken)
    assert [path.name for path in tmp_path.iterdir()] == ["s"]
    assert len(shapes.open_(tmp_path / "s").items) == 48


def test_a_folder_of_another_kind_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(UserError, match="is not shapes"):
        shapes.open_(tmp_path)


def test_all_classes_can_be_planned_for_training():
    assert len(shapes.plan(which="training")) == 186 * 24
    assert len({clip.relative for clip in shapes.plan(which="all")}) == 210 * 24
    assert np.mean([clip.split == "test" for clip in shapes.plan(which="all")]) == pytest.approx(1 / 3)


def test_more_groups_leave_those_that_fewer_have():
    few, many = shapes.plan(which="training", groups=5), shapes.plan(which="training", groups=7)
    assert set(few) < set(many)
    assert len(few) == 186 * 5 * 2
    assert Counter(clip.split for clip in few) == {"test": 186 * 8, "train": 186 * 2}


@pytest.mark.parametrize("groups", [4, 100])
def test_a_number_of_groups_that_cannot_be(groups):
    with pytest.raises(UserError, match=f"from 5 to 99 groups of clips a class, got {groups}"):
        shapes.plan(groups=groups)
