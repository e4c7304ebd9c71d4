"""Tensors that two folders of a pipeline share: the same network in half the bytes, or one line that says why not."""

from __future__ import annotations

import shutil

import pytest
import torch

from cogvideo.checkpoint.loading import load_network, save_network
from cogvideo.checkpoint.sharing import share
from cogvideo.errors import UserError
from cogvideo.network import Network, initialise_


@pytest.fixture
def pipeline(tmp_path, make_config):
    """Two stages with the same frozen part; the networks themselves."""
    config = make_config()
    first, second = initialise_(Network(config), 1), initialise_(Network(config), 2)
    second.transformer.load_state_dict(first.transformer.state_dict())
    save_network(first, tmp_path / "stage1", "stage1", source="test")
    save_network(second, tmp_path / "stage2", "stage2", source="test")
    return tmp_path, second, config


def size_of(folder):
    return sum(path.stat().st_size for path in folder.iterdir())


def load(folder, config):
    return load_network(folder, "stage2", device="cpu", expect=config)


def test_a_shared_folder_is_smaller_and_the_same(pipeline):
    root, network, config = pipeline
    before = size_of(root / "stage2")
    card = share(root / "stage2", root / "stage1")
    assert card.shares == "stage1"
    assert size_of(root / "stage2") < 0.8 * before
    found = load(root / "stage2", config).state_dict()
    assert found.keys() == network.state_dict().keys()
    assert all(torch.equal(tensor, found[name]) for name, tensor in network.state_dict().items())


def test_what_was_trained_is_not_shared(pipeline):
    root, network, _ = pipeline
    with torch.no_grad():
        network.transformer.final_layernorm.weight[0] += 1
    save_network(network, root / "stage2", "stage2", source="test", overwrite=True)
    with pytest.raises(UserError, match=r"transformer.final_layernorm.weight differs, so it was not frozen"):
        share(root / "stage2", root / "stage1")


def test_without_the_other_folder_or_with_another_one(pipeline):
    root, _, config = pipeline
    share(root / "stage2", root / "stage1")
    shutil.move(root / "stage1", root / "kept")
    with pytest.raises(UserError, match="stage1 is missing, whose tensors are shared"):
        load(root / "stage2", config)
    save_network(initialise_(Network(config), 5), root / "stage1", "stage1", source="test")
    with pytest.raises(UserError, match="holds other weights than those that are shared with it"):
        load(root / "stage2", config)


def test_a_card_does_not_lead_out_of_the_folder(pipeline):
    root, _, config = pipeline
    share(root / "stage2", root / "stage1")
    card = root / "stage2" / "card.json"
    card.write_text(card.read_text().replace('"shares": "stage1"', '"shares": "../../stage1"'))
    with pytest.raises(UserError, match="no card that can be used here: shares"):
        load(root / "stage2", config)
