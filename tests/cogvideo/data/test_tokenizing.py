"""Folders of records: what is in them, that nothing about the run shows in them, and that a stop loses little."""

from __future__ import annotations

import hashlib
import json
from fractions import Fraction

import numpy as np
import pytest
import torch

from cogvideo.data.fingerprint import image_fingerprint
from cogvideo.data.rates import PAPER_RATES
from cogvideo.data.record_card import read_card
from cogvideo.data.records import Records
from cogvideo.data.sources import open_source
from cogvideo.data.tokenizing import TokenizeSettings, tokenize
from cogvideo.errors import UserError
from cogvideo.tokenizer import SHAPES_WORDS, WordTokenizer
from cogvideo.vqvae import IMAGE_TOKENIZERS, ImageTokenizer

RATES = PAPER_RATES[2:]
CLASS = "RedSquareGrowing"


@pytest.fixture
def folder(tmp_path, write_grey):
    """Seven videos of 5, 8, ..., 23 frames at 8 a second, one of them broken and one too short."""
    root = tmp_path / "videos"
    for n in range(7):
        write_grey(root / CLASS / f"v_{CLASS}_g01_c{n:02d}.avi", 5 + 3 * n)
    (root / CLASS / f"v_{CLASS}_g01_c01.avi").write_bytes(b"broken")
    write_grey(root / CLASS / f"v_{CLASS}_g01_c03.avi", 4)
    return root


@pytest.fixture
def run(tiny, prompts, grey_tokenizer):
    """Tokenise a folder with little said."""

    def start(root, out, *, frames=None, clips=1, seed=0, batch=7, shard_videos=2, rates=RATES, **flags):
        settings = TokenizeSettings(rates, frames, clips, seed, shard_videos, batch)
        flags = {"workers": 0, "image_tokenizer": grey_tokenizer, "config": tiny, "prompts": prompts} | flags
        return tokenize(open_source(root), out, settings=settings, **flags)

    return start


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_records(folder, tmp_path, run, tiny, prompts):
    card = run(folder, tmp_path / "out")
    assert card.rates == {"2": 3, "4": 1, "8": 1}
    assert card.records == 5
    assert card.skipped == {"not-a-video": 1, "too-few-frames": 1}
    records = Records.open(tmp_path / "out", tiny)
    assert (len(records), records.values) == (5, 8 + 5 * 64)
    raw = b"".join(path.read_bytes() for path in sorted((tmp_path / "out").glob("*.bin")))
    rows = np.frombuffer(raw, "<i4").reshape(5, -1)
    assert np.array_equal(records.rows(range(5)), rows)
    words = [prompts.tokenizer.decode(row[:8].tolist()) for row in rows]
    # 5, 11, 17, 20 and 23 frames at 8 a second: 0.5, 1, 2, 2 and 2 s are what five frames can span.
    assert words == [f"{s}s\na red square growing" for s in ("0.5", "1.0", "2.0", "2.0", "2.0")]
    assert (rows[:, 6:8] == tiny.pad_id).all()
    frames = rows[:, 8:].reshape(5, 5, 64)
    assert (frames == frames[..., :1]).all()
    for index, (levels, step) in enumerate(zip(frames[..., 0], (1, 2, 4, 4, 4), strict=True)):
        told = records.where(index)
        assert (levels // 4).tolist() == [told["start"] + step * k for k in range(5)]
        assert told["start_s"] == told["start"] / 8
        video = folder / told["file"]
        assert told["sha256"] == hashlib.sha256(video.read_bytes()).hexdigest()
    assert [records.where(n)["file"][-6:-4] for n in range(5)] == ["00", "02", "04", "05", "06"]


def test_skipped_are_listed_with_their_reason(folder, tmp_path, run):
    run(folder, tmp_path / "out")
    lines = [json.loads(line) for line in (tmp_path / "out" / "skipped.jsonl").read_text().splitlines()]
    assert [(line["file"][-6:-4], line["code"]) for line in lines] == [("01", "not-a-video"), ("03", "too-few-frames")]
    assert "4 at 8 a second, expected 5 at one of 1, 2, 4, 8" in lines[1]["reason"]


def test_the_card(folder, tmp_path, run, tiny, prompts, grey_tokenizer):
    run(folder, tmp_path / "out", clips=2, seed=5)
    card = read_card(tmp_path / "out")
    assert card.sizes == tiny.layout()
    assert card.text_tokenizer["sha256"] == prompts.tokenizer.fingerprint
    assert card.image_tokenizer["sha256"] == image_fingerprint(grey_tokenizer)
    assert (card.seed, card.clips_per_video, card.rate_list) == (5, 2, ["1", "2", "4", "8"])
    assert card.source.pairs == 7
    for name, shard in card.shards.items():
        path = tmp_path / "out" / name
        assert path.stat().st_size == shard.records * card.values * 4
        assert hashlib.sha256(path.read_bytes()).hexdigest() == shard.sha256
        assert hashlib.sha256(path.with_suffix(".jsonl").read_bytes()).hexdigest() == shard.index_sha256
    assert sum(shard.records for shard in card.shards.values()) == card.records == sum(card.rates.values())


def test_long_records(folder, tmp_path, run, tiny):
    card = run(folder, tmp_path / "out", frames=17, rates=(Fraction(8),))
    assert (card.frames, card.records, card.skipped["too-few-frames"]) == (17, 3, 3)
    assert sorted(card.words.durations) == ["0.5", "1.0", "2.0"]
    row = Records.open(tmp_path / "out", tiny).rows([0])[0]
    assert (row[8:].reshape(17, 64)[:, 0] // 4).tolist() == list(range(17))


def test_nothing_about_the_run_shows(folder, tmp_path, run):
    run(folder, tmp_path / "one", clips=3)
    run(folder, tmp_path / "two", clips=3, workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    run(folder, tmp_path / "other", clips=3, seed=1)
    assert contents(tmp_path / "one") != contents(tmp_path / "other")


def test_batches_are_full_but_do_not_cross_shards(folder, tmp_path, run, grey_tokenizer):
    run(folder, tmp_path / "out", clips=3)
    frames = [5 * shard.records for shard in read_card(tmp_path / "out").shards.values()]
    expected = [size for count in frames for size in [*[7] * (count // 7), *([count % 7] if count % 7 else [])]]
    assert grey_tokenizer.batches == expected


@pytest.mark.parametrize("stop", [0, 1, 2, 3, 5, 6, 7])
def test_a_stop_anywhere_loses_the_shard_in_work_alone(folder, tmp_path, run, stop):
    run(folder, tmp_path / "whole", clips=2)

    class StopError(Exception):
        pass

    def progress(done, total):
        assert total == 7
        if done == stop:
            raise StopError

    with pytest.raises(StopError):
        run(folder, tmp_path / "out", clips=2, progress=progress)
    if stop:
        assert not (tmp_path / "out" / "card.json").exists()
        with pytest.raises(UserError, match="holds no finished records"):
            Records.open(tmp_path / "out", read_config(tmp_path / "whole"))
    seen = []
    run(folder, tmp_path / "out", clips=2, progress=lambda done, total: seen.append(done))
    # Shards of two videos: what is counted as done when the second run begins.
    assert seen[0] == max(0, stop - 1) // 2 * 2
    assert contents(tmp_path / "whole") == contents(tmp_path / "out")


def read_config(folder):
    from cogvideo.config import ModelConfig

    return ModelConfig(**read_card(folder).sizes)


def test_a_finished_folder_is_not_made_again(folder, tmp_path, run, grey_tokenizer):
    run(folder, tmp_path / "out")
    before, batches = contents(tmp_path / "out"), len(grey_tokenizer.batches)
    assert run(folder, tmp_path / "out").records == 5
    assert len(grey_tokenizer.batches) == batches
    with pytest.raises(UserError, match="has records already"):
        run(folder, tmp_path / "out", on_existing="error")
    run(folder, tmp_path / "out", on_existing="redo", seed=9, clips=2)
    assert contents(tmp_path / "out") != before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "another --seed \\(0, now 1\\)"),
        ({"clips": 2}, "another --clips-per-video"),
        ({"rates": RATES[1:]}, "another --rates \\(1, 2, 4, 8, now 2, 4, 8\\)"),
        ({"frames": 9}, "another --frames"),
    ],
)
@pytest.mark.parametrize("is_finished", [True, False])
def test_records_of_another_plan_are_not_mixed(folder, tmp_path, run, change, message, is_finished):
    def progress(done, total):
        if done == 4 and not is_finished:
            raise KeyboardInterrupt

    if is_finished:
        run(folder, tmp_path / "out")
    else:
        with pytest.raises(KeyboardInterrupt):
            run(folder, tmp_path / "out", progress=progress)
    before = contents(tmp_path / "out") if is_finished else None
    with pytest.raises(UserError, match=message):
        run(folder, tmp_path / "out", **change)
    assert before is None or contents(tmp_path / "out") == before


def test_another_set_of_videos_is_another_plan(folder, tmp_path, run, write_grey):
    run(folder, tmp_path / "out")
    write_grey(folder / CLASS / "v_x_g01_c01.avi", 9)
    with pytest.raises(UserError, match="another videos or captions"):
        run(folder, tmp_path / "out")


def test_other_things_are_left_alone(folder, tmp_path, run):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("x")
    for on_existing in ("resume", "redo"):
        with pytest.raises(UserError, match=r"holds other things \(thesis.txt\)"):
            run(folder, tmp_path / "out", on_existing=on_existing)
    assert contents(tmp_path / "out") == {"thesis.txt": b"x"}
    with pytest.raises(UserError, match="is a file"):
        run(folder, tmp_path / "out" / "thesis.txt")


def test_two_runs_at_once(folder, tmp_path, run):
    def progress(done, total):
        if done == 2:
            with pytest.raises(UserError, match="another process is writing"):
                run(folder, tmp_path / "out")

    assert run(folder, tmp_path / "out", progress=progress).records == 5


def test_no_usable_video(tmp_path, write_grey, run):
    write_grey(tmp_path / "videos" / CLASS / "v.avi", 3)
    with pytest.raises(UserError, match=r"none of the 1 videos of videos gives a record; the first: .*too few frames"):
        run(tmp_path / "videos", tmp_path / "out")
    assert not (tmp_path / "out" / "card.json").exists()


def test_captions_are_looked_at_before_any_video(tmp_path, run, grey_tokenizer):
    (tmp_path / "videos" / "JugglingBalls").mkdir(parents=True)
    (tmp_path / "videos" / "JugglingBalls" / "v.avi").write_bytes(b"")
    with pytest.raises(UserError, match=r"caption 'juggling balls' of JugglingBalls/v.avi: unknown word 'juggling'"):
        run(tmp_path / "videos", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_caption_that_is_too_long_is_cut_and_counted(folder, tmp_path, run, tiny, prompts):
    table = tmp_path / "m.csv"
    name = f"videos/{CLASS}/v_{CLASS}_g01_c06.avi"
    table.write_text(f"file,caption\n{name},a red square moving left a red circle\n")
    card = run(table, tmp_path / "out")
    assert card.cut_captions == 1
    row = Records.open(tmp_path / "out", tiny).rows([0])[0]
    assert prompts.tokenizer.decode(row[:8].tolist()) == "2.0s\na red square moving left a"


def test_rates_and_tokenizers_that_do_not_fit(folder, tmp_path, run, tiny, make_config):
    with pytest.raises(UserError, match=r"0.25 frames a second need the duration 16.0s"):
        run(folder, tmp_path / "out", rates=PAPER_RATES)
    with pytest.raises(UserError, match="the image tokenizer has 1,024 codes"):
        run(folder, tmp_path / "out", config=make_config())
    with pytest.raises(UserError, match="needs at least the 5 frames"):
        run(folder, tmp_path / "out", frames=3)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("changed", ["enc.conv_in.weight", "quantize.embed.weight", "decs.0.conv_in.weight"])
def test_fingerprint(changed):
    torch.manual_seed(0)
    tokenizer = ImageTokenizer(IMAGE_TOKENIZERS["tiny"])
    before = image_fingerprint(tokenizer)
    assert image_fingerprint(tokenizer.double()) == before
    half = image_fingerprint(tokenizer.half())
    assert half != before
    assert image_fingerprint(tokenizer.float()) == half
    frames = torch.rand(4, 3, 64, 64)
    ids = tokenizer.encode(frames)
    with torch.no_grad():
        tokenizer.state_dict()[changed].mul_(-1.5)
    is_same = changed.startswith("decs")
    assert torch.equal(tokenizer.encode(frames), ids) == is_same
    assert (image_fingerprint(tokenizer) == half) == is_same


def test_a_word_list_of_other_words_is_another_tokenizer(tiny):
    assert WordTokenizer(SHAPES_WORDS[:-1], 512, 48).fingerprint != WordTokenizer(SHAPES_WORDS, 512, 48).fingerprint
