"""Super-resolution against the released code: hidden states, logits, and every id of greedy decoding."""

from __future__ import annotations

import pytest
import torch

from cogvideo.clusters import cluster_table
from cogvideo.network import Network
from cogvideo.sampling import SamplerSettings
from cogvideo.superres.direct import DirectSuperResolution, Schedule
from cogvideo.superres.iterative import PATTERN, IterativeSuperResolution

SETS = ("tiny", "release_constants")
LOGIT_TOLERANCE = 2e-4
# Near-ties: an id may differ in one cell of a thousand at the release's vocabulary, in none at a small one.
IDS_TOLERANCE = 1e-3
LARGE_VOCABULARY = 10_000


@pytest.fixture(scope="module")
def loaded(cogvideo_dir, tensors, fixture_config):
    """A network of a set: `transformer.*` of stage 1 and the mixins of its kind."""

    def load(folder, kind, mixins):
        weights = tensors(folder / "stage1.weights.safetensors")
        state = {name: tensor for name, tensor in weights.items() if name.startswith("transformer.")}
        network = Network(fixture_config(folder), kind).eval()
        network.load_state_dict(state | tensors(folder / mixins))
        return network.requires_grad_(False)

    return load


@pytest.fixture(scope="module", params=SETS)
def folder(request, cogvideo_dir):
    path = cogvideo_dir / request.param
    if not path.is_dir():
        pytest.skip(f"this reference set has no {request.param}/")
    return path


@pytest.fixture(scope="module")
def direct_case(folder, settings, tensors):
    return settings(folder / "dsr.io.json"), tensors(folder / "dsr.io.safetensors")


@pytest.fixture(scope="module")
def direct(folder, direct_case, loaded):
    return DirectSuperResolution(
        loaded(folder, "superres", "dsr.mixins.safetensors"), cross_patch=direct_case[0]["kernel_size2"]
    )


@pytest.fixture(scope="module")
def table(folder, tensors):
    return cluster_table(next(iter(tensors(folder / "cluster_labels.safetensors").values())))


@pytest.fixture(scope="module")
def iterative_case(folder, settings, tensors):
    return settings(folder / "itersr.io.json"), tensors(folder / "itersr.io.safetensors")


@pytest.fixture(scope="module")
def iterative(folder, iterative_case, loaded):
    return IterativeSuperResolution(loaded(folder, "iterative", "itersr.mixins.safetensors"))


def sampler(case):
    return SamplerSettings(1.0, case["topk_clusters"], case["within_cluster_temperature"])


def assert_ids(network, found, expected):
    allowed = IDS_TOLERANCE if network.config.num_image_tokens > LARGE_VOCABULARY else 0.0
    assert found.shape == expected.shape
    assert (found != expected).double().mean() <= allowed


def real_slots(text, slots, length):
    """Which positions of a sequence mean something: all but padded text, (N, S)."""
    lengths = torch.tensor([len(row) for row in text])
    return torch.arange(length)[None] >= (slots - lengths)[:, None]


def assert_close_where(found, expected, is_real):
    assert found.shape == expected.shape
    assert is_real.any()
    assert (found - expected)[is_real].abs().max() < LOGIT_TOLERANCE


def test_direct_layout(direct, direct_case):
    """Input ids, positions and the mask of the low resolution."""
    case, io = direct_case
    slots, end, total = case["layout"]
    config = direct.network.config
    assert (config.superres_text_len, config.frame_len, config.superres_grid**2) == (slots, end - slots, total - end)
    text = direct.text(io["text_tokens"].tolist(), slots)
    empty = torch.full((len(io["image_tokens"]), total - end), config.boi_id)
    assert torch.equal(torch.cat([text.ids, io["image_tokens"], direct.inputs(empty)], dim=1), io["input_tokens"])
    for row in direct.positions(text):
        assert torch.equal(row, io["position_ids"])
    real = text.is_real[0].tolist() + [True] * (end - slots)
    for visible in direct.visible(text):
        assert torch.equal(visible[real], io["attention_mask"].bool()[real])


def test_direct_hidden_states_and_logits(direct, direct_case):
    case, io = direct_case
    slots, end, total = case["layout"]
    empty = torch.full((len(io["image_tokens"]), total - end), direct.network.config.boi_id)
    hidden = direct.forward(io["text_tokens"].tolist(), io["image_tokens"], empty)
    is_real = real_slots(io["text_tokens"], slots, total)
    assert_close_where(hidden, io["final_hidden"], is_real)
    chosen = io["logits_positions"]
    assert_close_where(direct.network.image_logits(hidden[:, chosen]), io["logits"], is_real[:, chosen])


def test_direct_ids(direct, direct_case, table):
    case, io = direct_case
    found = direct.upscale(
        io["text_tokens"].tolist(), io["image_tokens"], table, settings=sampler(case), is_greedy=True
    )
    assert_ids(direct.network, found, io["sr_tokens_greedy"])


def test_direct_schedule(folder, direct, direct_case, table, settings, tensors):
    """Every step of a schedule with a warm-up and a block, from the empty grid on."""
    case, io = settings(folder / "dsr_schedule.io.json"), tensors(folder / "dsr_schedule.io.safetensors")
    schedule = Schedule(case["warmup_steps"], tuple(case["block_hw"]))
    assert len(schedule.steps(direct.network.config.superres_grid)) == case["num_steps"]
    found = direct.upscale(
        io["text_tokens"].tolist(),
        io["image_tokens"],
        table,
        settings=sampler(direct_case[0]),
        schedule=schedule,
        is_greedy=True,
        every_step=True,
    )
    assert_ids(direct.network, found, io["steps"])


@pytest.mark.parametrize("name", ["pipeline_greedy", "pipeline_greedy_regionmask"])
def test_direct_ids_of_a_whole_generation(name, folder, direct, direct_case, table, tensors):
    """All frames of a generation in one call, with one text for each."""
    io = tensors(folder / f"{name}.io.safetensors")
    found = direct.upscale(
        io["dsr.text_tokens"].tolist(), io["dsr.image_tokens"], table, settings=sampler(direct_case[0]), is_greedy=True
    )
    assert_ids(direct.network, found, io["dsr.tokens_out"])


def test_iterative_pattern(iterative_case):
    case, io = iterative_case
    assert torch.equal(torch.tensor(PATTERN), io["mask_pattern"])
    assert max(map(max, PATTERN)) == case["iterations"]


def test_iterative_hidden_states_and_logits(iterative, iterative_case):
    case, io = iterative_case
    slots, total = case["layout"]
    text = iterative.text(io["text_tokens"].tolist(), slots)
    assert torch.equal(text.is_real[0], io["attention_mask"][0].bool())
    inputs = torch.cat([text.ids, iterative.inputs(io["image_tokens"], 1)], dim=1)
    assert torch.equal(inputs, io["input_tokens_per_iter"][0])
    for row, real in zip(iterative.positions(text), text.is_real, strict=True):
        is_compared = torch.cat([real, torch.ones(total - slots, dtype=torch.bool)])
        assert torch.equal(row[is_compared], io["position_ids"][is_compared])
    hidden = iterative.forward(io["text_tokens"].tolist(), inputs[:, slots:])
    is_real = real_slots(io["text_tokens"][:, :slots], slots, total)
    assert_close_where(hidden, io["final_hidden_iter1"], is_real)
    chosen = io["logits_positions"]
    assert_close_where(iterative.network.image_logits(hidden[:, chosen]), io["logits_iter1"], is_real[:, chosen])


def test_iterative_ids_of_every_pass(iterative, iterative_case):
    """The masked inputs of each pass, the result of the last, and the caller's tokens left as they were."""
    case, io = iterative_case
    slots = case["layout"][0]
    before = io["image_tokens"].clone()
    states = iterative.refine(
        io["text_tokens"].tolist(), io["image_tokens"], top_k=case["topk_per_iter"], is_greedy=True, every_step=True
    )
    assert torch.equal(io["image_tokens"], before)
    assert len(states) == case["iterations"] + 1
    for number, expected in enumerate(io["input_tokens_per_iter"], start=1):
        assert_ids(iterative.network, iterative.inputs(states[number - 1], number), expected[:, slots:])
    assert_ids(iterative.network, states[-1], io["output_greedy"])
