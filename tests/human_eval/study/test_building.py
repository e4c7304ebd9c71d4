"""From folders of videos to a blinded study; what a browser could not play is refused then and there."""

from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path

import av
import numpy as np
import pytest

from cogvideo.errors import UserError
from cogvideo.video import probe, write_video
from eval.records import Choice, DataFacts, GeneratorFacts, Manifest, PlannedSample, SourceClip
from human_eval.study.building import init_study, open_study
from human_eval.study.sources import Source, choose, open_source, real_sources


def test_a_built_study_opens_with_every_video_it_needs(built: dict[str, Path]) -> None:
    study, stimuli, key = open_study(built["cogvideo-2022"])
    assert len(study.main_items) == 6
    assert len(study.items) == 9
    assert {s.id for s in stimuli.values() if s.kind == "video"} == {
        f"{item.id}/{model.id}" for item in study.items for model in study.models
    }
    assert len({s.file for s in stimuli.values()}) == len(stimuli)
    assert len(key) == 32
    assert stat.S_IMODE((built["cogvideo-2022"] / "key").stat().st_mode) == 0o600
    assert stat.S_IMODE((built["cogvideo-2022"] / "stimuli.json").stat().st_mode) == 0o600


def test_videos_of_a_page_are_alike_in_everything_but_pixels(built: dict[str, Path]) -> None:
    folder = built["cogvideo-2022"]
    study, stimuli, _ = open_study(folder)
    for item in study.items:
        files = [folder / "media" / s.file for s in stimuli.values() if s.item == item.id]
        data = [file.read_bytes() for file in files]
        assert len({len(one) for one in data}) == 1
        assert len({one[:8192] for one in data}) == 1
        infos = [probe(file, thorough=True) for file in files]
        assert len({(i.width, i.height, i.fps, i.n_frames, i.codec, i.pixel_format) for i in infos}) == 1


def test_no_file_holds_a_name_or_an_encoders_signature(built: dict[str, Path]) -> None:
    folder = built["cogvideo-2022"]
    words = (b"x264", b"Lavf", b"Lavc", b"zebra", b"quokka", b"walrus", b"prompt", b"FFmpeg", b"cogeval")
    for file in (folder / "media").iterdir():
        data = file.read_bytes()
        assert [word for word in words if word.lower() in data.lower()] == []
        with av.open(str(file)) as container:
            assert set(container.metadata) <= {"major_brand", "minor_version", "compatible_brands"}
            assert set(container.streams.video[0].metadata) <= {"language", "handler_name"}
            assert container.streams.video[0].metadata.get("handler_name", "") == ""


def test_the_same_input_gives_the_same_bytes_under_the_same_key(
    built: dict[str, Path], video_folders: list[Path], tmp_path: Path
) -> None:
    first = built["cogvideo-2022"]
    again = tmp_path / "cogvideo-2022"
    again.mkdir()
    shutil.copy(first / "key", again / "key")
    init_study(again, video_folders, preset="cogvideo-2022", n_items=6, seed=5, media={"size": 96})
    assert (again / "stimuli.json").read_bytes() == (first / "stimuli.json").read_bytes()
    assert (again / "study.yaml").read_text() == (first / "study.yaml").read_text()


def refused(tmp_path: Path, folders: list[Path], match: str, **settings: object) -> None:
    with pytest.raises(UserError, match=match) as caught:
        init_study(tmp_path / "st", folders, preset="mos", n_items=1, media={"size": 64}, **settings)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "st" / "study.yaml").exists()


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"not a video at all, only words", "a browser could not play this: .* is not a video"),
        (b"", "a browser could not play this: .* is empty"),
        (None, "a browser could not play this: .* cut short"),
    ],
)
def test_what_does_not_play_is_refused_when_the_study_is_built(data: bytes | None, match: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    clip = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3), dtype=np.uint8)
    write_video(folder / "a.mp4", clip, fps=8)
    if data is None:
        data = (folder / "a.mp4").read_bytes()[:-9000]
    (folder / "a.mp4").write_bytes(data)
    refused(tmp_path, [folder], match)


def test_one_frame_is_no_video_and_a_minute_is_too_long(tmp_path: Path) -> None:
    for name, frames, match in (("still", 1, "has 1 frame"), ("long", 70, "at most 60 s")):
        folder = tmp_path / name
        folder.mkdir()
        write_video(folder / "a.mp4", np.zeros((frames, 32, 32, 3), dtype=np.uint8), fps=1)
        refused(tmp_path / name, [folder], match)


def test_folders_that_share_no_prompt_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_video(tmp_path / name / f"{name}.mp4", np.zeros((4, 32, 32, 3), dtype=np.uint8), fps=8)
    refused(tmp_path, [tmp_path / "a", tmp_path / "b"], "no prompt has a video in each of")
    refused(tmp_path, [tmp_path / "nowhere"], "is not a folder")
    refused(tmp_path, [], "give the run folders")


def test_different_shapes_and_rates_are_made_alike(tmp_path: Path) -> None:
    for name, side, frames, fps in (("small", 32, 8, 4), ("wide", 64, 30, 10)):
        (tmp_path / name).mkdir()
        clip = np.zeros((frames, 32, side, 3), dtype=np.uint8)
        write_video(tmp_path / name / "a.mp4", clip, fps=fps)
    study = init_study(tmp_path / "st", [tmp_path / "small", tmp_path / "wide"], preset="pairwise", n_items=1)
    stimuli = open_study(tmp_path / "st")[1]
    infos = [probe(tmp_path / "st" / "media" / s.file) for s in stimuli.values() if s.kind == "video"]
    assert study.slots == 2
    assert {(i.width, i.height, float(i.fps), i.n_frames) for i in infos} == {(256, 128, 10.0, 20)}


def test_a_file_that_was_changed_after_building_is_noticed(study_folder: Path) -> None:
    stimuli = json.loads((study_folder / "stimuli.json").read_text())
    file = study_folder / "media" / stimuli[0]["file"]
    file.write_bytes(file.read_bytes() + b"x")
    with pytest.raises(UserError, match="is missing or not the file that was built"):
        open_study(study_folder)


def run_of(folder: Path, data: Path, origin: str) -> Source:
    """A run as `cogeval` writes it down: of its data set the name only, and the flag as it was given."""
    source = open_source(folder)
    planned = [
        PlannedSample(id=key, index=at, prompt="a", seed=at, source=SourceClip(item_id=f"Class/{key}.avi", start=2))
        for at, key in enumerate(source.videos)
    ]
    source.manifest = Manifest(
        benchmark="ucf101",
        protocol_name="p",
        protocol={"clip": {"frames": 4, "stride": 1}},
        fingerprint="0",
        generator=GeneratorFacts(spec="s", title="T"),
        seed=0,
        data=DataFacts(name="d", root=data.name, list_sha256="0", n_items=1, n_reference=1),
        planned=planned,
        choices=[Choice(name="data", value=str(data), origin=origin)],
    )
    return source


@pytest.mark.parametrize("way", ["flag", "cache", "given"])
def test_the_real_clips_of_a_run_are_found(
    way: str, video_folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the --data of the run, in the cache for embedded data, or in the folder that --real names."""
    monkeypatch.setenv("COGEVAL_HOME", str(tmp_path / "home"))
    data = tmp_path / "home" / "data" / "the-set" if way == "cache" else tmp_path / "the-set"
    (data / "Class").mkdir(parents=True)
    run = run_of(
        video_folders[0], tmp_path / "gone" if way == "given" else data, "flag" if way != "cache" else "automatic"
    )
    with pytest.raises(UserError, match=r"none of the real clips of .* is in .*; give --real DIR, their data set"):
        real_sources([run], "auto")
    for key in run.videos:
        write_video(data / "Class" / f"{key}.avi", np.zeros((8, 32, 32, 3), dtype=np.uint8), fps=8, codec="ffv1")
    (real,) = real_sources([run], str(data) if way == "given" else "auto")
    assert (real.name, real.videos.keys()) == ("real", run.videos.keys())
    assert {(video.start, video.frames) for video in real.videos.values()} == {(2, 4)}


def test_choice_takes_every_label_before_any_twice() -> None:
    keys = [f"{label}{k}" for label in "abcde" for k in range(4)]
    chosen = choose(keys, lambda key: key[0], 7, seed=3)
    counts = [sum(key[0] == label for key in chosen) for label in "abcde"]
    assert sorted(counts) == [1, 1, 1, 2, 2]
    assert chosen == choose(keys[::-1], lambda key: key[0], 7, seed=3)
    assert chosen != choose(keys, lambda key: key[0], 7, seed=4)
