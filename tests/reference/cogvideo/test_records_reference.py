"""Training records of the released code, as a file on disk: read by us, they give the rows that it trained on."""

from __future__ import annotations

import numpy as np
import pytest

from cogvideo.data.dataset import RecordDataset, split_text
from cogvideo.data.records import Records, write_records
from cogvideo.objectives import read_records


@pytest.mark.parametrize("folder_name", ["tiny", "release_constants"])
@pytest.mark.parametrize("case", ["train_stage1", "train_stage1_window", "train_stage2"])
def test_rows_from_a_file(cogvideo_dir, tensors, fixture_config, tmp_path, folder_name, case):
    folder = cogvideo_dir / folder_name
    if not folder.is_dir():
        pytest.skip(f"this reference set has no {folder_name}")
    expected, config = tensors(folder / f"{case}.io.safetensors"), fixture_config(folder)
    raw = expected["records"].numpy().astype("<i4")
    # As the release's own files are made: rows one after another, no header.
    (tmp_path / "theirs.bin").write_bytes(raw.tobytes())
    records = Records.open(tmp_path / "theirs.bin", config)
    assert np.array_equal(records.rows(range(len(raw))), raw)

    dataset = RecordDataset(records)
    entries = [(0, number) for number in range(len(raw))]
    text, frames = read_records(dataset.tensor(entries), config)
    boi = text.ids.new_full((len(raw), 1), config.boi_id)
    ours = np.concatenate([text.ids.numpy(), boi.numpy(), frames.flatten(1).numpy()], 1)
    assert np.array_equal(ours, expected["sample_text"].numpy())
    assert np.array_equal(frames.flatten(1).numpy(), expected["labels"].numpy()[:, -frames[0].numel() :])

    for row, slots in zip(raw, text.ids.tolist(), strict=True):
        parts = split_text(row[: config.text_len].tolist(), records)
        assert [*parts.duration, *parts.caption] == [id_ for id_ in slots if id_ != config.pad_id]
        assert not parts.duration or parts.duration[-1] == config.newline_id

    write_records(tmp_path / "ours.bin", raw, config)
    assert (tmp_path / "ours.bin").read_bytes() == (tmp_path / "theirs.bin").read_bytes()
