"""Two processes under torchrun (gloo), sharded, against one: losses, checkpoints from one number to the other."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch

from cogvideo.training.engine import Options
from cogvideo.training.log import read_log
from cogvideo.training.parallel import World, require_share

# Run by torchrun: a whole training; one that is stopped and resumed; one that goes on from a checkpoint of one process.
SCRIPT = """
import importlib.util, json, os, sys
from pathlib import Path

import torch
import torch.distributed as dist

def module(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    found = importlib.util.module_from_spec(spec)
    sys.modules[name] = found
    spec.loader.exec_module(found)
    return found

from cogvideo.training.engine import Engine, Options
from cogvideo.training.parallel import joined, shard_, whole
from cogvideo.training.recipe import Phase, TrainingRecipe
from cogvideo.training.state import tensors_of

folder, sizes, rows = Path(sys.argv[1]), module("sizes", sys.argv[2]), module("rows", sys.argv[3])
config = sizes._config()
recipe = TrainingRecipe("test", "stage1", "", size="tiny", batch_size=4, lr=1e-2, warm_up=2, dropout=0.0,
                        start="random", weight_decay=0.01, phases=(Phase(8),), clip=1.0)

with joined(torch.device("cpu")) as (world, device):
    def engine(part):
        task = rows.make_task(config)
        shard_(task, task.network, device, half=False)
        (folder / part).mkdir(parents=True, exist_ok=True)
        batches = rows.Rows(rows.make_rows(config, 8, config.frames), 4)
        options = Options(save_every=4, log_every=1)
        place = {"device": device, "world": world, "is_sharded": True}
        return Engine(task, recipe, batches, folder / part, options=options, **place)

    def result(engine):
        return {name: whole(tensor) for name, tensor in tensors_of(engine.task, engine.optimizer).items()}

    through = engine("two")
    through.run()
    engine("parts").run(until=4)
    again = engine("parts")
    assert again.resume() and again.step == 4
    again.run()
    first, second = result(through), result(again)
    is_same = all(torch.equal(first[name], second[name]) for name in first)
    on = engine("from_one")
    assert on.resume() and on.step == 4
    on.run()
    is_whole = max(one.numel() for one in first.values()) > 1000
    every = tensors_of(on.task, on.optimizer)
    sharded = [tensor for name, tensor in every.items() if "query_key_value.0.weight" in name]
    halves = all(tensor.to_local().shape[0] * 2 == tensor.shape[0] for tensor in sharded if tensor.dim())
    third = result(on)
    if world.is_first:
        torch.save(third, folder / "from_one.pt")
        (folder / "said.json").write_text(json.dumps({"is_same": is_same, "is_whole": is_whole, "halves": halves}))

# All is said. Threads of gloo may still hold tensors, and the end of the interpreter then aborts (pytorch #179291).
os._exit(0)
"""


@pytest.fixture(scope="module")
def pair(tmp_path_factory, make_engine, request):
    """The folder of the runs of two processes, and of one."""
    folder = tmp_path_factory.mktemp("pair")
    one = make_engine(folder / "one")
    one.run()
    make_engine(folder / "from_one").run(until=4)
    script = folder / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    here = request.path.parent
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    command += [str(folder), str(here.parent / "conftest.py"), str(here / "conftest.py")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[:3000]
    return folder, one


def test_losses_are_those_of_one_process(pair):
    folder, _ = pair
    one, two = (read_log(folder / part) for part in ("one", "two"))
    assert len(one) == len(two) == 8
    for single, double in zip(one, two, strict=True):
        for name in ("loss", "grad_norm", *(f"frame_{number}" for number in range(5))):
            assert abs(single[name] - double[name]) < 1e-5


def test_what_is_sharded_resumes_bit_for_bit(pair):
    said = json.loads((pair[0] / "said.json").read_text())
    assert said == {"is_same": True, "is_whole": True, "halves": True}


def test_a_checkpoint_of_two_goes_on_in_one(pair, make_engine):
    """Stopped after 4 of 8 steps by two processes, finished by one."""
    folder, _ = pair
    steps = sorted(path.name for path in (folder / "two" / "checkpoints").iterdir())
    assert steps == ["step-0000004", "step-0000008"]
    engine = make_engine(folder / "parts")
    assert engine.resume()
    assert engine.step == 8
    for path in (folder / "two" / "checkpoints" / "step-0000008").iterdir():
        path.unlink()
    on = make_engine(folder / "two")
    assert on.resume()
    assert on.step == 4
    on.run()
    one, two = (read_log(folder / part) for part in ("one", "two"))
    assert all(abs(a["loss"] - b["loss"]) < 1e-5 for a, b in zip(one, two, strict=True))


def test_a_checkpoint_of_one_goes_on_in_two(pair, trained_of):
    folder, one = pair
    expected, found = trained_of(one), torch.load(folder / "from_one.pt", weights_only=True)
    assert expected.keys() == found.keys()
    for name in expected:
        if name.startswith("parameter."):
            # Adam divides by small moments: rounding of gradients shows here more than in losses.
            assert torch.allclose(expected[name], found[name], atol=2e-3)
    losses = [[entry["loss"] for entry in read_log(folder / part)] for part in ("one", "from_one")]
    assert all(abs(a - b) < 1e-5 for a, b in zip(*losses, strict=True))


def test_shares():
    from cogvideo.errors import UserError

    assert require_share(16, 2, World(1, 4)) == 2
    assert Options().accumulate == 1
    with pytest.raises(UserError, match="batch of 6 rows cannot be shared evenly by 4 processes; take a multiple of 4"):
        require_share(6, 1, World(0, 4))
