"""Super-resolution started from a text-to-image network, row by row."""

from dataclasses import replace

import pytest
import torch

from cogvideo.config import get_size
from cogvideo.errors import UserError
from cogvideo.network import Network, initialise_
from cogvideo.superres.inherit import inherit_superres_

CONFIG = replace(get_size("tiny"), num_layers=2, hidden_size=12, num_attention_heads=2, name="")


@pytest.fixture(scope="module")
def source():
    made = initialise_(Network(CONFIG, "image"), 3)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator))
    return made


@pytest.mark.parametrize("kind", ["superres", "iterative"])
def test_every_parameter_comes_from_the_source(source, kind):
    network = inherit_superres_(initialise_(Network(CONFIG, kind), 4), source)
    theirs, ours = source.state_dict(), network.state_dict()
    for name, tensor in ours.items():
        if name.startswith("transformer."):
            assert torch.equal(tensor, theirs[name])
        elif name.startswith("mixins.attention_plus."):
            _, _, part, layer, end = name.split(".")
            assert torch.equal(tensor, theirs[f"transformer.layers.{layer}.attention.{part}.{end}"])
        else:
            assert name == "mixins.extra_position_embedding.position_embeddings.weight"


def test_positions_are_tiled(source):
    """Row a * r + b and column c * r + d of the large grid has the old cell (b, d)."""
    network = inherit_superres_(Network(CONFIG, "superres"), source)
    rows = network.mixins.extra_position_embedding.position_embeddings.weight
    old = source.transformer.position_embeddings.weight
    r, scale = CONFIG.grid, CONFIG.superres_scale
    assert len(rows) == (r * scale) ** 2
    for index, row in enumerate(rows):
        b, d = index // (r * scale) % r, index % (r * scale) % r
        assert torch.equal(row, old[CONFIG.image_position_offset + b * r + d])


def test_nothing_is_shared_with_the_source(source):
    network = inherit_superres_(Network(CONFIG, "superres"), source)
    before = source.transformer.position_embeddings.weight.clone()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    assert torch.equal(source.transformer.position_embeddings.weight, before)


def test_other_kinds_and_sizes_are_refused(source):
    with pytest.raises(UserError, match="'superres' or 'iterative' to start, got 'video'"):
        inherit_superres_(Network(CONFIG, "video"), source)
    wider = Network(replace(CONFIG, hidden_size=24), "superres")
    with pytest.raises(UserError, match=r"word_embeddings.weight is \[1080, 12\] there and \[1080, 24\] here"):
        inherit_superres_(wider, source)
    deeper = Network(replace(CONFIG, num_layers=3), "superres")
    with pytest.raises(UserError, match=r"layers.2.* is missing there and \[12\] here"):
        inherit_superres_(deeper, source)
    shallower = Network(replace(CONFIG, num_layers=1), "superres")
    with pytest.raises(UserError, match=r"layers.1.* is \[12\] there and missing here"):
        inherit_superres_(shallower, source)
