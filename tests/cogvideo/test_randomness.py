"""Uniform numbers: the published vectors of Philox, and what a pure function of (seed, stream, position) promises."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from cogvideo.errors import UserError
from cogvideo.randomness import Stream, _double, philox, sample_seeds, stream, uniform

# Known answers of Random123 (DEShawResearch/random123, tests/kat_vectors): counter, key, output.
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text):
    return tuple(torch.tensor(int(word, 16)) for word in text.split())


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_published_vectors(counter, key, expected):
    assert philox(words(counter), words(key)) == words(expected)


def slow_philox(counter, key):
    """The generator again, in Python's unbounded integers."""
    counter, key = list(counter), list(key)
    for _ in range(10):
        low, high = 0xD2511F53 * counter[0], 0xCD9E8D57 * counter[2]
        counter = [
            (high >> 32) ^ counter[1] ^ key[0],
            high & 0xFFFFFFFF,
            (low >> 32) ^ counter[3] ^ key[1],
            low & 0xFFFFFFFF,
        ]
        key = [(key[0] + 0x9E3779B9) % 2**32, (key[1] + 0xBB67AE85) % 2**32]
    return counter


@pytest.mark.parametrize("seed", [0, -1, 2**63 - 1, -(2**63), 0x123456789ABCDEF])
def test_uniforms_are_the_words_of_the_generator(seed):
    number = stream(Stream.STAGE2, 2, 7)
    positions = torch.tensor([0, 1, 399, 2**40 + 3])
    got = uniform(torch.tensor([seed]), number, positions, 3)[0]
    for position, row in zip(positions.tolist(), got.tolist(), strict=True):
        key = (seed % 2**32, seed % 2**64 >> 32)
        draws = []
        for block in range(2):
            out = slow_philox((position % 2**32, position >> 32, number, block), key)
            draws += [((out[n] >> 5) * 2**26 + (out[n + 1] >> 6)) / 2**53 for n in (0, 2)]
        assert row == draws[:3]


def test_words_become_a_double_as_in_numpy():
    """numpy makes a double of two words of MT19937 by the rule that we use for words of Philox."""
    raw = np.random.MT19937(3)
    state = raw.state
    pair = raw.random_raw(2)
    raw.state = state
    expected = np.random.Generator(raw).random()
    assert _double(torch.tensor(int(pair[0])), torch.tensor(int(pair[1]))).item() == expected
    largest = torch.tensor(2**32 - 1)
    assert _double(largest, largest).item() == 1 - 2.0**-53


def test_pure_function_of_seed_stream_and_position():
    seeds, positions = torch.tensor([5, -9, 2**50]), torch.arange(12).reshape(3, 4)
    whole = uniform(seeds, 3, positions, 4)
    assert whole.shape == (3, 3, 4, 4)
    assert whole.dtype == torch.float64
    for row, seed in enumerate(seeds):
        for position in (0, 7, 11):
            alone = uniform(seed[None], 3, torch.tensor(position), 2)
            assert torch.equal(alone[0], whole[row].reshape(12, 4)[position, :2])
    per_row = uniform(seeds, torch.tensor([1, 3, 8]), positions, 4)
    assert torch.equal(per_row[1], whole[1])
    assert torch.equal(per_row[2], uniform(seeds[2:], 8, positions, 4)[0])


def test_uniform_and_independent():
    """Equal counts in 100 bins, and no correlation between draws, neighbours, streams and seeds."""
    positions = torch.arange(20_000)
    base = uniform(torch.tensor([1234]), 1, positions, 2)[0]
    assert (base >= 0).all()
    assert (base < 1).all()
    for column in base.T:
        counts = torch.histc(column, 100, 0, 1).numpy()
        assert stats.chisquare(counts).pvalue > 1e-4
        assert stats.kstest(column.numpy(), "uniform").pvalue > 1e-4
    others = {
        "draw": base[:, 1],
        "neighbour": base[:, 0].roll(1),
        "stream": uniform(torch.tensor([1234]), 2, positions, 1)[0, :, 0],
        "seed": uniform(torch.tensor([1235]), 1, positions, 1)[0, :, 0],
        "high bit of the seed": uniform(torch.tensor([1234 + 2**62]), 1, positions, 1)[0, :, 0],
    }
    for name, other in others.items():
        correlation = torch.corrcoef(torch.stack([base[:, 0], other]))[0, 1].item()
        assert abs(correlation) < 4.5 / np.sqrt(len(positions)), name


def test_streams_never_meet():
    numbers = [stream(kind, r, n) for kind in Stream for r in (0, 1, 4095) for n in (0, 1, 65535)]
    assert len(set(numbers)) == len(numbers)
    assert 0 <= min(numbers) < max(numbers) < 2**32
    windows = stream(Stream.STAGE2, 1, torch.arange(3))
    assert windows.tolist() == [stream(Stream.STAGE2, 1, n) for n in range(3)]


@pytest.mark.parametrize(("turn", "item"), [(4096, 0), (-1, 0), (0, 65536), (0, -1)])
def test_stream_out_of_range(turn, item):
    with pytest.raises(UserError, match="expected a round below 4096"):
        stream(Stream.STAGE2, turn, item)


def test_seeds_of_samples():
    assert torch.equal(sample_seeds(7, 10)[4:6], sample_seeds(7, 2, first=4))
    many = torch.cat([sample_seeds(seed, 500) for seed in (0, 1, 2, -1, 2**64 - 2, 2**40)])
    assert len(many.unique()) == len(many)
    assert (many >= 0).all()


def test_same_numbers_when_compiled_by_the_tracer():
    """Nothing in it depends on values: it can be traced with positions and seeds as unknown tensors."""
    from torch.fx.experimental.proxy_tensor import make_fx

    seeds, position = torch.tensor([3, 4]), torch.tensor(17)
    traced = make_fx(lambda s, p: uniform(s, 5, p, 2), tracing_mode="fake")(seeds, position)
    assert torch.equal(traced(seeds + 9, position + 1), uniform(seeds + 9, 5, position + 1, 2))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_same_numbers_on_a_gpu():
    seeds, positions = torch.tensor([5, -9]), torch.arange(400)
    assert torch.equal(uniform(seeds.cuda(), 3, positions.cuda(), 2).cpu(), uniform(seeds, 3, positions, 2))
