"""Videos of any model from a folder: which belongs to which request, and what is refused before a run starts."""

import json
import os
import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from cogvideo.errors import UserError
from cogvideo.video import write_video
from eval.generators.contract import ClipRef, Generator, GeneratorContext, Rejection, Request
from eval.generators.matching import file_stem
from eval.generators.spec import make_generator
from eval.protocol import ClipRule, Protocol

T = 4
CLIPS = Path(os.environ.get("COGEVAL_CLIPS_DIR", Path(__file__).parents[3].parent / "shared" / "clips"))


def protocol(prompts: str = "class-distribution", **rule: object) -> Protocol:
    clip = ClipRule(**{"frames": T, **rule})
    return Protocol("p", "ucf101", "t", clip, (), n_fake=4, n_real=None, split="train", prompts=prompts)


def video(path: Path, level: int, *, frames: int = T, size: tuple[int, int] = (16, 16)) -> Path:
    """A lossless video whose frame t begins with pixel (level, t, 0), so that a clip tells its file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    clip = np.random.default_rng(level).integers(0, 256, (frames, *size, 3), np.uint8)
    clip[:, 0, 0] = [(level, t, 0) for t in range(frames)]
    write_video(path, clip, fps=8, codec="ffv1")
    return path


def level(clip: np.ndarray | Rejection) -> int:
    assert not isinstance(clip, Rejection), clip.reason
    return int(clip[0, 0, 0, 0])


def asked(*labels: str, prompts: tuple[str, ...] = (), sources: tuple[str, ...] = ()) -> list[Request]:
    made = []
    for index, label in enumerate(labels):
        prompt = prompts[index] if prompts else f"a video of {label}"
        source = ClipRef(sources[index], "x", 0, T) if sources else None
        made.append(Request(f"{index:05d}", index, prompt, label, index, T, 0, 0, 8.0, source))
    return made


def ready(folder: Path, requests: list[Request], options: str = "", **values: object) -> Generator:
    generator = make_generator(f"folder:{folder}{options}", GeneratorContext(workers=2))
    generator.preflight(requests, protocol(**values))
    return generator


def levels(folder: Path, requests: list[Request], options: str = "", **values: object) -> list[int]:
    return [level(clip) for clip in ready(folder, requests, options, **values).generate(requests)]


def refusal(folder: Path, requests: list[Request], options: str = "", **values: object) -> str:
    with pytest.raises(UserError) as error:
        ready(folder, requests, options, **values)
    assert error.value.exit_code == 2
    assert "\n" not in str(error.value)
    return str(error.value)


def manifest(folder: Path, rows: list[dict[str, object]]) -> Path:
    path = folder / "manifest.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


# Classes


@pytest.mark.parametrize(
    "layout", ["{c}/{n}.avi", "{c}/deep/{n}.avi", "{c}_{n}.avi", "v_{c}_g01_c{n}.avi", "{c} {n}.avi"]
)
def test_by_class_in_natural_order_of_each_class(tmp_path: Path, layout: str) -> None:
    for name, first in (("HammerThrow", 10), ("Hammering", 20)):
        for number in (1, 2, 10):
            video(tmp_path / layout.format(c=name, n=number), first + number)
    requests = asked("Hammering", "HammerThrow", "Hammering", "HammerThrow", "Hammering")
    assert levels(tmp_path, requests) == [21, 11, 22, 12, 30]


def test_class_names_compare_without_case_and_blanks(tmp_path: Path) -> None:
    video(tmp_path / "playing_guitar" / "a.avi", 1)
    video(tmp_path / "Massaging persons head" / "a.avi", 2)
    assert levels(tmp_path, asked("massaging person's head", "playing guitar")) == [2, 1]


def test_a_small_plan_takes_the_same_videos_as_the_whole(tmp_path: Path) -> None:
    for name, first in (("A1b", 10), ("Cd", 20)):
        for number in range(3):
            video(tmp_path / name / f"{number}.avi", first + number)
    requests = asked("A1b", "Cd", "A1b", "Cd")
    generator = ready(tmp_path, requests)
    assert [level(generator.generate([request])[0]) for request in reversed(requests)] == [21, 11, 20, 10]


def test_too_few_videos_of_a_class_with_counts_and_near_names(tmp_path: Path) -> None:
    video(tmp_path / "YoYo" / "a.avi", 1)
    video(tmp_path / "ApplyEyeMakup" / "a.avi", 2)
    said = refusal(tmp_path, asked("YoYo", "ApplyEyeMakeup", "YoYo", "ApplyEyeMakeup"))
    assert "expected 2 videos of class 'ApplyEyeMakeup', found 0" in said
    assert "3 of 4 samples have no video (2 of 2 classes)" in said
    assert "unknown class 'ApplyEyeMakup'; did you mean ApplyEyeMakeup?" in said


def test_videos_of_other_classes_are_not_used_and_noted(tmp_path: Path) -> None:
    video(tmp_path / "YoYo" / "a.avi", 1)
    video(tmp_path / "Zorbing" / "a.avi", 2)
    generator = ready(tmp_path, asked("YoYo"))
    assert generator.notes == ("1 videos of the folder were not used: Zorbing/a.avi",)


def test_numbered_files_are_never_taken_by_their_order(tmp_path: Path) -> None:
    for number in range(2):
        video(tmp_path / f"{number:05d}.avi", number)
    assert "expected 1 videos of prompt 'a video of YoYo', found 0" in refusal(tmp_path, asked("YoYo", "Archery"))
    assert levels(tmp_path, asked("YoYo", "Archery"), "?match=id") == [0, 1]


# Prompts


def test_by_prompt_with_counters_folders_and_other_signs(tmp_path: Path) -> None:
    video(tmp_path / "A red, square!-10.avi", 10)
    video(tmp_path / "a_red_square_2.avi", 2)
    video(tmp_path / "一只猫.avi", 30)
    video(tmp_path / "a dog, running" / "x2.avi", 42)
    video(tmp_path / "a dog, running" / "x10.avi", 50)
    prompts = ("a red square", "一只猫", "a red square", "a dog, running", "a dog, running")
    assert levels(tmp_path, asked(*[""] * 5, prompts=prompts)) == [10, 30, 2, 42, 50]


def test_a_prompt_that_ends_in_a_number_is_not_a_counter(tmp_path: Path) -> None:
    video(tmp_path / "route_66.avi", 66)
    video(tmp_path / "route_1.avi", 1)
    assert levels(tmp_path, asked("", "", prompts=("route 66", "route"))) == [66, 1]


def test_rule_for_file_names() -> None:
    assert file_stem("  A man's dog -- runs!  ") == "A_man_s_dog_runs"
    long, other = "猫" * 100, "猫" * 99 + "狗"
    assert len(file_stem(long).encode()) <= 180
    assert file_stem(long) != file_stem(other)
    assert file_stem("x" * 180) == "x" * 180


def test_a_long_prompt_finds_its_cut_name(tmp_path: Path) -> None:
    prompts = ("word " * 80, "word " * 80 + "end")
    video(tmp_path / f"{file_stem(prompts[1])}.avi", 2)
    video(tmp_path / f"{file_stem(prompts[0])}_0.avi", 1)
    assert levels(tmp_path, asked("", "", prompts=prompts)) == [1, 2]


def test_prompts_that_share_a_file_name_need_a_manifest(tmp_path: Path) -> None:
    video(tmp_path / "a_cat.avi", 1)
    said = refusal(tmp_path, asked("", "", prompts=("a cat", "a cat?")))
    assert "have the same file name" in said
    assert "manifest.jsonl" in said
    manifest(tmp_path, [{"file": "b.avi", "prompt": "a cat?"}, {"file": "a_cat.avi", "prompt": "a cat"}])
    video(tmp_path / "b.avi", 2)
    assert levels(tmp_path, asked("", "", prompts=("a cat", "a cat?"))) == [1, 2]


# Manifests


def test_manifest_by_id_then_prompt_then_class(tmp_path: Path) -> None:
    for number in range(5):
        video(tmp_path / "v" / f"{number}.avi", number)
    rows = [
        {"file": "v/4.avi", "class": "Archery"},
        {"file": "v/3.avi", "class": "YoYo"},
        {"file": "./v/2.avi", "prompt": "a video of YoYo"},
        {"file": "v\\1.avi", "id": "00001", "label": "YoYo"},
    ]
    manifest(tmp_path, rows)
    requests = asked("YoYo", "YoYo", "YoYo", "Archery")
    assert levels(tmp_path, requests) == [2, 1, 3, 4]
    (tmp_path / "manifest.jsonl").unlink()
    keys = ("file", "id", "prompt", "class")
    cells = [[str(row.get(key, row.get("label", "") if key == "class" else "")) for key in keys] for row in rows]
    (tmp_path / "manifest.csv").write_text("\n".join(",".join(row) for row in [list(keys), *cells]), encoding="utf-8")
    assert levels(tmp_path, requests) == [2, 1, 3, 4]


def test_manifest_order_is_kept_within_a_class(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        video(tmp_path / f"{number}.avi", number)
    manifest(tmp_path, [{"file": f"{n}.avi", "class": "YoYo"} for n in (3, 1, 2)])
    assert levels(tmp_path, asked("YoYo", "YoYo", "YoYo")) == [3, 1, 2]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"file": "b.avi", "class": "YoYo"}, "line 2: no video 'b.avi' in"),
        ({"file": "a.avi", "class": "YoYo"}, "line 2: 'a.avi' was already named in line 1"),
        ({"file": "a.avi"}, "line 2: expected one of id, prompt and class beside the file 'a.avi'"),
        ({"path": "a.avi", "class": "YoYo"}, "line 2: expected a video's name in 'file' (the keys are path, class)"),
        ({"file": 3, "class": ["x"]}, "line 2: expected text for 'class', got ['x']"),
    ],
)
def test_wrong_manifests(tmp_path: Path, row: dict[str, object], expected: str) -> None:
    video(tmp_path / "a.avi", 1)
    manifest(tmp_path, [{"file": "a.avi", "class": "YoYo"}, row])
    said = refusal(tmp_path, asked("YoYo"))
    assert expected in said
    assert "manifest.jsonl" in said


def test_ids_counted_by_somebody_else_are_found_out(tmp_path: Path) -> None:
    for number in range(2):
        video(tmp_path / f"{number}.avi", number)
    manifest(tmp_path, [{"file": f"{n}.avi", "id": f"{n:05d}", "class": c} for n, c in enumerate(("Archery", "YoYo"))])
    assert "line 1: sample 00000 is of class 'YoYo' in this run, not 'Archery'" in refusal(
        tmp_path, asked("YoYo", "Archery")
    )
    prompts = ("one", "two")
    manifest(tmp_path, [{"file": f"{n}.avi", "id": f"{n:05d}", "prompt": p} for n, p in enumerate(("two", "one"))])
    assert "line 1: sample 00000 has prompt 'one' in this run, not 'two'" in refusal(
        tmp_path, asked("", "", prompts=prompts)
    )


def test_two_videos_for_one_id(tmp_path: Path) -> None:
    for number in range(2):
        video(tmp_path / f"{number}.avi", number)
    manifest(tmp_path, [{"file": f"{n}.avi", "id": "00000"} for n in range(2)])
    assert "id '00000' has two videos" in refusal(tmp_path, asked("YoYo"))


# Frame prediction


def test_continuations_name_their_clip(tmp_path: Path) -> None:
    video(tmp_path / "-abc_DEF-12_000003_000013.avi", 7)
    video(tmp_path / "zbc_DEF-12_000003_000013.avi", 8)
    sources = ("zbc_DEF-12_000003_000013", "-abc_DEF-12_000003_000013")
    requests = asked("x", "x", sources=sources)
    assert levels(tmp_path, requests, given=2, prompts="one-per-item") == [8, 7]
    classes = tmp_path / "by-class"
    shutil.copytree(tmp_path, classes / "x", ignore=lambda *_: ["by-class"])
    assert "each sample of p continues one real clip" in refusal(classes, requests, "?match=class", given=2)


# Frames


def test_start_and_stride(tmp_path: Path) -> None:
    video(tmp_path / "YoYo" / "a.avi", 1, frames=12)
    requests = asked("YoYo")

    def frames(options: str, **rule: object) -> list[int]:
        (clip,) = ready(tmp_path, requests, options, **rule).generate(requests)
        return [int(t) for t in clip[:, 0, 0, 1]]

    assert frames("") == [0, 1, 2, 3]
    assert frames("", stride=2) == [0, 2, 4, 6]
    assert frames("?stride=1", stride=2) == [0, 1, 2, 3]
    assert frames("?stride=3&start=2") == [2, 5, 8, 11]
    assert "expected 13 frames" in refusal(tmp_path, requests, "?stride=3&start=3")
    assert "expected 18 frames" in refusal(tmp_path, requests, "?start=5", stride=4)


def test_protocols_frame_rate_resamples_by_time(tmp_path: Path) -> None:
    video(tmp_path / "YoYo" / "a.avi", 1, frames=12)
    requests = asked("YoYo")
    (clip,) = ready(tmp_path, requests, fps=4.0).generate(requests)
    assert [int(t) for t in clip[:, 0, 0, 1]] == [0, 2, 4, 6]


# What is refused


def variable_rate(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, 1000)
        stream.codec_context.time_base = Fraction(1, 1000)
        noise = np.random.default_rng(0)
        for pts in (0, 40, 200, 210, 600, 640, 900):
            frame = av.VideoFrame.from_ndarray(noise.integers(0, 256, (32, 32, 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = pts, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def audio_only(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda path: path.write_bytes(b""), "1 empty-file"),
        (lambda path: path.write_bytes(b"this is no video " * 100), "1 not-a-video"),
        (audio_only, "1 no-video-stream"),
        (lambda path: write_video(path, np.zeros((1, 16, 16, 3), np.uint8), fps=8), "1 one-frame"),
        (lambda path: write_video(path, np.zeros((3, 16, 16, 3), np.uint8), fps=8), "1 too-short"),
        (variable_rate, "1 variable-rate"),
    ],
    ids=["zero-byte", "text", "audio-only", "one-frame", "too-short", "variable-rate"],
)
def test_bad_video_is_refused_before_the_run(tmp_path: Path, make, kind: str) -> None:
    video(tmp_path / "YoYo" / "1.avi", 1)
    make(tmp_path / "YoYo" / "2.mp4")
    before = sorted(tmp_path.rglob("*"))
    said = refusal(tmp_path, asked("YoYo", "YoYo"))
    assert str(tmp_path / "YoYo" / "2.mp4") in said
    assert said.endswith(f"1 of 2 videos are refused: {kind}")
    assert sorted(tmp_path.rglob("*")) == before


def test_bad_videos_that_are_not_used_do_no_harm(tmp_path: Path) -> None:
    video(tmp_path / "YoYo" / "1.avi", 1)
    (tmp_path / "YoYo" / "2.mp4").write_bytes(b"")
    assert levels(tmp_path, asked("YoYo")) == [1]


def test_truncated_video(tmp_path: Path) -> None:
    path = video(tmp_path / "YoYo" / "1.avi", 1, frames=20)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "1 of 1 videos are refused" in refusal(tmp_path, asked("YoYo"))


def test_mixed_sizes(tmp_path: Path) -> None:
    for number, size in enumerate([(16, 16), (16, 16), (16, 24)]):
        video(tmp_path / "YoYo" / f"{number}.avi", number, size=size)
    said = refusal(tmp_path, asked("YoYo", "YoYo", "YoYo"))
    assert "expected videos of one size, got 2 of 16x16, 1 of 24x16; first odd one is YoYo/2.avi" in said


def test_native_size_is_demanded_where_nothing_is_resized(tmp_path: Path) -> None:
    video(tmp_path / "YoYo" / "a.avi", 1)
    (request,) = asked("YoYo")
    sized = Request(**{**request.__dict__, "height": 32, "width": 32})
    assert "expected 32x32 pixels" in refusal(tmp_path, [sized])


def test_videos_are_never_enlarged_to_the_protocols_size(tmp_path: Path) -> None:
    video(tmp_path / "YoYo" / "a.avi", 1)
    requests = asked("YoYo")
    with pytest.raises(UserError, match=r"a\.avi has 16x16 pixels, .* scores 32x32; 1 of 1 videos are too small"):
        ready(tmp_path, requests, size=(32, 32))
    assert ready(tmp_path, requests, size=(16, 16)).notes == ()
    assert ready(tmp_path, requests, size=(8, 8)).notes == ()


def test_folder_without_videos(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("x")
    with pytest.raises(UserError, match=r"expected videos in .* saw 1 file \(readme.txt\)"):
        make_generator(f"folder:{tmp_path}", GeneratorContext())


# Identity


def test_description_knows_names_sizes_options_and_manifest(tmp_path: Path) -> None:
    def described(options: str = "", root: Path = tmp_path / "model") -> dict[str, object]:
        return make_generator(f"folder:{root}{options}", GeneratorContext()).describe()

    video(tmp_path / "model" / "YoYo" / "a.avi", 1)
    seen = [described()]
    shutil.copytree(tmp_path / "model", tmp_path / "elsewhere" / "model")
    assert described(root=tmp_path / "elsewhere" / "model") == seen[0]
    json.dumps(seen[0])
    seen.append(described("?stride=2"))
    video(tmp_path / "model" / "YoYo" / "b.avi", 2)
    seen.append(described())
    video(tmp_path / "model" / "YoYo" / "b.avi", 2, frames=9)
    seen.append(described())
    manifest(tmp_path / "model", [{"file": "YoYo/a.avi", "class": "YoYo"}])
    seen.append(described())
    manifest(tmp_path / "model", [{"file": "YoYo/b.avi", "class": "YoYo"}])
    seen.append(described())
    assert len({str(one) for one in seen}) == len(seen)


def test_origins_hold_what_was_read(tmp_path: Path) -> None:
    import hashlib

    path = video(tmp_path / "YoYo" / "a.avi", 1)
    requests = asked("YoYo")
    generator = ready(tmp_path, requests)
    assert generator.origins == {}
    generator.generate(requests)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert generator.origins == {"00000": {"file": "YoYo/a.avi", "sha256": sha256}}


def test_a_file_that_changes_during_the_run_is_noticed(tmp_path: Path) -> None:
    path = video(tmp_path / "YoYo" / "a.avi", 1)
    requests = asked("YoYo")
    generator = ready(tmp_path, requests)
    video(path, 2)
    os.utime(path, ns=(1, 1))
    with pytest.raises(UserError, match="changed while it was being scored"):
        generator.generate(requests)
    path.unlink()
    with pytest.raises(UserError, match="changed while it was being scored"):
        generator.generate(requests)


def test_real_ucf_clips_as_a_models_videos() -> None:
    if not (CLIPS / "ucf101").is_dir():
        pytest.skip(f"no clips at {CLIPS}")
    requests = asked("BaseballPitch", "ApplyEyeMakeup")
    clips = ready(CLIPS / "ucf101", requests, frames=16).generate(requests)
    assert [clip.shape for clip in clips] == [(16, 240, 320, 3)] * 2
