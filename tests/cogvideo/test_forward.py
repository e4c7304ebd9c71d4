"""The masked forward against the slow network, and what must not show in it: pads, batch, what a frame cannot see."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cogvideo.forward import BETWEEN_ORDER, CONSISTENT, QUIRKS, RELEASE, Text, forward, frame_inputs
from cogvideo.network import Network

CPU = torch.device("cpu")
LENGTHS = (2, 5, 3)

# name: (sizes, stage, window, frames, options of forward)
SETTINGS = {
    "stage 1": ({}, 1, None, 5, {}),
    "stage 1, 3 frames": ({}, 1, None, 3, {}),
    "stage 1, 1 frame": ({}, 1, None, 1, {}),
    "stage 1, bonus": ({}, 1, None, 2, {"text_bonus": 1.4}),
    "first frame": ({}, 1, None, 1, {"text_bonus": 1.4, "has_plus": False}),
    "stage 1, windows": ({}, 1, 2, 5, {}),
    "stage 1, odd windows": ({"grid": 6, "window": 3}, 1, 3, 2, {}),
    "stage 2": ({}, 2, 2, 5, {}),
    "stage 2, bonus": ({}, 2, 2, 5, {"text_bonus": 1.4}),
    "stage 2, one window": ({"window": 4}, 2, 4, 5, {}),
    "stage 2, windows of one cell": ({"window": 1}, 2, 1, 5, {}),
    "stage 2, odd windows": ({"grid": 3, "window": 3}, 2, 3, 5, {}),
}


def run(network, texts, frames, stage, window, **options):
    """Logits (B, N, F, V) in natural order, and everything that came out."""
    config = network.config
    N = frames.shape[1]
    order, given = (BETWEEN_ORDER, 3) if stage == 2 else (tuple(range(N)), 0)
    text = Text.padded(texts, config.pad_id, CPU)
    inputs = frame_inputs(frames[:, list(order)], config.boi_id)
    hidden = forward(network, text, inputs, order, given=given, window=window, **options)
    logits = network.image_logits(hidden[:, text.ids.shape[1] :]).view(len(frames), N, config.frame_len, -1)
    return logits[:, [order.index(frame) for frame in range(N)]], hidden


def rules_of(make_rules, stage, window, N, options):
    quirks = options.get("quirks", CONSISTENT)
    return make_rules(
        order=BETWEEN_ORDER if stage == 2 else tuple(range(N)),
        given=frozenset((0, 2, 4)) if stage == 2 else frozenset(),
        window=window,
        bonus=options.get("text_bonus", 0.0),
        has_plus=options.get("has_plus", True),
        prefilled=frozenset(range(N)),
        seam_in_prefill=quirks.seam_in_prefill,
        bonus_in_prefill=quirks.bonus_in_prefill,
    )


@pytest.mark.parametrize("name", SETTINGS)
def test_against_the_slow_network(name, make_config, make_network, make_rules, draw, slow_logits):
    """Three rows of unequal text in one block, each against the same row alone and without pads."""
    changes, stage, window, N, options = SETTINGS[name]
    network = make_network(make_config(**changes))
    texts, frames = draw(network.config, LENGTHS, N)
    ours, _ = run(network, texts, frames, stage, window, **options)
    assert ours.std() > 1
    rules = rules_of(make_rules, stage, window, N, options)
    for row, text in enumerate(texts):
        assert (ours[row] - slow_logits(network, text, frames[row], rules)).abs().max() < 1e-4


@pytest.mark.parametrize(
    "quirks",
    [RELEASE, replace(CONSISTENT, seam_in_prefill=False), replace(CONSISTENT, bonus_in_prefill=False)],
    ids=["release", "no seam", "no bonus"],
)
def test_quirks_against_the_slow_network(quirks, make_config, make_network, make_rules, draw, slow_logits):
    """What the release does to given frames; each quirk moves the logits of given frames, and none is the default."""
    network = make_network(make_config())
    texts, frames = draw(network.config, (4,), 5)
    options = {"text_bonus": 1.4, "quirks": quirks}
    ours, _ = run(network, texts, frames, 2, 2, **options)
    slow = slow_logits(network, texts[0], frames[0], rules_of(make_rules, 2, 2, 5, options))
    given = [0, 2, 4]
    assert (ours[0] - slow)[given].abs().max() < 1e-4
    default, _ = run(network, texts, frames, 2, 2, text_bonus=1.4)
    assert (ours - default)[:, given].abs().max() > 1e-2


def test_the_default_is_consistent():
    assert QUIRKS["consistent"] == CONSISTENT
    assert QUIRKS["release"] == RELEASE
    assert CONSISTENT.seam_in_prefill
    assert CONSISTENT.bonus_in_prefill
    assert not RELEASE.seam_in_prefill
    assert not RELEASE.bonus_in_prefill


@pytest.mark.parametrize(("stage", "window"), [(1, None), (1, 2), (2, 2)])
def test_a_row_does_not_see_the_others(stage, window, make_config, make_network, draw):
    """The same row alone, among others, and behind any number of pads."""
    network = make_network(make_config())
    texts, frames = draw(network.config, LENGTHS)
    together, _ = run(network, texts, frames, stage, window)
    for row in range(len(texts)):
        alone, _ = run(network, texts[row : row + 1], frames[row : row + 1], stage, window)
        assert (together[row] - alone[0]).abs().max() < 1e-5
    text = Text.padded(texts, network.config.pad_id, CPU, length=8)
    assert text.ids.shape == (3, 8)
    order = BETWEEN_ORDER if stage == 2 else tuple(range(5))
    inputs = frame_inputs(frames[:, list(order)], network.config.boi_id)
    padded = forward(network, text, inputs, order, given=3 if stage == 2 else 0, window=window)
    wide = network.image_logits(padded[:, 8:]).view(3, 5, network.config.frame_len, -1)
    assert (wide[:, [order.index(frame) for frame in range(5)]] - together).abs().max() < 1e-5


@pytest.mark.parametrize(("stage", "window"), [(1, None), (1, 2), (2, 2)])
def test_rows_without_text_are_finite(stage, window, make_config, make_network, draw):
    """A guider may have no text at all: pads only, with and without real rows beside it."""
    network = make_network(make_config())
    texts, frames = draw(network.config, (0, 4))
    logits, hidden = run(network, texts, frames, stage, window, text_bonus=1.4)
    assert hidden.isfinite().all()
    alone, _ = run(network, [[]], frames[:1], stage, window, text_bonus=1.4)
    assert (logits[0] - alone[0]).abs().max() < 1e-5


def test_pads_get_no_gradient_and_change_nothing(make_config, make_network, draw):
    """Gradients stay finite with masked rows, and the pad's embedding is out of reach."""
    network = make_network(make_config())
    texts, frames = draw(network.config, (0, 2, 5))
    logits, _ = run(network, texts, frames, 2, 2)
    logits.square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert network.transformer.word_embeddings.weight.grad[network.config.pad_id].abs().max() == 0


@pytest.mark.parametrize(("stage", "window"), [(1, None), (1, 2), (2, 2)])
def test_gradients_reach_what_is_trained_alone(stage, window, make_config, make_network, draw):
    network = make_network(make_config())
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(not name.startswith("transformer."))
    texts, frames = draw(network.config, LENGTHS)
    logits, _ = run(network, texts, frames, stage, window)
    logits.square().mean().backward()
    for name, parameter in network.named_parameters():
        assert (parameter.grad is None) == name.startswith("transformer."), name
        assert parameter.grad is None or parameter.grad.abs().max() > 0, name
    used = 4 * network.config.frame_len
    extra = network.mixins.extra_position_embedding.position_embeddings.weight.grad
    assert (extra[:used].abs().amax(1) > 0).all()
    assert extra[used:].abs().max() == 0


def test_recomputing_changes_nothing(make_config, make_network, draw):
    network = make_network(make_config())
    texts, frames = draw(network.config, LENGTHS)
    gradients = []
    for recompute in (False, True):
        network.zero_grad(set_to_none=True)
        logits, _ = run(network, texts, frames, 2, 2, recompute=recompute)
        logits.square().mean().backward()
        gradients.append([parameter.grad.clone() for parameter in network.parameters()])
    assert all(torch.equal(kept, again) for kept, again in zip(*gradients, strict=True))


def test_recomputing_draws_the_same_dropout(make_config, make_network, draw):
    config = make_config()
    network = Network(config, dropout=0.1).train()
    network.load_state_dict(make_network(config).state_dict())
    texts, frames = draw(config, LENGTHS)
    found = []
    for recompute in (False, True):
        network.zero_grad(set_to_none=True)
        torch.manual_seed(0)
        logits, _ = run(network, texts, frames, 1, None, recompute=recompute)
        logits.square().mean().backward()
        found.append([logits.detach()] + [parameter.grad.clone() for parameter in network.parameters()])
    assert all(torch.allclose(kept, again, atol=1e-6) for kept, again in zip(*found, strict=True))


def test_dropout_acts_in_training_alone(make_config, make_network, draw):
    config = make_config()
    plain = make_network(config)
    network = Network(config, dropout=0.1)
    network.load_state_dict(plain.state_dict())
    texts, frames = draw(config, LENGTHS)
    expected, _ = run(plain, texts, frames, 1, None)
    assert torch.equal(run(network.eval(), texts, frames, 1, None)[0], expected)
    network.train()
    first, second = run(network, texts, frames, 1, None)[0], run(network, texts, frames, 1, None)[0]
    assert not torch.allclose(first, second)
    assert torch.equal(run(plain.train(), texts, frames, 1, None)[0], expected)


@pytest.mark.parametrize("is_training", [True, False])
def test_dropout_is_in_every_place(is_training, make_config, draw, monkeypatch):
    """Embeddings once; in every layer the feed-forward output, and probabilities of text, frames and second channel."""
    network = Network(make_config(), dropout=0.1).train(is_training)
    places = {"dropout": [], "scaled_dot_product_attention": []}
    functional = torch.nn.functional
    plain, attend = functional.dropout, functional.scaled_dot_product_attention

    def dropout(x, p=0.5, training=True, **options):
        places["dropout"].append(p if training else 0.0)
        return plain(x, p, training, **options)

    def attention(*args, dropout_p=0.0, **options):
        places["scaled_dot_product_attention"].append(dropout_p)
        return attend(*args, dropout_p=dropout_p, **options)

    monkeypatch.setattr(functional, "dropout", dropout)
    monkeypatch.setattr(functional, "scaled_dot_product_attention", attention)
    texts, frames = draw(network.config, LENGTHS)
    run(network, texts, frames, 2, 2)
    layers = network.config.num_layers
    expected = {"dropout": [0.1] * (1 + layers), "scaled_dot_product_attention": [0.1] * 3 * layers}
    active = {name: [p for p in seen if p > 0] for name, seen in places.items()}
    assert active == (expected if is_training else {"dropout": [], "scaled_dot_product_attention": []})


def test_the_first_frame_does_not_touch_the_second_channel(make_config, make_network, draw):
    """Without the temporal channel none of its parameters is read: they may be anything."""
    network = make_network(make_config())
    texts, frames = draw(network.config, LENGTHS, 1)
    expected, _ = run(network, texts, frames, 1, None, has_plus=False)
    with torch.no_grad():
        for parameter in network.mixins.attention_plus.parameters():
            parameter.fill_(torch.nan)
    again, _ = run(network, texts, frames, 1, None, has_plus=False)
    assert torch.equal(again, expected)


def test_the_last_token_of_a_frame_is_never_read(make_config, make_network, draw):
    network = make_network(make_config())
    texts, frames = draw(network.config, LENGTHS)
    expected, _ = run(network, texts, frames, 1, None)
    others = frames.clone()
    others[..., -1] = (others[..., -1] + 1) % network.config.num_image_tokens
    assert torch.equal(run(network, texts, others, 1, None)[0], expected)


def test_inputs_leave_the_frames_alone():
    frames = torch.arange(12).view(2, 2, 3)
    before = frames.clone()
    assert frame_inputs(frames, 99).tolist() == [[[99, 0, 1], [99, 3, 4]], [[99, 6, 7], [99, 9, 10]]]
    assert torch.equal(frames, before)


def test_padded_text():
    text = Text.padded([[7, 8, 9], [], [5]], 3, CPU, length=4)
    assert text.ids.tolist() == [[3, 7, 8, 9], [3, 3, 3, 3], [3, 3, 3, 5]]
    assert text.is_real.tolist() == [[False, True, True, True], [False] * 4, [False, False, False, True]]
    assert text.positions.tolist() == [[0, 0, 1, 2], [0] * 4, [0] * 4]
    assert Text.padded([[7, 8, 9]], 3, CPU, length=2).ids.tolist() == [[7, 8, 9]]
    empty = Text.padded([[], []], 3, CPU)
    assert empty.ids.shape == (2, 0)
    assert empty.ids.dtype == torch.long
    assert empty.is_real.dtype == torch.bool
