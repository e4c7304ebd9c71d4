"""Reading and writing rows: against numpy's own reading, and files that do not fit."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

from cogvideo.config import get_size
from cogvideo.data.record_card import RecordCard
from cogvideo.data.records import Records, text_slots, write_records
from cogvideo.errors import UserError


def random_rows(config, count, frames=5, seed=0):
    rng = np.random.default_rng(seed)
    texts = rng.integers(config.num_image_tokens, config.vocab_size, (count, config.text_len))
    images = rng.integers(0, config.num_image_tokens, (count, frames * config.frame_len))
    return np.concatenate([texts, images], 1).astype(np.int32)


def write_folder(path, config, rows, *, per_shard=4, frames=5, **changes):
    """A folder of records written without our writer, `changes` to its card."""
    path.mkdir()
    parts = [rows[first : first + per_shard] for first in range(0, len(rows), per_shard)]
    names = [f"records-{number:05d}-of-{len(parts):05d}.bin" for number in range(len(parts))]
    for name, part in zip(names, parts, strict=True):
        (path / name).write_bytes(part.astype("<i4").tobytes())
    card = {
        "sizes": config.layout(),
        "frames": frames,
        "values": rows.shape[1],
        "records": len(rows),
        "shards": {
            name: {"records": len(part), "sha256": "", "index_sha256": ""}
            for name, part in zip(names, parts, strict=True)
        },
        "image_tokenizer": {"sha256": "i" * 64},
        "text_tokenizer": {"sha256": "t" * 64},
        "language": "en",
        "words": {},
        "rate_list": [],
        "rates": {},
        "clips_per_video": 1,
        "seed": 0,
        "source": {"name": "x", "layout": "ucf", "pairs": 1, "list_sha256": "", "content_sha256": ""},
        "skipped": {},
    }
    (path / "card.json").write_text(RecordCard.model_validate(card | changes).model_dump_json())
    return path


def test_rows_of_several_files(tmp_path, tiny):
    rows = random_rows(tiny, 11)
    records = Records.open(write_folder(tmp_path / "r", tiny, rows), tiny)
    assert len(records) == 11
    wanted = [10, 0, 4, 3, 4, 8]
    assert np.array_equal(records.rows(wanted), rows[wanted])
    assert records.rows(wanted).dtype == np.int32
    assert np.array_equal(records.text_heads(3), rows[:, :3])
    assert records.rows([]).shape == (0, rows.shape[1])
    for bad in (11, -1):
        with pytest.raises(IndexError, match=r"0..10"):
            records.rows([bad])


def test_a_file_as_the_release_has_it(tmp_path, tiny):
    rows = random_rows(tiny, 6)
    write_records(tmp_path / "r.bin", rows, tiny)
    assert np.array_equal(np.fromfile(tmp_path / "r.bin", "<i4").reshape(6, -1), rows)
    records = Records.open(tmp_path / "r.bin", tiny)
    assert np.array_equal(records.rows(range(6)), rows)
    assert records.where(3) == {}
    long = random_rows(tiny, 2, frames=9)
    write_records(tmp_path / "long.bin", long, tiny, frames=9)
    assert np.array_equal(Records.open(tmp_path / "long.bin", tiny, frames=9).rows([1]), long[[1]])


def test_the_release_has_2064_ids_a_record(tmp_path):
    release = get_size("release")
    rows = random_rows(release, 2)
    assert rows.shape[1] == 2064
    write_records(tmp_path / "r.bin", rows, release)
    assert (tmp_path / "r.bin").stat().st_size == 2 * 2064 * 4
    assert np.array_equal(Records.open(tmp_path / "r.bin", release).rows([0, 1]), rows)


def test_only_what_is_asked_for_is_read_and_nothing_is_pickled(tmp_path, tiny):
    records = Records.open(write_folder(tmp_path / "r", tiny, random_rows(tiny, 400), per_shard=200), tiny)
    first = records.rows([399])
    carried = pickle.dumps(records)
    assert len(carried) < 10_000
    assert np.array_equal(pickle.loads(carried).rows([399]), first)


def test_writing_refuses_what_is_no_record(tmp_path, tiny):
    rows = random_rows(tiny, 2)
    too_high, negative = rows.copy(), rows.copy()
    too_high[0, -1], negative[1, 3] = tiny.num_image_tokens, -1
    for bad in (rows[:, 1:], rows.astype(float), rows[0], too_high, negative):
        with pytest.raises(ValueError, match="expected"):
            write_records(tmp_path / "r.bin", bad, tiny)
    assert list(tmp_path.iterdir()) == []


def test_text_slots(tiny):
    assert text_slots([600, 601], tiny) == [600, 601, *[tiny.pad_id] * 6]
    assert text_slots(range(20), tiny) == list(range(8))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"grid": 4}, "made for grid 4, the network has 8"),
        ({"num_image_tokens": 256}, "num_image_tokens 256, the network has 1024"),
        ({"vocab_size": 600}, "vocab_size 600"),
        ({"text_len": 9}, "text_len 9"),
    ],
)
def test_records_of_another_size(tmp_path, tiny, sizes, message):
    folder = write_folder(tmp_path / "r", tiny, random_rows(tiny, 2), sizes=tiny.layout() | sizes)
    with pytest.raises(UserError, match=message):
        Records.open(folder, tiny)


def test_layers_do_not_matter(tmp_path, tiny):
    sizes = tiny.layout() | {"num_layers": 2, "hidden_size": 32}
    assert len(Records.open(write_folder(tmp_path / "r", tiny, random_rows(tiny, 2), sizes=sizes), tiny)) == 2


def test_records_of_other_tokenizers(tmp_path, tiny):
    folder = write_folder(tmp_path / "r", tiny, random_rows(tiny, 2))
    assert len(Records.open(folder, tiny, image_tokenizer="i" * 64, text_tokenizer="t" * 64)) == 2
    with pytest.raises(UserError, match=r"made with another image tokenizer \(iiiiiiiiiiii\) than the network's"):
        Records.open(folder, tiny, image_tokenizer="x" * 64)
    with pytest.raises(UserError, match="made with another text tokenizer"):
        Records.open(folder, tiny, text_tokenizer="x" * 64)
    with pytest.raises(UserError, match="have 5 frames, expected 17"):
        Records.open(folder, tiny, frames=17)


def test_damaged_folders(tmp_path, tiny):
    folder = write_folder(tmp_path / "r", tiny, random_rows(tiny, 6))
    last = folder / "records-00001-of-00002.bin"
    whole = last.read_bytes()
    last.write_bytes(whole[:-4])
    with pytest.raises(UserError, match="no whole number of records"):
        Records.open(folder, tiny)
    last.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="1 records, its card says 2"):
        Records.open(folder, tiny)
    last.unlink()
    with pytest.raises(UserError, match="cannot read the records"):
        Records.open(folder, tiny)
    card = folder / "card.json"
    card.write_text("{")
    with pytest.raises(UserError, match="is damaged"):
        Records.open(folder, tiny)
    card.write_text("{}")
    with pytest.raises(UserError, match="is no card of records"):
        Records.open(folder, tiny)
    card.unlink()
    with pytest.raises(UserError, match="holds no finished records"):
        Records.open(folder, tiny)


def test_a_card_does_not_lead_out_of_its_folder(tmp_path, tiny):
    folder = write_folder(tmp_path / "r", tiny, random_rows(tiny, 2))
    card = json.loads((folder / "card.json").read_text())
    card["shards"] = {"../records-00000-of-00001.bin": next(iter(card["shards"].values()))}
    (folder / "card.json").write_text(json.dumps(card))
    with pytest.raises(UserError, match="is no card of records"):
        Records.open(folder, tiny)


def test_a_bare_file_of_another_vocabulary(tmp_path, tiny):
    rows = random_rows(tiny, 3)
    rows[2, 0] = 3
    (tmp_path / "r.bin").write_bytes(rows.tobytes())
    with pytest.raises(UserError, match=r"text id 3, expected 1024..1079: records of another size or vocabulary"):
        Records.open(tmp_path / "r.bin", tiny)
    rows[2, 0], rows[2, 50] = 1100, 1024
    (tmp_path / "r.bin").write_bytes(rows.tobytes())
    with pytest.raises(UserError, match="text id 1100"):
        Records.open(tmp_path / "r.bin", tiny)
    (tmp_path / "r.bin").write_bytes(b"")
    with pytest.raises(UserError, match="holds no record"):
        Records.open(tmp_path / "r.bin", tiny)
