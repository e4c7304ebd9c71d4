"""Parameters: how many, how they start, and how both channels come to share one product."""

from __future__ import annotations

import copy

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cogvideo.config import get_size
from cogvideo.decoding import Decoder, Plan
from cogvideo.forward import BETWEEN_ORDER, Text
from cogvideo.network import Network, initialise_
from cogvideo.schedule import Slot

CPU = torch.device("cpu")

# kind: (tensors, parameters, of these under `transformer.`), counted on the released classes
RELEASED = {
    "image": (772, 5_902_307_328, 5_902_307_328),
    "video": (1013, 7_721_127_936, 5_902_307_328),
    "superres": (965, 7_725_895_680, 5_902_307_328),
    "iterative": (773, 5_913_366_528, 5_902_307_328),
}


def on_paper(config, kind):
    """A network without memory."""
    with torch.device("meta"):
        return Network(config, kind)


@pytest.mark.parametrize("kind", RELEASED)
def test_release_counts(kind):
    state = on_paper(get_size("release"), kind).state_dict()
    base = sum(tensor.numel() for name, tensor in state.items() if name.startswith("transformer."))
    assert (len(state), sum(tensor.numel() for tensor in state.values()), base) == RELEASED[kind]


def test_nine_billion():
    """What "9B" means: CogView2's part once, and what each stage adds; one stage is 7.7 billion."""
    base, stage = RELEASED["image"][1], RELEASED["video"][1]
    assert base + 2 * (stage - base) == 9_539_948_544


@pytest.mark.parametrize("changes", [{}, {"hidden_size": 48, "num_layers": 5, "vocab_size": 60}])
def test_counts_by_formula(changes, make_config):
    """12 h^2 + 17 h a layer, 4 h^2 + 5 h for its second channel, and the tables."""
    config = make_config(**changes)
    h, L = config.hidden_size, config.num_layers
    base = L * (12 * h**2 + 17 * h) + 2 * h + (config.vocab_size + config.max_sequence_length) * h
    plus = L * (4 * h**2 + 5 * h) + config.extra_positions * h
    counted = {kind: sum(p.numel() for p in on_paper(config, kind).parameters()) for kind in RELEASED}
    assert counted["image"] == base
    assert counted["video"] == base + plus
    assert counted["superres"] == base + L * (4 * h**2 + 4 * h) + config.superres_grid**2 * h
    assert counted["iterative"] == base + config.superres_grid**2 * h


@pytest.mark.parametrize("kind", RELEASED)
def test_initialisation(kind, make_config):
    """Spread by kind of parameter; a seed gives the same parameters again, another seed others."""
    config = make_config(hidden_size=64, num_layers=2)
    network = initialise_(Network(config, kind), 7)
    for name, parameter in network.named_parameters():
        if name.endswith("layernorm.weight"):
            assert (parameter == 1).all(), name
        elif parameter.dim() == 1:
            assert (parameter == 0).all(), name
        else:
            is_narrow = name.startswith("transformer") and ("attention.dense" in name or "4h_to_h" in name)
            wanted = 0.02 / (2 * config.num_layers) ** 0.5 if is_narrow else 0.02
            # A standard deviation from n draws is off by 1 / sqrt(2 n) of itself; four times that, and of the mean.
            n = parameter.numel()
            assert float(parameter.detach().std()) == pytest.approx(wanted, rel=4 / (2 * n) ** 0.5), name
            assert abs(float(parameter.detach().mean())) < 4 * wanted / n**0.5, name
    state = network.state_dict()
    again = initialise_(Network(config, kind), 7).state_dict()
    other = initialise_(Network(config, kind), 8).state_dict()
    assert all(torch.equal(state[name], again[name]) for name in state)
    drawn = [name for name, tensor in state.items() if tensor.dim() == 2]
    assert not any(torch.equal(state[name], other[name]) for name in drawn)


def storages(network):
    """Bytes of all storages that parameters and joint tensors hold."""
    tensors = list(network.parameters()) + [tensor for pair in network.fused for tensor in pair]
    held = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(held.values())


def fused_products(network, u):
    """Queries, keys and values of both channels of every layer, from the joint product and from the parameters."""
    for layer, plus, (weight, bias) in zip(network.layers, network.plus.query_key_value, network.fused, strict=True):
        both = torch.nn.functional.linear(u, weight, bias)
        yield both, torch.cat([layer.attention.query_key_value(u), plus(u)], dim=-1)


def is_current(network):
    """The joint tensors are the parameters: same memory, same values."""
    u = torch.randn(3, network.config.hidden_size, dtype=network.dtype)
    assert len(network.fused) == network.config.num_layers
    for layer, plus, joint in zip(network.layers, network.plus.query_key_value, network.fused, strict=True):
        for name, both in zip(("weight", "bias"), joint, strict=True):
            base, temporal = getattr(layer.attention.query_key_value, name), getattr(plus, name)
            assert torch.equal(both, torch.cat([base, temporal]))
            assert both.dtype == network.dtype
            assert base.data_ptr() == both.data_ptr()
            assert temporal.untyped_storage().data_ptr() == both.untyped_storage().data_ptr()
    return all(torch.allclose(a, b, atol=1e-5) for a, b in fused_products(network, u))


def test_fusing_changes_no_value_and_no_name(make_config, make_network):
    network = make_network(make_config())
    plain = copy.deepcopy(network)
    parameters = dict(network.named_parameters())
    before = storages(network)
    network.fuse_()
    assert is_current(network)
    assert storages(network) == before
    assert list(network.state_dict()) == list(plain.state_dict())
    assert all(network.get_parameter(name) is parameter for name, parameter in parameters.items())
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), plain.parameters(), strict=True))
    joint = [tensor.data_ptr() for pair in network.fused for tensor in pair]
    network.fuse_()
    assert [tensor.data_ptr() for pair in network.fused for tensor in pair] == joint


def test_fused_parameters_train_on(make_config, make_network):
    """An optimiser's step on fused parameters is a step of the joint tensors."""
    network = make_network(make_config())
    network.fuse_()
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = [pair[0].clone() for pair in network.fused]
    optimiser.step()
    assert is_current(network)
    assert all((old - new[0] - 0.1).abs().max() < 1e-6 for old, new in zip(before, network.fused, strict=True))


def converted(network, other):
    network.to(torch.bfloat16)


def doubled(network, other):
    network.double()


def loaded(network, other):
    network.load_state_dict(other.state_dict())


def assigned(network, other):
    network.load_state_dict(other.state_dict(), assign=True)


def half_assigned(network, other):
    state = {name: tensor for name, tensor in other.state_dict().items() if name.startswith("mixins.")}
    network.load_state_dict(state, strict=False, assign=True)


def biases_assigned(network, other):
    state = {name: tensor for name, tensor in other.state_dict().items() if name.endswith("bias")}
    network.load_state_dict(state, strict=False, assign=True)


@pytest.mark.parametrize(
    "change", [converted, doubled, loaded, assigned, half_assigned, biases_assigned], ids=lambda f: f.__name__
)
def test_fusing_is_never_stale(change, make_config, make_network):
    """Whatever happens to the parameters, the next `fuse_` serves them and not what they were."""
    network, other = make_network(make_config()), make_network(make_config(), seed=1)
    network.fuse_()
    change(network, other)
    names = list(network.state_dict())
    values = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.fuse_()
    assert is_current(network)
    assert list(network.state_dict()) == names
    assert all(torch.equal(tensor, values[name]) for name, tensor in network.state_dict().items())
    assert storages(network) == sum(parameter.nbytes for parameter in network.parameters())


@pytest.mark.parametrize("change", [converted, doubled])
def test_a_move_gives_the_joint_memory_back(change, make_config, make_network):
    network = make_network(make_config())
    network.fuse_()
    change(network, None)
    assert storages(network) == sum(parameter.nbytes for parameter in network.parameters())


def test_a_fused_network_can_be_saved_and_copied(make_config, make_network, tmp_path):
    network = make_network(make_config())
    network.fuse_()
    save_file(network.state_dict(), tmp_path / "fused.safetensors")
    stored = load_file(tmp_path / "fused.safetensors")
    assert all(torch.equal(stored[name], tensor) for name, tensor in network.state_dict().items())
    twin = copy.deepcopy(network)
    twin.fuse_()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    assert is_current(twin)
    assert all(torch.equal(stored[name], tensor) for name, tensor in twin.state_dict().items())


class LargeResults(TorchDispatchMode):
    """Collects the sizes of new memory that operations make."""

    def __init__(self):
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        known = {leaf.untyped_storage().data_ptr() for leaf in tree_leaves((args, kwargs)) if torch.is_tensor(leaf)}
        for leaf in tree_leaves(out):
            if torch.is_tensor(leaf) and leaf.untyped_storage().data_ptr() not in known:
                self.largest = max(self.largest, leaf.numel())
        return out


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_head_is_not_copied(dtype, make_config, make_network):
    """Logits in float32, without a float32 copy of the head, and of no more rows than there are image tokens."""
    config = make_config(num_image_tokens=600, vocab_size=1000)
    network = make_network(config, dtype=dtype)
    hidden = torch.randn(2, 1, config.hidden_size).to(dtype)
    with torch.no_grad(), LargeResults() as seen:
        logits = network.image_logits(hidden)
    assert logits.dtype == torch.float32
    assert logits.shape == (2, 1, 600)
    assert seen.largest == logits.numel()
    with torch.no_grad():
        everything = network.all_logits(hidden)
    assert everything.shape == (2, 1, 1000)
    assert torch.allclose(everything[..., :600], logits, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_step_copies_no_weights_and_no_caches(dtype, make_config, make_network):
    """Nothing that one step makes is as large as a matrix of the network or the keys of a frame."""
    config = make_config(num_image_tokens=300, vocab_size=400, hidden_size=64, grid=8, window=4, extra_positions=256,
                         max_sequence_length=80)  # fmt: skip
    network = make_network(config, dtype=dtype)
    plan = Plan(BETWEEN_ORDER, given=3, window=4)
    decoder = Decoder(network, Text.padded([[310, 311]], config.pad_id, CPU), plan)
    decoder.prefill(torch.zeros(1, 3, config.frame_len, dtype=torch.long))
    for cell in range(3):
        with LargeResults() as seen:
            decoder.step(torch.zeros(1, 1, dtype=torch.long), (Slot(3, 1, cell),))
    assert 0 < seen.largest <= 6 * config.hidden_size  # queries, keys and values of both channels
