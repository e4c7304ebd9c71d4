"""Decoding token by token equals one masked forward over the finished frames, at every position."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cogvideo.decoding import Decoder, Plan, decode
from cogvideo.forward import BETWEEN_ORDER, CONSISTENT, RELEASE, Text, forward, frame_inputs
from cogvideo.schedule import Slot, sequential, wavefront
from cogvideo.windows import layer_windows

CPU = torch.device("cpu")

# name: (sizes, plan, frames that are there before the first step)
PLANS = {
    "first frame": ({}, Plan((0,), text_bonus=1.4, has_plus=False), 0),
    "stage 1": ({}, Plan((0, 1, 2, 3, 4)), 1),
    "stage 1, nothing given": ({}, Plan((0, 1)), 0),
    "stage 1, primed with 3": ({}, Plan((0, 1, 2, 3, 4)), 3),
    "stage 1, 2 frames": ({}, Plan((0, 1)), 1),
    "stage 1, windows": ({}, Plan((0, 1, 2, 3, 4), window=2), 1),
    "stage 1, odd windows": ({"grid": 6, "window": 3}, Plan((0, 1, 2), window=3), 1),
    "stage 2": ({}, Plan(BETWEEN_ORDER, given=3, window=2), 3),
    "stage 2, larger windows": (
        {"grid": 8, "window": 4, "extra_positions": 256, "max_sequence_length": 80},
        Plan(BETWEEN_ORDER, given=3, window=4),
        3,
    ),
    "stage 2, odd windows": ({"grid": 6, "window": 3}, Plan(BETWEEN_ORDER, given=3, window=3), 3),
    "stage 2, one frame between": ({}, Plan((0, 2, 4, 1), given=3, window=2), 3),
}
VARIANTS = {
    "plain": {},
    "bonus": {"text_bonus": 1.4},
    "guided": {"guidance_scale": 3.0},
    "guided, bonus": {"guidance_scale": 3.0, "text_bonus": 0.7},
}


def argmax(logits, slot):
    return logits.argmax(-1)


def setting(name, variant, make_config, make_network, draw, rows, dtype=torch.float32):
    """(network, plan, texts of the rows, texts of the guider, frames in feeding order, first)."""
    changes, plan, first = PLANS[name]
    plan = replace(plan, **VARIANTS[variant])
    network = make_network(make_config(**changes), dtype=dtype)
    texts, frames = draw(network.config, (2, 6, 4)[:rows])
    guider, _ = draw(network.config, (1, 0, 8)[:rows], seed=1)
    return network, plan, texts, guider, frames[:, list(plan.order)], first


def stepped(network, plan, texts, guider, frames, steps, **options):
    """Logits (B, N, F, V) of every slot that a step decides, NaN elsewhere, and the ids."""
    text = Text.padded(texts + (guider if plan.guidance_scale is not None else []), network.config.pad_id, CPU)
    found = torch.full((*frames.shape, network.config.num_image_tokens), torch.nan)

    def watch(slot, logits):
        assert found[:, slot.fed, slot.cell].isnan().all()  # no slot twice
        assert slot.frame == plan.order[slot.fed]
        found[:, slot.fed, slot.cell] = logits

    ids = decode(network, text, frames, plan, steps, argmax, watch=watch, **options)
    return found, ids


def at_once(network, plan, texts, guider, frames):
    """The same logits from one forward over everything."""

    def logits(rows):
        text = Text.padded(rows, network.config.pad_id, CPU)
        with torch.no_grad():
            hidden = forward(
                network,
                text,
                frame_inputs(frames, network.config.boi_id),
                plan.order,
                given=plan.given,
                window=plan.window,
                text_bonus=plan.text_bonus,
                has_plus=plan.has_plus,
            )
            made = network.image_logits(hidden[:, text.ids.shape[1] :])
        return made.view(*frames.shape, -1)

    own = logits(texts)
    if plan.guidance_scale is None:
        return own
    other = logits(guider)
    return other + plan.guidance_scale * (own - other)


def seen_cells(config, window, odd="training"):
    its = [layer_windows(config.grid, window, parity, odd) for parity in (0, 1)]
    return [sorted({c for w in its for c in w.members(w.groups[cell])}) for cell in range(config.frame_len)]


@pytest.mark.parametrize(("rows", "variant"), [(1, "plain"), (1, "guided"), (3, "bonus"), (3, "guided, bonus")])
@pytest.mark.parametrize("name", PLANS)
def test_steps_equal_the_forward(name, rows, variant, make_config, make_network, draw):
    """The largest absolute difference over every position, in float32, at a standard deviation of the logits of 3."""
    network, plan, texts, guider, frames, first = setting(name, variant, make_config, make_network, draw, rows)
    steps = sequential(plan.order, first, network.config.frame_len)
    found, ids = stepped(network, plan, texts, guider, frames, steps)
    expected = at_once(network, plan, texts, guider, frames)
    assert found[:, :first].isnan().all()
    assert expected.std() > 1
    assert (found - expected)[:, first:].abs().max() < 1e-4
    assert torch.equal(ids, frames)


@pytest.mark.parametrize("name", ["first frame", "stage 1", "stage 1, primed with 3", "stage 2", "stage 1, windows"])
@pytest.mark.parametrize("rows_at_once", [None, 1, 4])
def test_prefill_equals_the_forward(name, rows_at_once, make_config, make_network, draw):
    """Hidden states of the given frames, however many rows are in work at a time."""
    network, plan, texts, guider, frames, first = setting(name, "guided", make_config, make_network, draw, 3)
    text = Text.padded(texts + guider, network.config.pad_id, CPU)
    decoder = Decoder(network, text, plan)
    T = text.ids.shape[1]
    both = torch.cat([frames, frames])
    hidden = decoder.prefill(both[:, :first], rows_at_once)
    expected = at_once(network, replace(plan, guidance_scale=None), texts + guider, None, both)[:, :first]
    ours = network.image_logits(hidden[:, T:]).view(expected.shape)
    assert hidden.isfinite().all()
    assert expected.numel() == 0 or (ours - expected).abs().max() < 1e-4
    if rows_at_once == 4:
        steps = sequential(plan.order, first, network.config.frame_len)[:3]
        plain, _ = stepped(network, plan, texts, guider, frames, steps)
        split, _ = stepped(network, plan, texts, guider, frames, steps, rows_at_once=rows_at_once)
        assert (plain - split)[:, first, :3].abs().max() < 1e-4


@pytest.mark.parametrize("variant", ["plain", "guided"])
@pytest.mark.parametrize("name", ["first frame", "stage 1", "stage 1, windows", "stage 2"])
def test_bfloat16(name, variant, make_config, make_network, draw):
    """Root mean square of the difference, over the standard deviation of the logits: 1e-2.

    With guidance the spread is that of the two terms that are added, scale times one and scale - 1 times the other.
    bfloat16 rounds at 4e-3, and either way is about 1e-2 away from float32; the steps may not be farther.
    """
    network, plan, texts, guider, frames, first = setting(
        name, variant, make_config, make_network, draw, 3, torch.bfloat16
    )
    steps = sequential(plan.order, first, network.config.frame_len)
    found = stepped(network, plan, texts, guider, frames, steps)[0][:, first:]
    half = at_once(network, plan, texts, guider, frames)[:, first:]
    network.float()
    exact = at_once(network, plan, texts, guider, frames)[:, first:]
    spread = at_once(network, replace(plan, guidance_scale=None), texts, guider, frames)[:, first:].std()
    if plan.guidance_scale is not None:
        spread = spread * (2 * plan.guidance_scale - 1)

    def distance(a, b):
        return float((a - b).square().mean().sqrt() / spread)

    assert 0 < distance(found, half) < 1e-2
    assert distance(found, exact) < 1.2 * distance(half, exact)


@pytest.mark.parametrize(("rows", "variant"), [(1, "bonus"), (3, "guided")])
@pytest.mark.parametrize("name", [name for name, (_, plan, _) in PLANS.items() if plan.window is not None])
def test_parallel_order(name, rows, variant, make_config, make_network, draw):
    """Tokens of several frames side by side: the same logits in every slot, and the same tokens when running free."""
    network, plan, texts, guider, frames, first = setting(name, variant, make_config, make_network, draw, rows)
    config = network.config
    one_by_one = sequential(plan.order, first, config.frame_len)
    steps = wavefront(plan.order, first, seen_cells(config, plan.window))
    slots = [slot for step in steps for slot in step]
    assert len(slots) == len(one_by_one)
    assert set(slots) == {slot for step in one_by_one for slot in step}
    if len(plan.order) - first > 1:
        assert len(steps) < len(one_by_one)
    found, _ = stepped(network, plan, texts, guider, frames, steps)
    expected, _ = stepped(network, plan, texts, guider, frames, one_by_one)
    assert (found - expected)[:, first:].abs().max() < 1e-4
    wanted = frames.clone()
    wanted[:, first:] = -1
    assert torch.equal(
        stepped(network, plan, texts, guider, wanted, steps)[1],
        stepped(network, plan, texts, guider, wanted, one_by_one)[1],
    )


@pytest.mark.parametrize("parallel", [False, True], ids=["sequential", "parallel"])
@pytest.mark.parametrize(
    ("changes", "quirks"),
    [
        ({}, RELEASE),
        ({}, replace(CONSISTENT, seam_in_prefill=False)),
        ({}, replace(CONSISTENT, bonus_in_prefill=False)),
        ({"grid": 6, "window": 3, "num_layers": 3}, replace(CONSISTENT, odd_windows="release")),
        ({"grid": 6, "window": 3, "num_layers": 3}, RELEASE),
    ],
    ids=["release", "no seam", "no bonus", "odd windows", "release, odd windows"],
)
def test_quirks_against_the_slow_network(
    changes, quirks, parallel, make_config, make_network, make_rules, draw, slow_logits
):
    """Decoding as the release does it; every quirk reaches the logits of the frames between."""
    network = make_network(make_config(**changes))
    config = network.config
    texts, frames = draw(config, (3,))
    plan = Plan(BETWEEN_ORDER, given=3, window=config.window, text_bonus=1.4, quirks=quirks)
    rules = make_rules(
        BETWEEN_ORDER,
        given=frozenset((0, 2, 4)),
        window=config.window,
        bonus=1.4,
        prefilled=frozenset((0, 2, 4)),
        seam_in_prefill=quirks.seam_in_prefill,
        bonus_in_prefill=quirks.bonus_in_prefill,
        odd_windows=quirks.odd_windows,
    )
    fed = frames[:, list(BETWEEN_ORDER)]
    steps = sequential(BETWEEN_ORDER, 3, config.frame_len)
    if parallel:
        steps = wavefront(BETWEEN_ORDER, 3, seen_cells(config, config.window, quirks.odd_windows))
    found, _ = stepped(network, plan, texts, [], fed, steps)
    slow = slow_logits(network, texts[0], frames[0], rules)
    assert (found[0, 3:] - slow[[1, 3]]).abs().max() < 1e-4
    default, _ = stepped(network, replace(plan, quirks=CONSISTENT), texts, [], fed, steps)
    assert (default - found)[:, 3:].abs().max() > 1e-2


def test_known_tokens_are_kept(make_config, make_network, draw):
    """Tokens that are there already are fed, row by row, and the rest is chosen from logits that have seen them."""
    network, plan, texts, guider, frames, first = setting("stage 1", "guided", make_config, make_network, draw, 3)
    config = network.config
    known = frames.clone()
    generator = torch.Generator().manual_seed(0)
    known[:, first:][torch.rand(known[:, first:].shape, generator=generator) < 0.5] = -1
    known[2, first:] = -1  # one row with less than the others
    steps = sequential(plan.order, first, config.frame_len)
    before = known.clone()
    found, ids = stepped(network, plan, texts, guider, known, steps)
    assert torch.equal(known, before)
    assert torch.equal(ids[known >= 0], known[known >= 0])
    chosen = known < 0
    assert torch.equal(ids[chosen], found.argmax(-1)[chosen])
    expected = at_once(network, plan, texts, guider, ids)
    assert (found - expected)[:, first:].abs().max() < 1e-4


def test_one_frame_in_work_is_all_that_the_base_channel_keeps(make_config, make_network, draw):
    """Frames that were finished leave nothing in the base channel: filling it with anything changes no later logit."""
    network, plan, texts, _, frames, _ = setting("stage 1", "plain", make_config, make_network, draw, 3)
    config = network.config
    text = Text.padded(texts, config.pad_id, CPU)
    T = text.ids.shape[1]
    decoder = Decoder(network, text, plan)
    decoder.prefill(frames[:, :1])
    expected = at_once(network, plan, texts, [], frames)
    for fed in (1, 2):
        for keys, values in decoder.cache.base:
            keys[..., T:, :] = 1e4
            values[..., T:, :] = -1e4
        for cell in range(config.frame_len):
            tokens = frames[:, fed, cell - 1] if cell else torch.full((3,), config.boi_id)
            logits = decoder.step(tokens[:, None], (Slot(fed, fed, cell),))
            assert (logits[:, 0] - expected[:, fed, cell]).abs().max() < 1e-4


@pytest.mark.parametrize("name", ["first frame", "stage 1", "stage 2"])
def test_buffers_are_written_in_place(name, make_config, make_network, draw):
    """No buffer moves or grows while a sequence is decoded, and there are as many bytes as was promised."""
    network, plan, texts, _, frames, first = setting(name, "plain", make_config, make_network, draw, 3)
    text = Text.padded(texts, network.config.pad_id, CPU)
    decoder = Decoder(network, text, plan, rings=1)

    def buffers():
        return [buffer for pair in decoder.cache.base + decoder.cache.plus if pair for buffer in pair]

    before = [(buffer.data_ptr(), buffer.shape) for buffer in buffers()]
    assert sum(buffer.nbytes for buffer in buffers()) == decoder.cache.spec.bytes(4)
    decoder.prefill(frames[:, :first])
    for step in sequential(plan.order, first, network.config.frame_len):
        decoder.step(torch.zeros(3, 1, dtype=torch.long), step)
    assert [(buffer.data_ptr(), buffer.shape) for buffer in buffers()] == before
    if not plan.has_plus:
        assert decoder.cache.plus == [None] * network.config.num_layers


def test_the_first_frame_does_not_touch_the_second_channel(make_config, make_network, draw):
    network, plan, texts, _, frames, _ = setting("first frame", "plain", make_config, make_network, draw, 3)
    steps = sequential(plan.order, 0, network.config.frame_len)
    expected, _ = stepped(network, plan, texts, [], frames, steps)
    with torch.no_grad():
        for parameter in network.mixins.attention_plus.parameters():
            parameter.fill_(torch.nan)
    assert torch.equal(stepped(network, plan, texts, [], frames, steps)[0], expected)


@pytest.mark.parametrize("name", ["stage 1", "stage 2", "first frame"])
def test_rows_without_text_are_finite(name, make_config, make_network, draw):
    """A guider may have no text at all, and so may everybody."""
    network, plan, _, _, frames, first = setting(name, "guided, bonus", make_config, make_network, draw, 3)
    texts = [[], [27, 28], []]
    for block in (texts, [[], [], []]):
        found, _ = stepped(network, plan, block, [[]] * 3, frames, sequential(plan.order, first, 16))
        assert found[:, first:].isfinite().all()


def test_new_parameters_are_used(make_config, make_network, draw):
    """Loading, training or converting a network between two sequences shows in the second."""
    network, plan, texts, guider, frames, first = setting("stage 2", "plain", make_config, make_network, draw, 3)
    other = make_network(network.config, seed=1)
    steps = sequential(plan.order, first, network.config.frame_len)
    stepped(network, plan, texts, guider, frames, steps)
    for assign in (False, True):
        network.load_state_dict(other.state_dict(), assign=assign)
        expected = at_once(other, plan, texts, guider, frames)
        assert (stepped(network, plan, texts, guider, frames, steps)[0] - expected)[:, first:].abs().max() < 1e-4
        other = make_network(network.config, seed=2)
    bias = {name: tensor for name, tensor in other.state_dict().items() if name.endswith("bias")}
    network.load_state_dict(bias, assign=True, strict=False)
    expected = at_once(network, plan, texts, guider, frames)
    assert (stepped(network, plan, texts, guider, frames, steps)[0] - expected)[:, first:].abs().max() < 1e-4
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(0.9)
    expected = at_once(network, plan, texts, guider, frames)
    assert (stepped(network, plan, texts, guider, frames, steps)[0] - expected)[:, first:].abs().max() < 1e-4


def test_a_text_that_does_not_fit_is_refused(make_config, make_network):
    """Rows of the position table are limited: longer texts would be read as image positions."""
    network = make_network(make_config())
    text = Text.padded([[27] * (network.config.max_text_len + 1)], network.config.pad_id, CPU)
    with pytest.raises(ValueError, match="8 ids"):
        Decoder(network, text, Plan((0, 1)))
