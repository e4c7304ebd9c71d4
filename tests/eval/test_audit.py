"""Every rejection has its reason, nothing depends on the order of the samples."""

import os
import random
import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest

from cogvideo.errors import UserError
from cogvideo.video import write_video
from eval.audit import (
    Verdict,
    audit_clip,
    audit_counts,
    audit_sizes,
    audit_video_file,
    find_duplicates,
    natural_order,
    pixels_sha256,
)


def noise(seed=0, n=16, height=8, width=12):
    return np.random.default_rng(seed).integers(0, 256, (n, height, width, 3), dtype=np.uint8)


def test_a_good_clip_passes():
    verdict = audit_clip(noise(), frames=16, size=(8, 12), sample_id="s1")
    assert verdict == Verdict(True, sha256=pixels_sha256(noise()))
    assert audit_clip(noise(), frames=16) == verdict


@pytest.mark.parametrize(
    ("clip", "kind", "said"),
    [
        (noise(n=11), "frames", "expected 16 frames; sample 's1' has 11"),
        (noise(n=17), "frames", "has 17"),
        (noise(n=0), "frames", "has 0"),
        (noise(height=9), "size", "expected 12x8 pixels; sample 's1' has 12x9"),
        (noise().astype(np.float32), "type", "is float32 \\(16, 8, 12, 3\\)"),
        (noise()[..., :1], "type", "is uint8 \\(16, 8, 12, 1\\)"),
        (noise()[0], "type", "is uint8 \\(8, 12, 3\\)"),
        (None, "type", "is NoneType"),
        (noise().tolist(), "type", "is list"),
        (np.full((16, 8, 12, 3), 7, np.uint8), "constant", "every pixel of sample 's1' is #070707"),
        (np.zeros((16, 8, 12, 3), np.uint8) + np.array([255, 0, 16], np.uint8), "constant", "#ff0010"),
    ],
)
def test_bad_clips_are_rejected_with_a_reason(clip, kind, said):
    verdict = audit_clip(clip, frames=16, size=(8, 12), sample_id="s1")
    assert (verdict.ok, verdict.kind) == (False, kind)
    assert "\n" not in verdict.reason
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(verdict.reason)


def test_one_pixel_makes_a_clip_that_is_not_constant():
    clip = np.full((16, 8, 12, 3), 7, np.uint8)
    clip[3, 2, 1, 0] = 8
    assert audit_clip(clip, frames=16).ok


def test_a_frozen_clip_passes_with_a_warning():
    frozen = np.repeat(noise(n=1), 16, axis=0)
    verdict = audit_clip(frozen, frames=16, sample_id="s1")
    assert verdict.ok
    assert verdict.warnings == ("sample 's1' does not move: its 16 frames are equal",)
    frozen[15, 0, 0, 0] ^= 1
    assert audit_clip(frozen, frames=16).warnings == ()
    assert audit_clip(noise(n=1), frames=1).warnings == ()


def test_the_hash_is_of_the_pixels_and_the_shape():
    clip = noise()
    assert pixels_sha256(clip) == pixels_sha256(np.asfortranarray(clip))
    assert pixels_sha256(clip) == pixels_sha256(np.repeat(clip, 2, axis=2)[:, :, ::2])
    assert pixels_sha256(clip) != pixels_sha256(clip.reshape(16, 12, 8, 3))
    assert pixels_sha256(clip) != pixels_sha256(clip[::-1])


def test_a_repetition_of_an_earlier_sample_is_rejected():
    sha256 = pixels_sha256(noise())
    again = audit_clip(noise(), frames=16, sample_id="s10", seen={sha256: "s9"})
    assert (again.ok, again.kind, again.sha256) == (False, "duplicate", sha256)
    assert "sample 's10' repeats 's9'" in again.reason
    assert audit_clip(noise(), frames=16, sample_id="s9", seen={sha256: "s10"}).ok
    assert audit_clip(noise(), frames=16, sample_id="s9", seen={sha256: "s9"}).ok
    assert not audit_clip(noise(), frames=16, seen={sha256: "s9"}).ok
    assert audit_clip(noise(1), frames=16, sample_id="s10", seen={sha256: "s9"}).ok


def test_duplicates_are_the_same_in_any_order():
    seeds = [0, 1, 0, 2, 1, 0, 3, 3, 4, 5, 0, 6]
    hashes = {f"s{i}": pixels_sha256(noise(seed)) for i, seed in enumerate(seeds)}
    found = find_duplicates(hashes)
    assert {i: v.kind for i, v in found.items()} == dict.fromkeys(["s2", "s4", "s5", "s7", "s10"], "duplicate")
    assert "'s10' repeats 's0'" in found["s10"].reason
    for seed in range(5):
        items = list(hashes.items())
        random.Random(seed).shuffle(items)
        assert find_duplicates(dict(items)) == found


def test_ids_are_ordered_as_people_count():
    ids = ["s10", "s9", "a/2", "a/10", "10", "9", "009", "", "s9b"]
    assert sorted(ids, key=natural_order) == ["", "009", "9", "10", "a/2", "a/10", "s9", "s9b", "s10"]


def test_mixed_sizes_reject_the_few():
    sizes = {"s1": (64, 80), "s2": (64, 64), "s3": (64, 64)}
    verdicts = audit_sizes(sizes)
    assert list(verdicts) == ["s1"]
    assert "sample 's1' is 80x64, the others 64x64" in verdicts["s1"].reason
    assert audit_sizes(dict.fromkeys("abc", (8, 8))) == {}
    assert audit_sizes({}) == {}
    # Half and half: the size of the first sample, in whatever order they come.
    assert list(audit_sizes({"s10": (1, 1), "s9": (2, 2)})) == ["s10"]
    assert list(audit_sizes({"s9": (2, 2), "s10": (1, 1)})) == ["s10"]


def test_too_few_samples_say_how_many_are_missing():
    verdict = audit_counts(
        protocol="ucf101/x", n_good=2040, n_needed=2048, rejected={"frames": 5, "duplicate": 3, "size": 0}
    )
    assert (verdict.ok, verdict.kind) == (False, "too-few")
    assert verdict.reason.startswith("ucf101/x needs 2048 samples; 2040 are good (rejected: 3 duplicate, 5 frames);")
    assert "generate the missing 8" in verdict.reason
    assert audit_counts(protocol="x", n_good=2048, n_needed=2048).ok


def test_fewer_samples_than_features_are_a_warning():
    sizes = {"fvd/a": 400, "fid/b": 2048, "fid/c": 512}
    verdict = audit_counts(protocol="x", n_good=512, n_needed=512, feature_sizes=sizes)
    assert verdict.ok
    assert [w.split(":")[0] for w in verdict.warnings] == ["fid/b"]
    assert "512 samples in 2048 dimensions give a covariance of rank 511" in verdict.warnings[0]


def video(path, n=20, **kwargs):
    write_video(path, noise(n=n, height=32, width=48), fps=8, codec="ffv1", **kwargs)
    return path


def uneven(path):
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=1000)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "bgr0"
        for at, picture in zip(np.cumsum([0, *[40, 90] * 9, 40]), noise(n=20, height=32, width=48), strict=True):
            frame = av.VideoFrame.from_ndarray(picture).reformat(format="bgr0")
            frame.pts, frame.time_base = int(at), Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def test_a_good_video_file_passes(tmp_path):
    info = audit_video_file(video(tmp_path / "x.avi"), frames=16, size=(32, 48))
    assert (info.n_frames, info.is_decoded) == (20, True)
    assert audit_video_file(tmp_path / "x.avi", frames=5, stride=4, start=3).n_frames == 20
    assert audit_video_file(tmp_path / "x.avi", frames=20, fps=8).n_frames == 20
    assert audit_video_file(uneven(tmp_path / "y.mkv"), frames=9, fps=8).is_variable_rate


def test_bad_video_files_are_refused_with_one_line(tmp_path):
    whole = video(tmp_path / "whole.avi")
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "half.avi").write_bytes(whole.read_bytes()[:20_000])
    video(tmp_path / "one.avi", n=1)
    uneven(tmp_path / "uneven.mkv")
    cases = [
        ("empty.mp4", {}, "empty-file", "is empty"),
        ("half.avi", {}, "truncated", "is cut short"),
        ("none.avi", {}, "missing", "does not exist"),
        ("one.avi", {}, "one-frame", "has one frame"),
        ("uneven.mkv", {}, "variable-rate", "variable frame rate"),
        ("whole.avi", {"frames": 21}, "too-short", "expected 21 frames (21 at stride 1 from 0)"),
        ("whole.avi", {"frames": 6, "stride": 4}, "too-short", "expected 21 frames (6 at stride 4 from 0)"),
        ("whole.avi", {"start": 5}, "too-short", "expected 21 frames (16 at stride 1 from 5)"),
        ("whole.avi", {"frames": 21, "fps": 8}, "too-short", "expected more than 2.5 s (21 frames at 8 fps from 0)"),
        ("whole.avi", {"size": (48, 32)}, "wrong-size", "expected 32x48 pixels"),
    ]
    for name, asked, reason, said in cases:
        with pytest.raises(UserError) as caught:
            audit_video_file(tmp_path / name, **{"frames": 16, **asked})
        message = str(caught.value)
        assert (caught.value.reason, caught.value.exit_code) == (reason, 2), message
        assert said in message
        assert os.fspath(tmp_path / name) in message
        assert "\n" not in message


def test_the_audit_loads_no_torch():
    code = "import sys, eval.audit; print(sorted({'torch', 'pandas', 'scipy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
