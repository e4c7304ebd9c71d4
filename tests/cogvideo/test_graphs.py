"""The loop that the device runs by itself makes what the loop of the host makes."""

from dataclasses import replace

import pytest
import torch

from cogvideo.clusters import automatic_clusters
from cogvideo.config import SIZES
from cogvideo.decoding import Plan, decode
from cogvideo.forward import BETWEEN_ORDER, Text
from cogvideo.network import Network, initialise_
from cogvideo.randomness import Stream, stream, uniform
from cogvideo.sampling import VIDEO, sample
from cogvideo.schedule import sequential, wavefront
from cogvideo.windows import layer_windows

CONFIG = replace(SIZES["tiny"], num_layers=3, hidden_size=64, num_attention_heads=4, grid=6, window=2, name="")


class Draws:
    """A sampler that can be asked by slot and by place, with another one for the last cell of a frame."""

    has_own_last_cell = True

    def __init__(self, rows, device="cpu"):
        self.table = automatic_clusters(CONFIG, 16).to(device)
        seeds = torch.arange(rows, device=device) + 5
        places = torch.arange(CONFIG.frames * CONFIG.frame_len, device=device)
        self.uniforms = uniform(seeds, stream(Stream.STAGE1), places)
        self.queued = 0

    def __call__(self, logits_BV, slot):
        place = slot.frame * CONFIG.frame_len + slot.cell
        return self._draw(logits_BV, self.uniforms[:, place], slot.cell == CONFIG.frame_len - 1)

    def at(self, logits_BV, place_1, *, is_last_cell):
        return self._draw(logits_BV, self.uniforms.index_select(1, place_1)[:, 0], is_last_cell)

    def made(self, steps):
        self.queued += steps

    def _draw(self, logits_BV, uniforms_B2, is_last):
        settings = replace(VIDEO, top_k_clusters=1) if is_last else VIDEO
        return sample(logits_BV, settings, self.table, uniforms_B2)


def network(device="cpu"):
    made = initialise_(Network(CONFIG), 3).eval()
    # As drawn, every token is about as likely as every other; louder weights make mistakes visible.
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "layernorm" not in name and parameter.dim() == 2:
                parameter.mul_(8 if "embedding" in name else 3)
    return made.to(device)


def case(name, device="cpu"):
    """Plan, steps, text and known ids of a kind of sequence."""
    F = CONFIG.frame_len
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, CONFIG.num_image_tokens, (3, 5, F), generator=generator).to(device)
    texts = [[520, 530], [521], [522, 523, 524, 525]]
    plan = {
        "first frame": Plan((0,), text_bonus=1.4, has_plus=False),
        "key frames": Plan((0, 1, 2, 3, 4), guidance_scale=3.0),
        "frames between": Plan(BETWEEN_ORDER, given=3, window=CONFIG.window, text_bonus=1.4),
        "guided between": Plan(BETWEEN_ORDER, given=3, window=CONFIG.window, guidance_scale=2.0),
    }[name]
    first = {"first frame": 0, "key frames": 1}.get(name, 3)
    known = ids[:, : len(plan.order)].clone()
    known[:, first:] = -1
    # One row knows the start of a wanted frame: primed generation.
    known[1, first, :4] = ids[1, first, :4]
    if plan.guidance_scale is not None:
        texts = [*texts, [540], [540], [540]]
    return plan, sequential(plan.order, first, F), Text.padded(texts, CONFIG.pad_id, torch.device(device)), known


def side_by_side():
    tables = [layer_windows(CONFIG.grid, CONFIG.window, parity) for parity in (0, 1)]
    return [
        sorted({other for table in tables for other in table.members(table.groups[cell])})
        for cell in range(CONFIG.frame_len)
    ]


@pytest.mark.parametrize("name", ["first frame", "key frames", "frames between", "guided between"])
def test_device_loop_makes_what_the_host_loop_makes(name):
    plan, steps, text, known = case(name)
    made = network()
    by_host = decode(made, text, known, plan, steps, Draws(3), loop="host")
    draws = Draws(3)
    by_device = decode(made, text, known, plan, steps, draws, loop="device")
    assert torch.equal(by_host, by_device)
    assert draws.queued == len(steps)
    assert (by_device >= 0).all()
    assert torch.equal(by_device[known >= 0], known[known >= 0])


def test_device_loop_runs_frames_side_by_side():
    plan, steps, text, known = case("frames between")
    made = network()
    parallel = wavefront(plan.order, 3, side_by_side())
    assert len(parallel) < len(steps)
    expected = decode(made, text, known, plan, steps, Draws(3), loop="host")
    assert torch.equal(decode(made, text, known, plan, parallel, Draws(3), loop="device"), expected)


def test_windows_that_are_masked_beyond_their_end_are_never_seen():
    """The device reads whole groups and masks: what lies in slots that nobody wrote must not matter."""
    plan, steps, text, known = case("frames between")
    made = network()
    expected = decode(made, text, known, plan, steps, Draws(3), loop="device")
    from cogvideo import cache

    zeros = torch.zeros

    class Loud(cache.Cache):
        def __init__(self, *arguments):
            torch.zeros = lambda *shape, **kind: zeros(*shape, **kind).fill_(100.0)
            try:
                super().__init__(*arguments)
            finally:
                torch.zeros = zeros

    from cogvideo import decoding

    old, decoding.Cache = decoding.Cache, Loud
    try:
        assert torch.equal(decode(made, text, known, plan, steps, Draws(3), loop="device"), expected)
    finally:
        decoding.Cache = old


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ["first frame", "key frames", "frames between", "guided between"])
def test_graphs_make_what_single_steps_make(name):
    plan, steps, text, known = case(name, "cuda")
    made = network("cuda")
    assert torch.equal(
        decode(made, text, known, plan, steps, Draws(3, "cuda")),
        decode(made, text, known, plan, steps, Draws(3, "cuda"), loop="host"),
    )
