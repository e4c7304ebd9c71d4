"""Bad input at the door: one line that says what, where and how to mend it; the exit code; nothing half-written.

What only one module can meet (a lying server, a damaged record) is tested beside that module.
"""

import os
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

import cogeval
from cogvideo.video import write_video
from eval.datasets.shapes_drawing import classes
from eval.datasets.ucf101 import class_names
from eval.plan import make_plan

CHECKOUT = Path(__file__).resolve().parents[1]


@pytest.fixture
def door(capsys, monkeypatch, tmp_path):
    """Runs the command line in an empty folder; gives (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        code = cogeval.main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def refused(answer, code, *parts):
    """One error line with every part, the exit code, and no traceback."""
    got, out, err = answer
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert got == code, err
    assert len(lines) == 1, err
    assert "Traceback" not in err
    assert not out
    for part in parts:
        assert part in lines[0]


def nothing_written(folder):
    """No run folder, no temporary file: a refusal before the first sample leaves no trace."""
    assert not (folder / "runs").exists()
    assert not list(folder.rglob("*.tmp"))
    assert not list(folder.rglob("*.part"))


def write(path, clip_THWC, fps=8, codec="h264"):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, clip_THWC, fps=fps, codec=codec)


def clip(seed=0, frames=16, size=64):
    """Soft noise that moves: no two seeds are alike and no frame repeats."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (frames, 8, 8, 3), dtype=np.uint8)
    return coarse.repeat(size // 8, axis=1).repeat(size // 8, axis=2)


@pytest.fixture
def videos(tmp_path):
    """Two good videos for the first two samples of the embedded plan, in class folders."""
    names = sorted(of.name for of in classes("benchmark"))[:2]
    for number, name in enumerate(names):
        write(tmp_path / "model" / name / "one.mp4", clip(number), fps=8)
    return [tmp_path / "model" / name / "one.mp4" for name in names]


SMALL = ("--samples", 2, "--metric", "fvd", "--workers", 0, "--quiet")


def score(door, *more):
    return door("ucf101", "--generator", "folder:model", *SMALL, *more)


def test_two_good_videos_are_scored(door, videos, tmp_path):
    code, out, err = score(door, "--json")
    assert code == 0, err
    assert '"n_fake": 2' in out


def test_a_folder_that_is_not_ucf101(door, tmp_path):
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "beach.jpg").write_bytes(b"\xff\xd8")
    refused(door("ucf101", "--data", "holiday"), 2, "holiday")
    nothing_written(tmp_path)


def test_no_such_folder(door, tmp_path):
    refused(door("ucf101", "--data", "nowhere"), 2, "no such folder or file: nowhere")
    nothing_written(tmp_path)


def test_a_split_list_with_an_unknown_class(door, tmp_path):
    lists = tmp_path / "UCF-101" / "ucfTrainTestlist"
    lists.mkdir(parents=True)
    write(tmp_path / "UCF-101" / "Archery" / "v_Archery_g01_c01.avi", clip(), fps=25, codec="ffv1")
    (lists / "classInd.txt").write_bytes(
        b"".join(b"%d %s\r\n" % (k, n.encode()) for k, n in enumerate(class_names(), 1))
    )
    (lists / "trainlist01.txt").write_bytes(b"Archery/v_Archery_g01_c01.avi 3\r\nJuggling/v_Juggling_g01_c01.avi 2\r\n")
    (lists / "testlist01.txt").write_bytes(b"")
    refused(door("ucf101", "--data", "UCF-101"), 2, "trainlist01.txt", "2", "Juggling")
    nothing_written(tmp_path)


def zero_bytes(path):
    path.write_bytes(b"")


def truncated(path):
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 6 // 10])


def audio_only(path):
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)


def one_frame(path):
    write(path, clip(frames=1), fps=8)


def too_short(path):
    write(path, clip(frames=11), fps=8)


def too_small(path):
    write(path, clip(size=32), fps=8)


def another_size(path):
    write(path, clip(size=96), fps=8)


def variable_rate(path):
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 100)
        at = 0
        for index, pixels in enumerate(clip(frames=24)):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = at, Fraction(1, 100)
            at += 5 if index % 3 else 40
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)


def not_a_video(path):
    path.write_text("this is a letter, not a video\n" * 100)


@pytest.mark.parametrize(
    ("spoil", "parts"),
    [
        (zero_bytes, ["one.mp4"]),
        (truncated, ["one.mp4"]),
        (not_a_video, ["one.mp4"]),
        (audio_only, ["one.mp4", "no video"]),
        (one_frame, ["one.mp4", "one frame"]),
        (too_short, ["one.mp4", "16", "11"]),
        (too_small, ["one.mp4", "32x32", "64x64"]),
        (another_size, ["96x96", "64x64"]),
        (variable_rate, ["one.mp4", "variable frame rate"]),
    ],
)
def test_a_bad_video_in_the_folder(door, videos, tmp_path, spoil, parts):
    spoil(videos[1])
    refused(score(door), 2, *parts)
    nothing_written(tmp_path)


def test_a_missing_video(door, videos, tmp_path):
    shutil.rmtree(videos[1].parent)
    refused(score(door), 2, videos[1].parent.name)
    nothing_written(tmp_path)


def test_the_same_clip_twice_is_rejected_and_what_is_finished_stays(door, videos, tmp_path):
    shutil.copy(videos[0], videos[1])
    refused(score(door), 2, "1 of 2 samples were rejected", "00001", "00000")
    run = next((tmp_path / "runs" / "ucf101").iterdir())
    assert not (run / "result.json").exists()
    assert len((run / "samples.jsonl").read_text().splitlines()) == 2


def test_partial_runs_end_with_exit_code_4(door, tmp_path):
    names = sorted(of.name for of in classes("benchmark"))[:4]
    for number, name in enumerate(names):
        write(tmp_path / "model" / name / "one.mp4", clip(min(number, 2)), fps=8)
    code, out, err = score(door, "--samples", 4, "--partial", "--json")
    assert code == 4, err
    assert '"status": "partial"' in out
    assert "1 of 4 samples were rejected" in out


def test_more_samples_than_there_are_real_clips(door, tmp_path):
    answer = door("ucf101", "--generator", "real", "--samples", 5000, "--quiet")
    refused(answer, 2, "of 5,000 samples have none", "--data")
    nothing_written(tmp_path)


def test_fewer_real_clips_than_asked_for(door, tmp_path):
    answer = door("ucf101", "--generator", "noise", "--real-samples", 5000, "--quiet")
    refused(answer, 2, "needs 5,000 real clips", "640")
    nothing_written(tmp_path)


def test_an_unknown_metric(door, tmp_path):
    refused(door("ucf101", "--metric", "fwd"), 2, "unknown metric 'fwd'", "did you mean fvd")
    nothing_written(tmp_path)


def test_an_unknown_protocol(door, tmp_path):
    refused(door("ucf101", "--protocol", "ucf101-shape"), 2, "unknown protocol", "did you mean ucf101-shapes")
    nothing_written(tmp_path)


def test_an_unknown_generator(door, tmp_path):
    refused(door("ucf101", "--generator", "foldre:model"), 2, "foldre", "did you mean")
    nothing_written(tmp_path)


def test_a_device_that_is_not_here(door, tmp_path):
    refused(door("ucf101", "--device", "cuda:9"), 3, "cuda:9", "--device cpu")
    refused(door("ucf101", "--device", "banana"), 2, "banana")
    nothing_written(tmp_path)


def test_published_numbers_need_weights_that_must_be_fetched(door, tmp_path, monkeypatch):
    monkeypatch.setenv("COGEVAL_HOME", str(tmp_path / "home"))
    data = tmp_path / "UCF-101"
    lists = data / "ucfTrainTestlist"
    lists.mkdir(parents=True)
    names = [f"Archery/v_Archery_g0{k}_c01.avi" for k in (1, 2, 8, 9)]
    for number, name in enumerate(names):
        write(data / name, clip(number, size=128), fps=25, codec="ffv1")
    (lists / "classInd.txt").write_text("".join(f"{k} {n}\n" for k, n in enumerate(class_names(), 1)))
    (lists / "trainlist01.txt").write_text("".join(f"{name} 3\n" for name in names[2:]))
    (lists / "testlist01.txt").write_text("".join(f"{name}\n" for name in names[:2]))
    small = ("--samples", 2, "--real-samples", 2, "--offline", "--quiet")
    answer = door("ucf101", "--data", data, "--metric", "fvd", *small)
    refused(answer, 3, "i3d-tats", "cogeval weights")
    both = door("ucf101", "--data", data, "--metric", "fvd", "--metric", "fid", *small)
    refused(both, 3, "cogeval weights fetch i3d-tats inception-fid")
    nothing_written(tmp_path)


def test_features_that_are_not_finite(door, tmp_path, monkeypatch):
    import torch

    from eval.detectors.contract import Detector
    from eval.registry import Entry, detectors

    class Broken(Detector):
        name, layers, chunk = "i3d-shapes", {"logits": 21}, 8

        def __call__(self, clips_BCTHW):
            found = clips_BCTHW.mean(dim=(1, 2, 3, 4))[:, None].repeat(1, 21)
            found[1] = torch.nan
            return {"logits": found}

    monkeypatch.setenv("COGEVAL_HOME", str(tmp_path / "home"))
    broken = Entry("i3d-shapes", lambda *_, **__: Broken(), "", {})
    monkeypatch.setitem(detectors.entries, "i3d-shapes", broken)
    answer = door("ucf101", "--generator", "noise", *SMALL)
    refused(answer, 2, "not finite", "i3d-shapes", "2 of 16 clips")
    nothing_written(tmp_path)
    assert not list((tmp_path / "home").rglob("*.npz"))


def test_a_full_disk_loses_nothing_finished(tmp_path):
    """A limit on file sizes stands in for a full disk; the next start goes on and ends like a run left alone."""
    command = [sys.executable, "-m", "cogeval", "ucf101", "--generator", "noise", "--samples", "40", "--quiet"]
    command += ["--metric", "fvd", "--workers", "0", "--out", "runs", "--json", "--no-keep-videos"]
    limited = ["sh", "-c", 'ulimit -f 96; exec "$@"', "sh", *command]
    full = subprocess.run(limited, cwd=tmp_path, capture_output=True, text=True, env=os.environ, timeout=300)
    assert full.returncode == 2, full.stderr
    assert full.stderr.startswith("error: cannot write")
    assert full.stderr.count("\n") == 1
    assert not list(tmp_path.rglob("*.tmp"))
    assert not list(tmp_path.rglob("result.json"))
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=os.environ, timeout=300)
    assert again.returncode == 0, again.stderr


def test_two_fingerprints_are_not_ranked_together(door, videos, tmp_path):
    assert score(door, "--json")[0] == 0
    assert door("ucf101", "--generator", "noise", *SMALL, "--real-samples", 100, "--json")[0] == 0
    runs = sorted((tmp_path / "runs" / "ucf101").iterdir())
    refused(door("compare", *runs, "--strict"), 2, "not ranked together", "n_real")
    code, out, _ = door("compare", *runs)
    assert code == 0
    assert "not ranked together" in " ".join(out.split())


def test_a_damaged_and_a_newer_result(door, tmp_path):
    run = tmp_path / "runs" / "ucf101" / "old"
    run.mkdir(parents=True)
    (run / "result.json").write_text('{"schema_version": 1, "status": "comp')
    refused(door("compare", run, run), 2, "result.json", "damaged")
    (run / "result.json").write_text('{"schema_version": 99}')
    refused(door("compare", run, run), 2, "schema 99", "upgrade")


def test_the_plan_is_importable_without_torch():
    """The refusals above come before torch is needed for anything; keep it so."""
    assert make_plan.__module__ == "eval.plan"
    code = "import sys, eval.plan, eval.generators.folder; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT.parent, timeout=60).returncode == 0
