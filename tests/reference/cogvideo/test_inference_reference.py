"""Prefill, one-token steps, guidance and caches against the released code, fed its tokens and running free.

The batch of a case is decoded twice at once: its first rows are fed the released tokens, its second rows their own.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from cogvideo.decoding import Decoder, Plan, decode
from cogvideo.forward import BETWEEN_ORDER, RELEASE, Text
from cogvideo.network import Network
from cogvideo.schedule import sequential, wavefront
from cogvideo.windows import layer_windows

# The tolerances that the set states for float32, and the gap below which two ids are a tie.
LOGITS = 2e-4
GUIDED = 1e-3
TIE = 1e-3

CASES = [
    "infer_first_frame",
    "infer_stage1_plain",
    "infer_stage1_cfg",
    "infer_stage2_plain",
    "infer_stage2_regionmask",
    "infer_stage2_cfg",
]


@pytest.fixture(scope="module", params=["tiny", "release_constants"])
def folder(request, cogvideo_dir):
    path = cogvideo_dir / request.param
    if not path.is_dir():
        pytest.skip(f"this reference set has no {path.name}")
    return path


@pytest.fixture(scope="module", params=CASES)
def case(request, folder, tensors, settings, fixture_config):
    """Everything about one file, in the words of our interface."""
    expected = tensors(folder / f"{request.param}.io.safetensors")
    facts = settings(folder / f"{request.param}.io.json")
    config = fixture_config(folder)
    weights = tensors(folder / "stage1.weights.safetensors")
    if facts["stage"] == 2:
        base = {name: tensor for name, tensor in weights.items() if name.startswith("transformer.")}
        weights = base | tensors(folder / "stage2.mixins.safetensors")
    network = Network(config).eval()
    network.load_state_dict(weights)

    T, scale = facts["text_len"], facts["guidance_alpha"]
    B = len(expected["seq_in"])
    frames = {name: expected[name][:, T + 1 :].view(B, -1, config.frame_len) for name in ("seq_in", "tokens_out")}
    N = frames["seq_in"].shape[1]
    order, given = (BETWEEN_ORDER, 3) if facts["stage"] == 2 else (tuple(range(N)), 0)
    first = int((frames["seq_in"][-1] >= 0).all(-1).sum())
    texts = expected["seq_in"][:, :T].tolist() * 2
    if scale is not None:
        texts += expected["guider_seq_in"][:, : facts["guider_text_len"]].tolist() * 2
    plan = Plan(
        order,
        given=given,
        window=config.window if facts["stage"] == 2 else None,
        text_bonus=facts["log_text_attention_weights"],
        guidance_scale=scale,
        has_plus=not facts["enforce_no_swin"],
        quirks=replace(RELEASE, seam_in_prefill=facts["case"].endswith("regionmask")),
    )
    text = Text.padded(texts, config.pad_id, torch.device("cpu"))
    return SimpleNamespace(
        facts=facts,
        expected=expected,
        config=config,
        network=network,
        plan=plan,
        text=text,
        batch=B,
        first=first,
        text_len=T,
        given=frames["seq_in"],
        wanted=frames["tokens_out"],
        steps=sequential(order, first, config.frame_len),
    )


@pytest.fixture(scope="module")
def run(case):
    """What decoding did: guided logits (2B, steps, V), raw ones of every row, inputs, slots, cache sizes, ids."""
    seen = SimpleNamespace(guided=[], raw=[], inputs=[], slots=[], kept=[], hidden=None)

    class Watched(Decoder):
        def prefill(self, frames, rows_at_once=None, **_):
            seen.hidden = super().prefill(frames, rows_at_once)
            return seen.hidden

        def step(self, tokens, slots):
            if case.facts["cache_lengths"] is not None:
                seen.kept.append(written(self.cache))
            logits = super().step(tokens, slots)
            seen.inputs.append(tokens[:, 0])
            seen.raw.append(logits[:, 0])
            return logits

    def watch(slot, logits):
        seen.slots.append(slot)
        seen.guided.append(logits)

    frames = torch.cat([case.wanted, case.given])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cogvideo.decoding.Decoder", Watched)
        seen.ids = decode(
            case.network, case.text, frames, case.plan, case.steps, lambda logits, slot: logits.argmax(-1), watch=watch
        )
    for name in ("guided", "raw", "inputs"):
        setattr(seen, name, torch.stack(getattr(seen, name), dim=1))
    return seen


def written(cache):
    """Slots of the temporal channel of the first layers of both parities that hold something, in the first row."""
    if cache.plus[0] is None:
        return None
    return [int((keys[0] != 0).any(-1).all(0).sum()) for keys, _ in cache.plus[:2]]


def parts(case, tensor, guider=False):
    """The fed rows of a result, and the free ones."""
    start = 2 * case.batch if guider else 0
    return tensor[start : start + case.batch], tensor[start + case.batch : start + 2 * case.batch]


def follows(case, run):
    """(B, steps): whether a free row has had the released tokens up to a step."""
    _, free = parts(case, run.inputs)
    return (free == case.expected["ar_input"]).cumprod(1).bool()


def compare(case, logits, name, tolerance, mask=None):
    """`logits` (B, steps, V) with what is stored under `name`: all of it, or some steps and sums of every step."""
    kept = case.facts["kept_steps"]
    difference = (logits if kept is None else logits[:, kept]) - case.expected[name]
    if mask is not None:
        difference = difference[mask if kept is None else mask[:, kept]]
    assert difference.numel() == 0 or difference.abs().max() < tolerance, name
    if kept is None:
        return
    mask = torch.ones(logits.shape[:2], dtype=torch.bool) if mask is None else mask
    pairs = [
        (logits.logsumexp(-1), case.expected[f"{name}_lse"]),
        (logits.gather(-1, case.expected[f"{name}_top5_ids"]), case.expected[f"{name}_top5_values"]),
        (logits.topk(5).values, case.expected[f"{name}_top5_values"]),
    ]
    for ours, theirs in pairs:
        assert (ours - theirs)[mask].abs().max() < tolerance, name


def test_the_case_says_something(case):
    """All rows have the same frames given, something is wanted, and every step of it is stored."""
    known = (case.given >= 0).flatten(1)
    assert (known == known[-1]).all()
    assert len(case.steps) == len(case.expected["sample_index"]) == case.expected["ar_input"].shape[1] > 0


def test_prefill_inputs_and_positions(case):
    """What a sequence feeds before its first step, by the rules that decoding uses."""
    config, expected = case.config, case.expected
    for guider in (False, True):
        prefix, T = ("guider_", case.facts["guider_text_len"]) if guider else ("", case.text_len)
        if guider and case.plan.guidance_scale is None:
            continue
        inputs = case.given[:, : case.first].roll(1, -1)
        inputs[..., 0] = config.boi_id
        text = parts(case, case.text.ids, guider)[0][:, case.text.ids.shape[1] - T :]
        assert torch.equal(torch.cat([text, inputs.flatten(1)], 1), expected[f"{prefix}prefill_input"])
        positions = parts(case, case.text.positions, guider)[0][:1, case.text.ids.shape[1] - T :]
        places = [
            config.image_position_offset + case.plan.order[fed] * config.frame_len + cell
            for fed in range(case.first)
            for cell in range(config.frame_len)
        ]
        ours = torch.cat([positions, torch.tensor([places], dtype=torch.long)], 1)
        assert torch.equal(ours, expected[f"{prefix}prefill_position_ids"][:1])


def test_prefill_logits(case, run):
    for guider in (False, True):
        prefix, T = ("guider_", case.facts["guider_text_len"]) if guider else ("", case.text_len)
        if guider and case.plan.guidance_scale is None:
            continue
        length = T + case.first * case.config.frame_len
        for hidden in parts(case, run.hidden, guider):
            logits = case.network.image_logits(hidden[:, -length:])
            if case.facts["kept_steps"] is not None:
                logits = logits[:, [0, T - 1, length - 1]]
            assert (logits - case.expected[f"{prefix}prefill_logits"]).abs().max() < LOGITS


def test_step_inputs_positions_and_indices(case, run):
    config, expected = case.config, case.expected
    places = [config.image_position_offset + slot.frame * config.frame_len + slot.cell for slot in run.slots]
    assert places == expected["ar_position_ids"][0].tolist()
    targets = [case.text_len + 1 + slot.fed * config.frame_len + slot.cell for slot in run.slots]
    assert targets == expected["sample_index"].tolist()
    assert torch.equal(parts(case, run.inputs)[0], expected["ar_input"])
    if case.plan.guidance_scale is not None:
        assert places == expected["guider_ar_position_ids"][0].tolist()
        assert torch.equal(parts(case, run.inputs, guider=True)[0], expected["guider_ar_input"])
    assert len(run.slots) == len(case.steps)


def test_step_logits_fed(case, run):
    """Every one-token logit while the released tokens are fed."""
    if case.plan.guidance_scale is None:
        compare(case, parts(case, run.guided)[0], "guided_logits", LOGITS)
        return
    compare(case, parts(case, run.raw)[0], "ar_logits", LOGITS)
    compare(case, parts(case, run.raw, guider=True)[0], "guider_ar_logits", LOGITS)
    compare(case, parts(case, run.guided)[0], "guided_logits", GUIDED)


def test_step_logits_free(case, run):
    """Every one-token logit while the network runs on its own tokens, as long as these are the released ones."""
    tolerance = LOGITS if case.plan.guidance_scale is None else GUIDED
    same = follows(case, run)
    assert same[:, 0].all()
    compare(case, parts(case, run.guided)[1], "guided_logits", tolerance, mask=same)


def test_tokens(case, run):
    """Running free gives the released tokens; a row may leave them at a tie alone."""
    assert torch.equal(run.ids[: case.batch], case.wanted)
    fed, free = parts(case, run.guided)
    top = fed.topk(2).values
    gap = top[..., 0] - top[..., 1]
    theirs = torch.stack([case.wanted[:, slot.fed, slot.cell] for slot in run.slots], 1)
    same = follows(case, run)
    wrong = same & (free.argmax(-1) != theirs)
    assert (gap[wrong] < TIE).all()
    assert wrong.sum(1).max() <= 1  # none after the first: a row that left is not followed any more
    stored = case.facts["min_top1_top2_gap"]
    assert float(gap.min()) == pytest.approx(stored, abs=2 * GUIDED)
    if stored > TIE:
        assert torch.equal(run.ids[case.batch :], case.wanted)


def test_cache_lengths(case, run):
    """Our buffers hold what the released caches hold at every step, and are no longer than they have to be.

    The base channel: text and the current frame. The temporal channel: text (once for each group of cells) and every
    frame token so far.
    """
    config, T = case.config, case.text_len
    padded = case.text.ids.shape[1]
    stored = case.facts["cache_lengths"]
    steps = range(len(case.steps)) if stored is not None else [0, len(case.steps) - 1]
    stored = stored or case.facts["cache_lengths_first_last"]
    windows = tuple(layer_windows(config.grid, case.plan.window, p, case.plan.quirks.odd_windows) for p in (0, 1))
    decoder = Decoder(case.network, case.text, case.plan)
    spec = decoder.cache.spec
    assert spec.base_len == padded + config.frame_len
    assert [keys.shape[3] for keys, _ in decoder.cache.base] == [spec.base_len] * config.num_layers
    for number, step in enumerate(steps):
        slot = run.slots[step]
        base, plus = stored[number]
        assert base == T + slot.cell
        if not case.plan.has_plus:
            assert decoder.cache.plus == [None] * config.num_layers
            continue
        assert plus == T + slot.fed * config.frame_len + slot.cell
        if case.plan.window is None:
            assert decoder.cache.plus_range(0, slot.fed, slot.cell) == (0, plus + padded - T)
        if run.kept:
            assert run.kept[step] == [len(w.sizes) * padded + plus - T for w in windows[: config.num_layers]]
    if case.plan.has_plus:
        assert [spec.plus_len(p) for p in (0, 1)] == [
            len(w.sizes) * padded + len(case.plan.order) * config.frame_len for w in windows
        ]


def test_parallel_order(case, run):
    """Side by side, as early as the windows allow, the logits are those of one token after the other."""
    if case.plan.window is None:
        pytest.skip("only windows leave room for a parallel order")
    its = [layer_windows(case.config.grid, case.plan.window, p, case.plan.quirks.odd_windows) for p in (0, 1)]
    cells = range(case.config.frame_len)
    seen = [sorted({other for w in its for other in w.members(w.groups[cell])}) for cell in cells]
    steps = wavefront(case.plan.order, case.first, seen)
    assert len(steps) <= len(case.steps)
    found = {}
    text = case.text
    rows = [row for start in range(0, len(text.ids), 2 * case.batch) for row in range(start, start + case.batch)]
    decode(
        case.network, Text(text.ids[rows], text.is_real[rows]), case.wanted, case.plan, steps,
        lambda logits, slot: logits.argmax(-1), watch=lambda slot, logits: found.__setitem__(slot, logits),
    )  # fmt: skip
    ours = torch.stack([found[slot] for slot in run.slots], 1)
    tolerance = LOGITS if case.plan.guidance_scale is None else GUIDED
    assert (ours - parts(case, run.guided)[0]).abs().max() < tolerance
    compare(case, ours, "guided_logits", tolerance)
