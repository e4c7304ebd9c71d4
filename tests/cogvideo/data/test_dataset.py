"""Samples of records whose frames say which they are: what is drawn, how often, and that chance hangs on the key."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
import torch

from cogvideo.config import get_size
from cogvideo.data.batch_order import BatchOrder, Entry
from cogvideo.data.dataset import ClipDraw, RecordDataset, StillDraw, split_records
from cogvideo.data.records import Records, write_records
from cogvideo.data.words import words_of
from cogvideo.errors import UserError
from cogvideo.objectives import read_records

CAPTION = "a red square moving left"
SECONDS = {8: "0.5s", 4: "1.0s", 2: "2.0s", 1: "4.0s"}


def make(path, config, prompts, rates, frames=5, caption=CAPTION, **flags):
    """A file with a record at each rate; every token of frame t of record n is 20 n + t."""
    rows = []
    for number, rate in enumerate(rates):
        ids = prompts.tokenizer.encode(f"{SECONDS[rate]}\n{caption}")
        text = ids + [config.pad_id] * (config.text_len - len(ids))
        rows.append(text + [20 * number + t for t in range(frames) for _ in range(config.frame_len)])
    write_records(path, np.array(rows), config, frames)
    flags = {"words": words_of(prompts, map(Fraction, SECONDS))} | flags
    return Records.open(path, config, frames=frames, **flags)


@pytest.fixture
def long(tmp_path, tiny, prompts):
    """Three records of 17 frames at 8 a second."""
    return make(tmp_path / "long.bin", tiny, prompts, [8, 8, 8], frames=17)


def look(sample, config, prompts):
    """Text and frame numbers of a sample."""
    text = prompts.tokenizer.decode(sample[: config.text_len].tolist())
    frames = sample[config.text_len :].reshape(-1, config.frame_len)
    assert (frames == frames[:, :1]).all()
    return text, frames[:, 0].tolist()


def samples(dataset, config, prompts, epochs=400, number=1):
    return [look(row, config, prompts) for row in dataset.batch([(epoch, number) for epoch in range(epochs)])]


def test_records_of_the_size_are_given_as_they_are(tmp_path, tiny, prompts):
    records = make(tmp_path / "r.bin", tiny, prompts, [1, 2, 8], words=None)
    dataset = RecordDataset(records)
    assert len(dataset) == 3
    batch = dataset.batch([(0, 2), (7, 0)])
    assert np.array_equal(batch, records.rows([2, 0]))
    assert np.array_equal(dataset[3, 1], records.rows([1])[0])
    text, frames = read_records(dataset.tensor([(0, 1)]), tiny)
    assert [prompts.tokenizer.decode(ids[real].tolist()) for ids, real in zip(text.ids, text.is_real, strict=True)] == [
        f"2.0s\n{CAPTION}"
    ]
    assert frames[0, :, 0].tolist() == [20, 21, 22, 23, 24]


def test_long_records_give_clips_at_three_rates(long, tiny, prompts):
    found = samples(RecordDataset(long), tiny, prompts, epochs=1200)
    seen = {2: set(), 4: set(), 8: set()}
    counts = Counter()
    for text, frames in found:
        step = frames[1] - frames[0]
        assert frames == [frames[0] + step * k for k in range(5)]
        assert 20 <= frames[0] <= frames[-1] <= 36
        assert text == f"{SECONDS[8 // step]}\n{CAPTION}"
        seen[8 // step].add(frames[0] - 20)
        counts[8 // step] += 1
    assert seen == {2: {0}, 4: set(range(9)), 8: set(range(13))}
    # Each rate a third: four standard deviations of 1,200 draws.
    assert all(abs(count - 400) < 4 * (1200 * 2 / 9) ** 0.5 for count in counts.values())


def test_tiles_are_the_clips_that_generation_makes(long, tiny, prompts):
    """5 frames become 9 by two clips at 4 a second, and 17 by four at 8; each begins where the last one ended."""
    seen = {}
    for text, frames in samples(RecordDataset(long, ClipDraw(is_tiled=True)), tiny, prompts, 300):
        seen.setdefault(text[:4], set()).add(tuple(frame - 20 for frame in frames))
    every = {step: {tuple(range(k, k + 4 * step + 1, step)) for k in range(0, 16, 4 * step)} for step in (4, 2, 1)}
    assert seen == {"2.0s": every[4], "1.0s": every[2], "0.5s": every[1]}


def test_rates_of_a_phase(long, tiny, prompts):
    stage1 = RecordDataset(long, ClipDraw(only_rates=(Fraction(2),)))
    assert samples(stage1, tiny, prompts, 5) == [(f"2.0s\n{CAPTION}", [20, 24, 28, 32, 36])] * 5
    late = RecordDataset(long, ClipDraw(min_rate=Fraction(4)))
    assert {text[:4] for text, _ in samples(late, tiny, prompts, 60)} == {"1.0s", "0.5s"}
    with pytest.raises(UserError, match="none of the 3 records gives a clip of 5 frames that is wanted"):
        RecordDataset(long, ClipDraw(only_rates=(Fraction(1),)))


def test_the_curriculum_leaves_records_out(tmp_path, tiny, prompts):
    records = make(tmp_path / "r.bin", tiny, prompts, [1, 2, 8, 1, 4])
    assert RecordDataset(records, ClipDraw(min_rate=Fraction(2))).indices.tolist() == [1, 2, 4]
    assert RecordDataset(records, ClipDraw(only_rates=(Fraction(1),))).indices.tolist() == [0, 3]
    assert RecordDataset(records, ClipDraw(min_rate=Fraction(2)), indices=[4, 3, 2]).indices.tolist() == [4, 2]
    with pytest.raises(UserError, match=r"frames at .* a second"):
        RecordDataset(records, ClipDraw(min_rate=Fraction(16)))


def test_a_pad_in_front_hides_no_duration(tmp_path, tiny, prompts):
    records = make(tmp_path / "r.bin", tiny, prompts, [1, 2, 2], caption="a red square")
    rows = records.rows(range(3))
    rows[1, :8] = np.roll(rows[1, :8], 1)
    assert rows[1, 0] == tiny.pad_id
    write_records(tmp_path / "padded.bin", rows, tiny)
    padded = Records.open(tmp_path / "padded.bin", tiny, words=records.words)
    dataset = RecordDataset(padded, ClipDraw(min_rate=Fraction(2)))
    assert dataset.indices.tolist() == [1, 2]
    assert look(dataset[0, 0], tiny, prompts)[0] == "2.0s\na red square"


@pytest.mark.parametrize(("suffix", "no_caption"), [(0.0, 0.0), (0.5, 0.1), (1.0, 0.0), (0.3, 1.0)])
def test_suffix_and_dropped_captions(long, tiny, prompts, suffix, no_caption):
    draw = ClipDraw(only_rates=(Fraction(4),), video_suffix=suffix, no_caption=no_caption)
    counts = Counter(text for text, _ in samples(RecordDataset(long, draw), tiny, prompts, 1000))
    expected = {
        "1.0s\nvideo": no_caption,
        f"1.0s\n{CAPTION} video": (1 - no_caption) * suffix,
        f"1.0s\n{CAPTION}": (1 - no_caption) * (1 - suffix),
    }
    assert set(counts) == {text for text, share in expected.items() if share}
    for text, share in expected.items():
        assert abs(counts[text] - 1000 * share) <= 4 * (1000 * share * (1 - share)) ** 0.5


def test_words_are_left_out_each_by_its_own_chance(long, tiny, prompts):
    draw = ClipDraw(only_rates=(Fraction(4),), video_suffix=0.5, no_caption=0.1, no_word=0.25)
    texts = [text.removeprefix("1.0s\n") for text, _ in samples(RecordDataset(long, draw), tiny, prompts, 1000)]
    captions = [text.removesuffix("video").split() for text in texts if text != "video"]
    assert all(set(words) <= set(CAPTION.split()) for words in captions)
    n = len(captions)
    for word in CAPTION.split():
        assert abs(sum(word in words for words in captions) - 0.75 * n) < 4 * (n * 0.75 * 0.25) ** 0.5
    both = sum("square" in words and "left" in words for words in captions)
    assert abs(both - 0.75**2 * n) < 4 * (n * 0.5625 * 0.4375) ** 0.5


def test_texts_are_those_of_generation(long, tiny, prompts):
    """Guided, plain, and what guidance moves away from: as the templates of the pipeline have them."""
    for draw, ids in (
        (ClipDraw((Fraction(2),), video_suffix=1), prompts.key_frames(CAPTION, 2.0, guided=True)),
        (ClipDraw((Fraction(2),)), prompts.between(CAPTION, 2.0)),
        (ClipDraw((Fraction(2),), no_caption=1), prompts.key_frames_guider(2.0)),
        (StillDraw(first=1), prompts.first_frame(CAPTION)),
    ):
        row = RecordDataset(long, draw)[0, 0]
        assert [id_ for id_ in row[: tiny.text_len].tolist() if id_ != tiny.pad_id] == ids


def test_stills(long, tiny, prompts):
    dataset = RecordDataset(long, StillDraw(first=0.4, duration=0.9))
    assert dataset.frames == 1
    assert dataset[0, 0].shape == (8 + 64,)
    found = samples(dataset, tiny, prompts, epochs=2000)
    firsts = [frames for text, frames in found if text == f"{CAPTION} photo"]
    assert abs(len(firsts) - 800) < 4 * (2000 * 0.24) ** 0.5
    assert set(map(tuple, firsts)) == {(20,)}
    others = [(text, frames) for text, frames in found if "photo" not in text]
    assert {frames[0] for _, frames in others} == set(range(20, 37))
    plain = sum(text == f"{CAPTION} video" for text, _ in others)
    assert abs(plain - 120) < 4 * 120**0.5
    assert {text[:4] for text, _ in others if "\n" in text} == set(SECONDS.values())
    assert {text.partition("\n")[2] for text, _ in others if "\n" in text} == {f"{CAPTION} video"}


def test_stills_without_captions(long, tiny, prompts):
    found = samples(RecordDataset(long, StillDraw(no_caption=1, duration=0.5)), tiny, prompts)
    assert {text for text, _ in found} == {"photo", "video", *(f"{s}\nvideo" for s in SECONDS.values())}


def test_a_caption_makes_room_for_its_suffix(tmp_path, tiny, prompts):
    records = make(tmp_path / "r.bin", tiny, prompts, [2], caption="a red square moving left up")
    text, _ = look(RecordDataset(records, ClipDraw(video_suffix=1))[0, 0], tiny, prompts)
    assert text == "2.0s\na red square moving left video"


def test_chance_hangs_on_seed_epoch_and_record(long, tiny):
    dataset = RecordDataset(long, StillDraw())
    entries = [(epoch, number) for epoch in range(20) for number in range(3)]
    whole = dataset.batch(entries)
    assert np.array_equal(whole[::-1], dataset.batch(entries[::-1]))
    assert not np.array_equal(whole, RecordDataset(long, StillDraw(), seed=1).batch(entries))
    part = RecordDataset(long, StillDraw(), indices=[2])
    assert np.array_equal(part.batch([(epoch, 0) for epoch in range(20)]), whole[2::3])


def test_suffixes_need_words(tmp_path, tiny, prompts):
    records = make(tmp_path / "r.bin", tiny, prompts, [2], words=None)
    for draw in (StillDraw(), ClipDraw(video_suffix=1), ClipDraw(no_caption=1)):
        with pytest.raises(UserError, match="are not known for these records"):
            RecordDataset(records, draw).batch([(0, 0)])
    with pytest.raises(UserError, match="none of the 1 records"):
        RecordDataset(records, ClipDraw(min_rate=Fraction(1)))


@pytest.mark.parametrize("workers", [0, 1])
def test_with_a_data_loader(long, tiny, workers):
    dataset = RecordDataset(long, ClipDraw())
    order = BatchOrder(len(dataset), 2, seed=4)
    loader = torch.utils.data.DataLoader(dataset, batch_sampler=order, num_workers=workers)
    batches = iter(loader)
    for number in range(4):
        entries = BatchOrder(len(dataset), 2, seed=4).batch(2 * number)
        assert torch.equal(next(batches), dataset.tensor(entries))
    del batches


def test_splits(tmp_path, tiny, prompts):
    records = make(tmp_path / "r.bin", tiny, prompts, [1] * 25, caption="a")
    parts = split_records(records, (6, 3, 1), seed=2)
    assert sorted(np.concatenate(parts).tolist()) == list(range(25))
    assert all(np.array_equal(a, b) for a, b in zip(parts, split_records(records, (6, 3, 1), seed=2), strict=True))
    table = tmp_path / "r.jsonl"
    table.write_text("".join(f'{{"file": "{number // 5}"}}\n' for number in range(25)))
    parts = split_records(records, (1, 1), seed=3)
    videos = [{index // 5 for index in part.tolist()} for part in parts]
    assert not videos[0] & videos[1]
    assert all(len(part) % 5 == 0 for part in parts)


def test_shares_of_the_release(tmp_path, tiny, prompts):
    config = get_size("tiny")
    records = make(tmp_path / "r.bin", config, prompts, [1] * 20, caption="a")
    records._ends[:] = 20_000  # as if there were so many
    train, validation, test = map(len, split_records(records))
    assert train + validation + test == 20_000
    assert abs(validation - 1000) < 4 * 1000**0.5
    assert abs(test - 20) < 4 * 20**0.5


def test_reading_needs_no_torch(tmp_path, tiny, prompts):
    make(tmp_path / "r.bin", tiny, prompts, [2, 2])
    program = (
        "import sys; from cogvideo.data.dataset import RecordDataset, StillDraw; from cogvideo.config import get_size;"
        "from cogvideo.data.batch_order import BatchOrder; from cogvideo.data.records import Records;"
        f"d = RecordDataset(Records.open({str(tmp_path / 'r.bin')!r}, get_size('tiny')));"
        "print(d.batch(BatchOrder(2, 2).batch(0)).shape, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "(2, 328) False\n"


def test_entries_are_pairs():
    assert Entry(1, 2) == (1, 2)
