"""What the clips of `shapes` look like, and that they never change."""

import hashlib
from collections import Counter, defaultdict
from itertools import pairwise

import numpy as np
import pytest

from eval.datasets.shapes_drawing import (
    COLOURS,
    FRAMES,
    HELD_OUT_PAIRS,
    MOTIONS,
    SHAPES,
    SIZE,
    ShapeClass,
    caption,
    class_name,
    classes,
    draw_clip,
)


def centres(clip, back):
    """The centre (x, y) of the shape in every frame, from how far each pixel is from the background."""
    far_THW = np.abs(clip.astype(int) - back.astype(int)).sum(-1).astype(float)
    far_THW[far_THW < 90] = 0
    ys, xs = np.mgrid[0:SIZE, 0:SIZE]
    total = far_THW.sum((1, 2))
    return np.stack([(far_THW * xs).sum((1, 2)) / total, (far_THW * ys).sum((1, 2)) / total], 1)


def areas(clip, back):
    return (np.abs(clip.astype(int) - back.astype(int)).sum(-1) > 90).sum((1, 2))


def background(scene):
    """A scene without its shape: the middle value over small shapes that went to different places."""
    still = [
        draw_clip("circle", "white", m, f"{scene}-{k}", scene=scene)
        for m in ("left", "right", "up", "down")
        for k in (0, 1)
    ]
    return np.median(np.concatenate([clip[-1:] for clip in still]), axis=0).astype(np.uint8)


GOLDEN = {
    ("circle", "red", "left"): "8e24a2e969310c77",
    ("square", "green", "rotating"): "d68079304bee2b85",
    ("triangle", "white", "growing"): "83953d0547a45e34",
    ("cross", "purple", "circling"): "5b23da5acc4e278e",
}


@pytest.mark.parametrize(("shape", "colour", "motion"), GOLDEN)
def test_frames_never_change(shape, colour, motion):
    clip = draw_clip(shape, colour, motion, "golden")
    assert hashlib.sha256(clip.tobytes()).hexdigest()[:16] == GOLDEN[shape, colour, motion]


def test_a_clip_is_what_protocols_call_a_clip():
    clip = draw_clip("square", "blue", "up", 3)
    assert clip.dtype == np.uint8
    assert clip.shape == (FRAMES, SIZE, SIZE, 3) == (17, 64, 64, 3)


def test_the_same_key_gives_the_same_clip_and_another_key_another():
    first, again, other = (draw_clip("cross", "red", "down", key) for key in ("a", "a", "b"))
    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize("shape", SHAPES)
def test_the_first_frame_does_not_depend_on_the_motion(shape):
    """So first frames of all motions have one distribution, and nothing can tell the motion from one."""
    frames = [draw_clip(shape, "yellow", motion, 11)[0] for motion in MOTIONS]
    for frame in frames[1:]:
        assert (frame == frames[0]).all()


def test_every_motion_moves_from_frame_to_frame():
    for motion in MOTIONS:
        clip = draw_clip("cross", "white", motion, 5)
        assert all((a != b).any() for a, b in pairwise(clip)), motion


@pytest.mark.parametrize(("motion", "axis", "sign"), [("left", 0, -1), ("right", 0, 1), ("up", 1, -1), ("down", 1, 1)])
def test_translations_go_where_their_name_says(motion, axis, sign):
    back = background("plain")
    for key in range(8):
        path = centres(draw_clip("square", "white", motion, key, scene="plain"), back)
        way = path[-1] - path[0]
        assert 9 < sign * way[axis] < 23
        assert abs(way[1 - axis]) < 1.5


def test_growing_and_shrinking_change_the_area_as_the_square_of_the_radius():
    back = background("plain")
    for key in range(6):
        grown = areas(draw_clip("circle", "white", "growing", key, scene="plain"), back)
        shrunk = areas(draw_clip("circle", "white", "shrinking", key, scene="plain"), back)
        assert grown[-1] / grown[0] == pytest.approx(1.8**2, rel=0.12)
        assert shrunk[-1] / shrunk[0] == pytest.approx(0.52**2, rel=0.12)
        assert (np.diff(grown) > 0).all()
        assert (np.diff(shrunk) < 0).all()


def test_a_circle_ends_where_it_began_after_a_turn_and_a_bounce_comes_down_once_on_the_way():
    back = background("plain")
    for key in range(6):
        turn = centres(draw_clip("square", "white", "circling", key, scene="plain"), back)
        assert np.abs(turn[-1] - turn[0]).max() < 1
        assert np.linalg.norm(turn[8] - turn[0]) > 14
        height = -centres(draw_clip("square", "white", "bouncing", key, scene="plain"), back)[:, 1]
        height -= height[0]
        assert height.max() > 10
        assert height[5:13].min() < 3  # back down at two thirds of the way
        assert height[-1] > 10


@pytest.mark.parametrize("shape", ["square", "triangle", "cross"])
def test_rotation_keeps_the_place_and_changes_the_outline(shape):
    back = background("plain")
    clip = draw_clip(shape, "white", "rotating", 2, scene="plain")
    path = centres(clip, back)
    assert np.abs(path - path[0]).max() < 1.5
    assert (clip[0] != clip[8]).any(-1).sum() > 40


def test_clips_of_one_scene_share_the_background():
    one, two = (draw_clip("circle", "red", "left", key, scene="s") for key in (1, 2))
    corner = np.s_[:, :6, 58:]
    assert (one[corner] == two[corner]).all()
    assert (draw_clip("circle", "red", "left", 1, scene="t")[corner] != one[corner]).any()


def test_colours_can_be_told_apart_at_the_centre():
    back, seen = background("plain"), {}
    for colour in COLOURS:
        colours_of_keys = []
        for key in range(12):
            clip = draw_clip("square", colour, "rotating", key, scene="plain")
            x, y = centres(clip[:1], back)[0]
            colours_of_keys.append(clip[0, round(y), round(x)].astype(float))
        seen[colour] = np.array(colours_of_keys)
    for colour, values in seen.items():
        for other, others in seen.items():
            if other != colour:
                assert np.linalg.norm(values.mean(0) - others.mean(0)) > 4 * np.linalg.norm(values.std(0))


def test_the_space_of_classes():
    everything = classes("all")
    assert len(everything) == len(set(everything)) == 210
    assert ("circle", "rotating") not in {(of.shape, of.motion) for of in everything}
    assert len(classes("training")) == 186
    assert {(of.shape, of.motion) for of in everything} - {(of.shape, of.motion) for of in classes("training")} == set(
        HELD_OUT_PAIRS
    )
    assert len({of.name for of in everything}) == len({of.caption for of in everything}) == 210
    with pytest.raises(ValueError, match="nearly all"):
        classes("nearly all")


def test_a_look_of_the_benchmark_leaves_the_motion_open():
    """A judge who sees the look for sure and guesses the motion is right once in five times."""
    chosen = classes("benchmark")
    assert len(chosen) == len(set(chosen)) == 40
    assert set(chosen) <= set(classes("training"))
    motions_of = defaultdict(set)
    for of in chosen:
        motions_of[of.shape, of.colour].add(of.motion)
    assert {len(motions) for motions in motions_of.values()} == {5}
    assert set(Counter(of.motion for of in chosen).values()) == {4, 5}
    assert {of.motion for of in chosen} == set(MOTIONS)
    assert {of.shape for of in chosen} == set(SHAPES)


def test_names_and_captions_are_plain_english():
    assert caption("square", "red", "left") == "a red square moving left"
    assert caption("square", "red", "growing") == "a red square growing"
    assert class_name("square", "red", "left") == "RedSquareMovingLeft"
    of = ShapeClass("cross", "white", "bouncing")
    assert (of.name, of.caption) == ("WhiteCrossBouncing", "a white cross bouncing")


def test_plain_frames_never_change():
    clips = [draw_clip(*of, "golden", style="plain").tobytes() for of in GOLDEN]
    assert hashlib.sha256(b"".join(clips)).hexdigest()[:16] == "4c85d26963f65e90"


def test_plain_clips_stand_before_one_of_two_flat_colours():
    seen = set()
    for key in range(40):
        clip = draw_clip("circle", "white", "growing", key, style="plain")
        edges = np.concatenate([clip[:, 0], clip[:, -1], clip[:, :, 0], clip[:, :, -1]], axis=1)
        colours = np.unique(edges.reshape(-1, 3), axis=0)
        assert len(colours) == 1
        seen.add(tuple(colours[0]))
    assert len(seen) == 2


def test_plain_clips_differ_in_what_their_prompt_says_and_in_place_and_background_alone():
    """Every start is one of 49, and every square goes a pixel a frame to the right."""
    starts, looks = set(), set()
    for key in range(500):
        clip = draw_clip("square", "white", "right", key, style="plain")
        path = centres(clip, np.broadcast_to(clip[0, 0, 0], (SIZE, SIZE, 3)))
        x, y = (round(value) for value in path[0])
        # In the last frame the border may cut it.
        assert path[:16] == pytest.approx(np.array([[x + k, y] for k in range(16)]), abs=0.05)
        starts.add((x, y))
        looks.add((clip[0, y - 12 : y + 13, x - 12 : x + 13] == clip[0, y, x]).all(-1).tobytes())
    assert starts == {(x, y) for x in range(26, 40, 2) for y in range(26, 40, 2)}
    assert len(looks) == 1


@pytest.mark.parametrize("shape", SHAPES)
def test_the_first_plain_frame_does_not_depend_on_the_motion_either(shape):
    frames = [draw_clip(shape, "yellow", motion, 11, style="plain")[0] for motion in MOTIONS]
    for frame in frames[1:]:
        assert (frame == frames[0]).all()


def test_plain_things_turn_one_way_and_circles_start_at_the_right():
    turned = set()
    for key in range(40):
        clip = draw_clip("square", "white", "circling", key, style="plain")
        path = centres(clip, np.broadcast_to(clip[0, 0, 0], (SIZE, SIZE, 3)))
        if path.min() > 12:  # not cut by the border
            assert path[8] - path[0] == pytest.approx([-20, 0], abs=0.1)
            assert path[4] - path[0] == pytest.approx([-10, 10], abs=0.1)
            turned.add(key)
    assert len(turned) > 4
    clips = [draw_clip("cross", "white", "rotating", key, style="plain") for key in range(400)]
    same = [clip for clip in clips if (clip[0] == clips[0][0]).all()]
    assert len(same) > 1
    assert all((clip == clips[0]).all() for clip in same)


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="hexagon"):
        draw_clip("hexagon", "red", "left", 0)
    with pytest.raises(ValueError, match="textured, plain, got 'flat'"):
        draw_clip("circle", "red", "left", 0, style="flat")
