"""`cogeval generate`: what it writes, what it refuses with which line, and that it goes on where it was."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

import cogeval
from cogvideo.commands.progress import duration
from cogvideo.commands.reading import read_prompts
from cogvideo.forward import QUIRKS
from cogvideo.pipeline import CogVideo
from cogvideo.video import read_clip, write_video

PROMPT = "a red circle moving left"
# Five frames, key frames alone: enough for everything that does not need the hierarchy.
SHORT = ("--frames", 5, "--fps", 1, "--no-super-resolution")


@pytest.fixture
def door(capsys, monkeypatch, tmp_path):
    """Runs the command in an empty folder; gives (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        code = cogeval.main(["generate", *map(str, arguments)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture
def short(door, weights):
    """The command with small networks and few frames."""
    return lambda *arguments: door("--checkpoint", weights, *SHORT, *arguments)


def refused(answer, code, *parts):
    """One line on stderr with every part, the exit code, and no traceback."""
    got, out, err = answer
    assert got == code, err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert not out
    for part in parts:
        assert part in err


def made(folder):
    """File name -> sha256 of the videos in a folder."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.mp4"))}


def sidecars(folder):
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]


# --- what is written


def test_a_prompt_becomes_a_video_with_its_recipe(short, tmp_path):
    code, out, err = short(PROMPT)
    assert code == 0, err
    video = tmp_path / out.strip()
    assert video.parent == tmp_path / "videos"
    assert video.name.startswith("a-red-circle-moving-left-0-")
    assert sorted(path.suffix for path in video.parent.iterdir()) == [".json", ".mp4"]
    (values,) = sidecars(video.parent)
    assert (values["prompt"], values["frames"], values["fps"]) == (PROMPT, 5, 1.0)
    assert values["made"]["file"] == video.name
    assert values["made"]["sha256"] == made(video.parent)[video.name]
    assert "shapes (trained weights) on cpu: 1 video of 5 frames at 1 a second, 32 x 32 pixels" in err
    assert "1 of 1 video made in " in err


def boxes(path):
    """The names of the top boxes of an MP4 file, in order."""
    content, names, at = path.read_bytes(), [], 0
    while at < len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        names.append(content[at + 4 : at + 8].decode())
        at += size or len(content)
    return names


def test_mp4_plays_everywhere_and_at_once(door, weights):
    code, out, err = door(PROMPT, "--checkpoint", weights)
    assert code == 0, err
    video = Path(out.strip())
    with av.open(str(video)) as container:
        (stream,) = container.streams
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height) == (96, 96)
        assert stream.average_rate == 8
        assert sum(1 for _ in container.decode(stream)) == 33
    names = boxes(video)
    assert names.index("moov") < names.index("mdat")


def test_frames_and_gif_on_request_show_the_same_pictures(short, tmp_path):
    code, out, _ = short(PROMPT, "--format", "frames")
    assert code == 0
    folder = tmp_path / out.strip()
    assert sorted(path.name for path in folder.iterdir()) == [f"{k:06d}.png" for k in range(5)]
    frames = np.stack([np.asarray(Image.open(path)) for path in sorted(folder.iterdir())])
    code, out, _ = short(PROMPT, "--format", "gif")
    assert code == 0
    with Image.open(tmp_path / out.strip()) as moving:
        assert (moving.n_frames, moving.info["duration"]) == (5, 1000)
        for k in range(5):
            moving.seek(k)
            assert abs(np.asarray(moving.convert("RGB")).astype(int) - frames[k]).mean() < 20
    code, out, _ = short(PROMPT)
    film = read_clip(tmp_path / out.strip())
    # Films keep a quarter of the colour, and weights that nobody trained colour every pixel anew: brightness it is.
    assert abs(film.mean(-1) - frames.mean(-1)).mean() < 12
    # Frame k of the film is nearest to picture k: the order is kept.
    distance = abs(film[:, None].astype(int) - frames[None]).mean((2, 3, 4))
    assert distance.argmin(1).tolist() == list(range(5))
    assert len({values["made"]["sha256"] for values in sidecars(tmp_path / "videos")}) == 3


def test_json_is_one_object_and_quiet_is_silent(short):
    code, out, err = short(PROMPT, "--samples", 2, "--json", "--quiet")
    assert code == 0
    assert err == ""
    answer = json.loads(out)
    assert answer["made"] == 2
    assert [(row["prompt"], row["sample"]) for row in answer["videos"]] == [(PROMPT, 0), (PROMPT, 1)]
    assert all(Path(row["video"]).is_file() and Path(row["recipe"]).is_file() for row in answer["videos"])
    assert {"first frame", "key frames", "decoding"} <= set(answer["seconds"])


def test_paths_stand_alone_on_stdout(short):
    code, out, err = short("--file", prompts_file("a red circle\nblue square\n"))
    assert code == 0
    assert [Path(line).suffix for line in out.splitlines()] == [".mp4", ".mp4"]
    assert all(line not in err for line in out.splitlines())


# --- what decides


def prompts_file(text, name="prompts.txt"):
    Path(name).write_bytes(text.encode() if isinstance(text, str) else text)
    return name


def test_batches_change_no_video(short, tmp_path):
    prompts_file(f"{PROMPT}\nblue square\na green cross\n")
    for size in (1, 2, 4):
        code, _, err = short("--file", "prompts.txt", "--samples", 2, "--batch-size", size, "--out", f"by{size}")
        assert code == 0, err
    assert made(tmp_path / "by1") == made(tmp_path / "by2") == made(tmp_path / "by4")
    assert len(made(tmp_path / "by1")) == len(set(made(tmp_path / "by1").values())) == 6


def test_parallel_decoding_changes_no_video(door, weights, tmp_path):
    for flag in ("--parallel", "--no-parallel"):
        arguments = (PROMPT, "--checkpoint", weights, "--frames", 17, "--fps", 4, "--no-super-resolution")
        assert door(*arguments, flag, "--out", flag.strip("-"))[0] == 0
    assert made(tmp_path / "parallel") == made(tmp_path / "no-parallel") != {}


def flags_of(values, weights):
    """The flags that a recipe stands for; everything in it has to be used."""
    settings = dict(values["settings"])
    video, first = settings.pop("video"), settings.pop("first_frame")
    assert first == {"temperature": 1.0, "top_k_clusters": 16, "within_temperature": 0.89}
    assert settings.pop("superres") == {"temperature": 1.0, "top_k_clusters": 6, "within_temperature": 0.6}
    assert (settings.pop("text_bonus"), settings.pop("is_greedy"), video["within_temperature"]) == (1.4, False, 0.89)
    quirks = settings.pop("quirks")
    flags = ["--quirks", next(name for name, known in QUIRKS.items() if vars(known) == quirks)]
    flags += ["--temperature", video["temperature"], "--top-k", video["top_k_clusters"]]
    scale = settings.pop("guidance_scale")
    flags += ["--no-guidance"] if scale is None else ["--guidance-scale", scale]
    for part in ("first-frame", "between"):
        if (scale := settings.pop(f"{part.replace('-', '_')}_guidance_scale")) is not None:
            flags += [f"--{part}-guidance-scale", scale]
    flags += ["--super-resolution" if settings.pop("super_resolution") else "--no-super-resolution"]
    flags += ["--refine" if settings.pop("refine") else "--no-refine", "--format", settings.pop("format")]
    if "batch_size" in settings:
        flags += ["--batch-size", settings.pop("batch_size")]
    assert settings == {}
    if values["given"]:
        flags += ["--given", values["given"]["file"], "--given-frames", values["given"]["frames"]]
    assert values["model"]["name"] == weights.name
    flags += ["--checkpoint", weights, "--seed", values["seed"], "--samples", values["sample"] + 1]
    flags += ["--frames", values["frames"], "--fps", values["fps"]]
    return [values["prompt"], *flags, "--device", values["device"], "--dtype", values["dtype"]]


@pytest.mark.parametrize(
    "choices",
    [
        ("--frames", 5, "--fps", 1, "--seed", 3),
        ("--frames", 6, "--fps", 4, "--between-guidance-scale", 2, "--quirks", "release", "--no-super-resolution"),
        ("--frames", 2, "--fps", 8, "--no-guidance", "--temperature", 0.8, "--top-k", 1, "--format", "gif"),
        ("--frames", 2, "--fps", 8, "--first-frame-guidance-scale", 2, "--no-super-resolution"),
        ("--frames", 2, "--fps", 1, "--refine", "--guidance-scale", 1.5, "--samples", 2),
        ("--frames", 6, "--fps", 4, "--given", "start.png", "--no-super-resolution"),
        ("--frames", 2, "--fps", 1, "--dtype", "bfloat16", "--batch-size", 2, "--no-super-resolution"),
    ],
    ids=lambda choices: choices[-1],
)
def test_a_recipe_is_all_that_is_needed(door, weights, choices):
    """The values of a sidecar, as flags, make the same file."""
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)).save("start.png")
    assert door(PROMPT, "--checkpoint", weights, *choices, "--out", "first")[0] == 0
    values = sidecars(Path("first"))[-1]
    code, _, err = door(*flags_of(values, weights), "--out", "again")
    assert code == 0, err
    assert values["made"]["sha256"] in {other["made"]["sha256"] for other in sidecars(Path("again"))}
    assert values["made"]["file"] in {other["made"]["file"] for other in sidecars(Path("again"))}


def test_a_recipe_of_random_weights_names_their_seed(door):
    assert door("a cross", "--size", "tiny", "--weights-seed", 5, "--frames", 1, "--no-super-resolution")[0] == 0
    (values,) = sidecars(Path("videos"))
    model = values["model"]
    assert (model["name"], model["is_random"], model["weights_seed"]) == ("random-tiny", True, 5)
    again = CogVideo.random("tiny", seed=5, superres=False, stage2=False)
    (video,) = again.generate(["a cross"], frames=1, seeds=[values["sample_seed"]], superres=False)
    write_video(Path("again.mp4"), video.clip, fps=8, codec="h264")
    assert hashlib.sha256(Path("again.mp4").read_bytes()).hexdigest() == values["made"]["sha256"]


# --- given frames


def test_given_frames_come_first(door, weights, tmp_path):
    clip = np.random.default_rng(1).integers(0, 256, (8, 8, 8, 3), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
    write_video(tmp_path / "start.mkv", clip, fps=4, codec="ffv1")
    arguments = (PROMPT, "--checkpoint", weights, "--frames", 9, "--fps", 4, "--no-super-resolution")
    code, out, err = door(*arguments, "--given", "start.mkv", "--given-frames", 5, "--format", "frames")
    assert code == 0, err
    model = CogVideo.load(weights, superres=False)
    expected = model.decode(model.encode(clip[:5]))
    folder = tmp_path / out.strip()
    frames = np.stack([np.asarray(Image.open(path)) for path in sorted(folder.iterdir())])
    assert abs(frames[:5].astype(int) - expected).max() <= 1
    (values,) = sidecars(tmp_path / "videos")
    digest = hashlib.sha256((tmp_path / "start.mkv").read_bytes()).hexdigest()
    assert values["given"] == {"file": "start.mkv", "sha256": digest, "frames": 5}


def test_a_picture_stands_as_its_camera_says(door, weights, tmp_path):
    """Turned in its pixels with a note that it is turned, and upright: the same start."""
    upright = Image.fromarray(np.random.default_rng(2).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    upright.save(tmp_path / "upright.png")
    note = Image.Exif()
    note[0x0112] = 6  # turn right by 90 degrees to view
    upright.rotate(90).save(tmp_path / "turned.png", exif=note)
    for name in ("upright", "turned"):
        arguments = (PROMPT, "--checkpoint", weights, *SHORT, "--given", f"{name}.png", "--out", name)
        assert door(*arguments)[0] == 0
    (one,), (other,) = made(tmp_path / "upright").values(), made(tmp_path / "turned").values()
    assert one == other


# --- prompts


@pytest.mark.parametrize(
    ("content", "prompts"),
    [
        ("a red circle\nblue square\n", ["a red circle", "blue square"]),
        ("\ufeffa red circle\r\n\r\n  blue square  \r\n\r\n", ["a red circle", "blue square"]),
        ("一只猫在跳舞\n夜晚的城市", ["一只猫在跳舞", "夜晚的城市"]),
        ("one\rtwo\n\n\nthree\ntwo\n", ["one", "two", "three"]),
        ("one\u2028still one\ntwo\x85still two", ["one\u2028still one", "two\x85still two"]),
        ("a\tcat\n", ["a\tcat"]),
    ],
)
def test_prompts_are_the_lines_of_a_file(tmp_path, monkeypatch, content, prompts):
    monkeypatch.chdir(tmp_path)
    assert read_prompts(None, Path(prompts_file(content))) == prompts
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
    assert read_prompts(None, Path("-")) == prompts


def test_prompts_come_through_a_pipe(short, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a red circle\nblue square\n")))
    code, out, _ = short("--file", "-")
    assert code == 0
    assert len(out.splitlines()) == 2


# --- what is there already


def test_what_is_there_is_skipped_made_again_or_an_error(short, tmp_path):
    assert short(PROMPT)[0] == 0
    first = made(tmp_path / "videos")
    (video,) = (tmp_path / "videos").glob("*.mp4")
    stamp = video.stat().st_mtime_ns
    code, out, err = short(PROMPT, "--json")
    assert (code, json.loads(out)["made"]) == (0, 0)
    assert "1 there already" in err
    assert video.stat().st_mtime_ns == stamp
    refused(short(PROMPT, "--on-existing", "error"), 2, "1 of 1 videos are there already", video.name)
    code, out, _ = short(PROMPT, "--on-existing", "redo", "--json")
    assert (code, json.loads(out)["made"]) == (0, 1)
    assert video.stat().st_mtime_ns != stamp
    assert made(tmp_path / "videos") == first


def test_a_video_without_its_recipe_is_not_finished(short, tmp_path):
    assert short(PROMPT)[0] == 0
    (recipe,) = (tmp_path / "videos").glob("*.json")
    (video,) = (tmp_path / "videos").glob("*.mp4")
    whole = video.read_bytes()
    recipe.unlink()
    video.write_bytes(b"half")
    code, out, _ = short(PROMPT, "--json")
    assert (code, json.loads(out)["made"]) == (0, 1)
    assert video.read_bytes() == whole


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_run_that_lost_videos_makes_them_as_they_were(short, tmp_path, dtype):
    """In half precision too, where what stands in one batch decides about the last digits."""
    prompts_file(f"{PROMPT}\nblue square\na green cross\na circle\n")
    arguments = ("--file", "prompts.txt", "--batch-size", 3, "--dtype", dtype)
    assert short(*arguments)[0] == 0
    whole = made(tmp_path / "videos")
    lost = sorted((tmp_path / "videos").glob("*.json"))[1::2]
    for recipe in lost:
        recipe.with_suffix(".mp4").unlink()
    code, out, _ = short(*arguments, "--json")
    assert (code, json.loads(out)["made"]) == (0, len(lost))
    assert made(tmp_path / "videos") == whole


def start(*arguments, folder):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "cogeval", "generate", *map(str, arguments)]
    # Whoever runs the tests in the background may have told all children to ignore Ctrl-C.
    heard = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heard,
    )


def test_a_killed_run_goes_on_where_it_was(short, weights, tmp_path):
    """Killed after the first of three videos: the others are made, the first is not made again."""
    prompts_file(f"{PROMPT}\nblue square\na green cross\n")
    arguments = ("--file", "prompts.txt", "--batch-size", 1)
    assert short(*arguments, "--out", "whole")[0] == 0
    process = start("--checkpoint", weights, *SHORT, *arguments, "--samples", 40, "--out", "cut", folder=tmp_path)
    try:
        end = time.monotonic() + 120
        while not list(tmp_path.glob("cut/*.json")) and time.monotonic() < end and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        _, err = process.communicate()
    assert list(tmp_path.glob("cut/*.json")), err
    # The first sample of the first prompt is there; of the other prompts nothing is.
    done = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("cut/*.json")}
    assert not list(tmp_path.glob("cut/blue*.json"))
    code, out, _ = short(*arguments, "--out", "cut", "--json")
    assert (code, json.loads(out)["made"]) == (0, 2)
    assert {name: (tmp_path / "cut" / name).stat().st_mtime_ns for name in done} == done
    whole, cut = made(tmp_path / "whole"), made(tmp_path / "cut")
    assert {name: cut[name] for name in whole} == whole


def test_an_interrupted_run_says_so_and_leaves_whole_files(weights, tmp_path):
    process = start(PROMPT, "--checkpoint", weights, *SHORT, "--samples", 100, "--batch-size", 1, folder=tmp_path)
    end = time.monotonic() + 120
    while not list(tmp_path.glob("videos/*.json")) and time.monotonic() < end and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.splitlines()[-1] == "error: interrupted"
    assert out == ""
    assert "Traceback" not in err
    assert {path.suffix for path in (tmp_path / "videos").iterdir()} == {".json", ".mp4"}


# --- what is shown meanwhile


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.0 s"), (9.7, "9.7 s"), (12.4, "12 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")],
)
def test_durations_are_for_people(seconds, words):
    assert duration(seconds) == words


SHOWN = """
from time import sleep
from cogvideo.commands.progress import phase_bars
with phase_bars(is_quiet=False) as (say, progress):
    for batch in (1, 2):
        for phase, total in (("key frames", 64), ("super-resolution", 33)):
            for done in range(1, total + 1):
                progress(phase, done, total)
                sleep(0.02)
        say(f"batch {batch} done")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals there")
def test_a_terminal_shows_units_and_their_rate(tmp_path):
    """In 80 columns, and the second batch starts with bars of its own."""
    import pty

    main, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "NO_COLOR": "1"}
    process = subprocess.Popen([sys.executable, "-c", SHOWN], stderr=terminal, env=environment, cwd=tmp_path)
    os.close(terminal)
    seen = bytearray()
    with contextlib.suppress(OSError):  # Linux says EIO at the end
        while piece := os.read(main, 65536):
            seen += piece
    os.close(main)
    assert process.wait() == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode()).replace("\r", "\n")
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    assert max(map(len, lines)) < 80
    assert "batch 1 done" in lines
    assert "batch 2 done" in lines
    assert any(re.search(r"key frames .* \d+ of 64 tokens +\d+/s +\d+:\d\d$", line) for line in lines), lines
    second = lines[lines.index("batch 1 done") + 1 : lines.index("batch 2 done")]
    first_bars = next(number for number, line in enumerate(second) if re.search(r" [1-5]?\d of 64 tokens", line))
    assert "super-resolution" not in "".join(second[first_bars : first_bars + 2])


def test_nothing_moves_where_nobody_looks():
    """A log has the lines alone."""
    process = subprocess.run([sys.executable, "-c", SHOWN], capture_output=True, text=True, check=True)
    assert process.stderr == "batch 1 done\nbatch 2 done\n"
    assert process.stdout == ""


# --- the whole way with the size that everybody can try


@pytest.mark.slow
def test_random_weights_of_the_tiny_size_make_a_video_through_all_stages(tmp_path):
    process = start(PROMPT, "--size", "tiny", "--json", folder=tmp_path)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    answer = json.loads(out)
    clip = read_clip(tmp_path / answer["videos"][0]["video"])
    assert clip.shape == (33, 192, 192, 3)
    assert clip.std((1, 2, 3)).min() > 2  # no frame is plain
    assert {"first frame", "key frames", "frames between", "super-resolution", "decoding"} <= set(answer["seconds"])
