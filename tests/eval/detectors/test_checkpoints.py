"""Checkpoints: every form that people have, and one line about every way in which one does not fit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from cogvideo.errors import MissingPrerequisite, UserError
from eval.detectors.state import fit_state, known_options, present, read_state


@pytest.fixture
def network():
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4))


def other_state(network):
    torch.manual_seed(1)
    return {
        name: torch.randn_like(value) if value.is_floating_point() else value + 7
        for name, value in network.state_dict().items()
    }


def same(network, state):
    return all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("form", ["pt", "wrapped.pt", "parallel.pt", "safetensors", "npz"])
def test_every_form_is_read(form, network, tmp_path):
    state, path = other_state(network), tmp_path / f"weights.{form}"
    if form == "safetensors":
        save_file(state, path)
    elif form == "npz":
        np.savez(path, **{name: value.numpy() for name, value in state.items()})
    elif form == "wrapped.pt":
        torch.save({"epoch": 3, "state_dict": state}, path)
    elif form == "parallel.pt":
        torch.save({f"module.{name}": value for name, value in state.items()}, path)
    else:
        torch.save(state, path)
    fit_state(network, read_state(path, "test"), "test", path)
    assert same(network, state)


def test_old_checkpoints_have_no_batch_counters(network):
    state = other_state(network)
    del state["1.num_batches_tracked"]
    fit_state(network, state, "test", None)
    assert same(network, {**state, "1.num_batches_tracked": torch.tensor(0)})


def test_all_that_does_not_fit_is_named_and_nothing_is_loaded(network, tmp_path):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = other_state(network)
    del state["0.bias"]
    state["stranger"] = torch.zeros(1)
    state["0.weight"] = torch.zeros(5, 3, 1, 1)
    with pytest.raises(UserError) as caught:
        fit_state(network, state, "i3d", tmp_path / "weights.pt")
    assert str(caught.value) == (
        f"detector i3d: the tensors in {tmp_path / 'weights.pt'} do not fit: 1 missing (0.bias); "
        "1 unexpected (stranger); 1 of another shape (0.weight is 5x3x1x1, expected 4x3x1x1)"
    )
    assert same(network, before)


def test_long_lists_are_cut(network):
    with pytest.raises(UserError, match=r"6 missing \(0\.weight, 0\.bias, 1\.weight, \.\.\.\)"):
        fit_state(network, {}, "i3d", None)


@pytest.mark.parametrize("content", [b"", b"no weights at all", b"PK\x03\x04 broken"])
@pytest.mark.parametrize("ending", ["pt", "safetensors", "npz"])
def test_broken_files(content, ending, tmp_path):
    path = tmp_path / f"broken.{ending}"
    path.write_bytes(content)
    with pytest.raises(UserError, match="cannot be read as a file of tensors") as caught:
        read_state(path, "i3d")
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


class Program:
    """Unpickling it would call print: a checkpoint that runs code."""

    def __reduce__(self):
        return print, ("this ran",)


def test_checkpoints_are_never_run(tmp_path, capsys):
    torch.save({"weight": Program()}, tmp_path / "evil.pt")
    with pytest.raises(UserError, match="cannot be read"):
        read_state(tmp_path / "evil.pt", "i3d")
    assert "this ran" not in capsys.readouterr().out


def test_a_table_that_is_no_state_dict(tmp_path):
    torch.save({"epoch": 3, "note": "hello"}, tmp_path / "other.pt")
    with pytest.raises(UserError, match=r"holds no state dict .* but a table with epoch, note"):
        read_state(tmp_path / "other.pt", "i3d")


def test_absent_files_are_a_prerequisite(tmp_path):
    with pytest.raises(MissingPrerequisite, match="needs a weight file"):
        present(None, "i3d")
    with pytest.raises(MissingPrerequisite, match="no weight file at") as caught:
        read_state(tmp_path / "absent.pt", "i3d")
    assert caught.value.exit_code == 3


def test_options():
    assert known_options("i3d", {"width": 2}, width=1, n_classes=400) == {"width": 2, "n_classes": 400}
    with pytest.raises(UserError, match=r"detector i3d has no option 'bneps'; did you mean bn_eps\?"):
        known_options("i3d", {"bneps": 1}, bn_eps=1e-5)
