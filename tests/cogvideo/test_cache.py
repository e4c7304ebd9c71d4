"""Where keys lie: every token has a slot of its own, and what it sees is one slice of the buffer."""

from __future__ import annotations

import pytest
import torch

from cogvideo.cache import Cache, CacheSpec
from cogvideo.config import get_size
from cogvideo.windows import layer_windows

CPU = torch.device("cpu")


def spec_of(config, window, odd="training", **changes):
    windows = (layer_windows(config.grid, window, 0, odd), layer_windows(config.grid, window, 1, odd))
    return CacheSpec(**({"config": config, "rows": 2, "text_len": 3, "frames": 4, "windows": windows} | changes))


@pytest.mark.parametrize("odd", ["training", "release"])
@pytest.mark.parametrize(("grid", "window"), [(4, None), (4, 1), (4, 2), (4, 4), (6, 3), (8, 4), (9, 3)])
def test_a_slice_holds_what_a_token_sees(grid, window, odd, make_config, cells_see):
    """Text, then every earlier frame's cells that the token sees, then its own frame up to itself: nothing else."""
    config = make_config(
        grid=grid, window=window or grid, max_sequence_length=10 + grid**2, extra_positions=4 * grid**2
    )
    spec = spec_of(config, window, odd)
    cache = Cache(spec, torch.float32, CPU)
    F, T = config.frame_len, spec.text_len
    for parity in (0, 1):
        sees = torch.ones(F, F).bool() if window is None else torch.from_numpy(cells_see(grid, window, parity, odd))
        own = {(fed, cell): cache.plus_range(parity, fed, cell)[1] for fed in range(spec.frames) for cell in range(F)}
        assert len(set(own.values())) == len(own)
        starts = {cache.plus_range(parity, 0, cell)[0] for cell in range(F)}
        of_text = {start + place for start in starts for place in range(T)}
        assert of_text.isdisjoint(own.values())
        assert len(of_text) + len(own) == spec.plus_len(parity)
        assert max(of_text | set(own.values())) == spec.plus_len(parity) - 1
        at = {slot: token for token, slot in own.items()}
        for fed in range(spec.frames):
            for cell in range(F):
                start, end = cache.plus_range(parity, fed, cell)
                assert set(range(start, start + T)) <= of_text
                inside = [at[slot] for slot in range(start + T, end + 1)]
                expected = [
                    (f, c) for f in range(fed + 1) for c in range(F) if sees[cell, c] and (f < fed or c <= cell)
                ]
                assert inside == expected


def test_prefill_is_written_where_steps_read(make_config):
    """Marked keys of text and frames, row by row, land in their slots and in no other."""
    config = make_config()
    spec = spec_of(config, 2, rings=2)
    cache = Cache(spec, torch.float32, CPU)
    A, d, F, T = config.num_attention_heads, config.head_dim, config.frame_len, spec.text_len
    shape = (1, A, T, d)
    frames = (1 + torch.arange(2 * F)).view(1, 1, 2 * F, 1).expand(1, A, 2 * F, d).float()
    for row in (0, 1):
        for layer in range(config.num_layers):
            keeper = cache.rows(row, row + 1)
            sign = 1 - 2 * row
            keeper.keep_text(
                layer,
                (torch.full(shape, sign * 0.5), torch.full(shape, sign * 0.25)),
                (torch.full(shape, sign * 1000.0), torch.full(shape, sign * 2000.0)),
            )
            keeper.keep_frames(layer, (sign * frames, sign * 100 * frames))
    for layer in range(config.num_layers):
        for row, sign in ((0, 1), (1, -1)):
            for buffer, mark in zip(cache.base[layer], (0.5, 0.25), strict=True):
                assert (buffer[:, row, :, :T] == sign * mark).all()  # both rings
                assert (buffer[:, row, :, T:] == 0).all()
            for buffer, factor, mark in zip(cache.plus[layer], (1, 100), (1000.0, 2000.0), strict=True):
                expected = torch.zeros(spec.plus_len(layer % 2))
                for cell in range(F):
                    start, _ = cache.plus_range(layer % 2, 0, cell)
                    expected[start : start + T] = mark
                    for fed in (0, 1):
                        expected[cache.plus_range(layer % 2, fed, cell)[1]] = factor * (1 + fed * F + cell)
                assert (buffer[row] == sign * expected[None, :, None]).all()


@pytest.mark.parametrize("rings", [1, 2])
@pytest.mark.parametrize("window", [None, 2])
def test_bytes_are_what_is_allocated(window, rings, make_config):
    config = make_config()
    for dtype in (torch.float32, torch.bfloat16):
        spec = spec_of(config, window, rings=rings)
        cache = Cache(spec, dtype, CPU)
        allocated = sum(buffer.nbytes for pair in cache.base + cache.plus for buffer in pair)
        assert allocated == spec.bytes(dtype.itemsize)


def test_release_memory():
    """Stage 1 of the release with 74 ids of text: 1.5 GB a row in 16 bit, 576 KiB for a token in a channel."""
    config = get_size("release")
    spec = spec_of(config, None, rows=1, text_len=74, frames=5)
    assert spec.base_len == 474
    assert spec.plus_len(0) == spec.plus_len(1) == 2074
    assert spec.bytes(2) == (474 + 2074) * 576 * 1024
    between = spec_of(config, 10, rows=1, text_len=74, frames=5)
    assert (between.plus_len(0), between.plus_len(1)) == (2000 + 4 * 74, 2000 + 9 * 74)


def test_without_a_temporal_channel(make_config):
    config = make_config()
    spec = spec_of(config, None, windows=None)
    cache = Cache(spec, torch.float32, CPU)
    assert spec.plus_len(0) == spec.plus_len(1) == 0
    assert cache.plus == [None] * config.num_layers
    assert spec.bytes(4) == sum(buffer.nbytes for pair in cache.base for buffer in pair)
    with pytest.raises(ValueError, match="no temporal channel"):
        cache.plus_range(0, 0, 0)
    shape = (2, config.num_attention_heads, 3, config.head_dim)
    cache.rows(0, 2).keep_text(0, (torch.ones(shape), torch.ones(shape)), None)
    assert cache.base[0][0].sum() == torch.ones(shape).sum()
