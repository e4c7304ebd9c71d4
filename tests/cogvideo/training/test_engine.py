"""The loop: it learns, it stops and goes on without a trace, it leaves frozen parameters alone, it refuses NaN."""

from __future__ import annotations

import os
import signal

import pytest
import torch

from cogvideo.errors import UserError
from cogvideo.training.engine import Options
from cogvideo.training.log import read_log
from cogvideo.training.recipe import Phase
from cogvideo.training.state import saved


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("name", ["base", "stage1", "stage2"])
def test_one_record_is_learned_by_heart(name, tmp_path, make_engine, task_of, make_config, make_network):
    """In the stages by the temporal channel alone, around a frozen network whose logits have some spread."""
    task = task_of(make_config(), name)
    if name != "base":
        task.network.load_state_dict(make_network(make_config()).state_dict())
    changes = {"count": 1, "batch_size": 1, "lr": 2e-2, "phases": (Phase(120),), "weight_decay": 0.0}
    engine = make_engine(tmp_path, name, task=task, options=Options(log_every=40), **changes)
    assert engine.run().is_finished
    log = read_log(tmp_path)
    assert log[0]["loss"] > 2.5
    assert log[-1]["loss"] < 0.05


def test_frozen_parameters_stay_bit_for_bit(tmp_path, make_engine):
    engine = make_engine(tmp_path)
    before = {name: parameter.detach().clone() for name, parameter in engine.task.named_parameters()}
    engine.run()
    for name, parameter in engine.task.named_parameters():
        is_frozen = ".transformer." in name
        assert torch.equal(parameter, before[name]) == is_frozen
        assert (parameter.grad is None) or not is_frozen
        assert (parameter in engine.optimizer.state) != is_frozen


@pytest.mark.parametrize(("name", "stop"), [("base", 3), ("stage2", 4), ("stage1", 7)])
def test_stopped_and_resumed_is_the_same_as_not_stopped(name, stop, tmp_path, make_engine, trained_of):
    """Bit for bit, with dropout, from a fresh process's point of view: nothing is shared but the folder."""
    whole = make_engine(tmp_path / "whole", name, dropout=0.1)
    whole.run()
    first = make_engine(tmp_path / "parts", name, dropout=0.1)
    assert not first.run(until=stop).is_finished
    torch.manual_seed(stop)
    second = make_engine(tmp_path / "parts", name, dropout=0.1)
    assert second.resume()
    assert second.step == stop
    assert second.run().is_finished
    assert equal(trained_of(whole), trained_of(second))
    losses = [[(entry["step"], entry["loss"]) for entry in read_log(tmp_path / part)] for part in ("whole", "parts")]
    assert losses[0] == losses[1]


def test_a_kill_between_checkpoints_loses_only_what_came_after(tmp_path, make_engine, trained_of):
    """Steps 5 and 6 were done and logged, but never saved; they are done again."""

    class KilledError(Exception):
        pass

    def kill(entry):
        if entry["step"] == 6:
            raise KilledError

    engine = make_engine(tmp_path / "parts")
    with pytest.raises(KilledError):
        engine.run([kill])
    assert [path.name for path in saved(tmp_path / "parts")] == ["step-0000004"]
    again = make_engine(tmp_path / "parts")
    again.resume()
    again.run()
    whole = make_engine(tmp_path / "whole")
    whole.run()
    assert equal(trained_of(whole), trained_of(again))
    assert [entry["step"] for entry in read_log(tmp_path / "parts")] == list(range(1, 9))


def test_sigterm_saves_and_ends_well(tmp_path, make_engine):
    def terminate(entry):
        if entry["step"] == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    outcome = make_engine(tmp_path).run([terminate])
    assert not outcome.is_finished
    # The signal came after step 3 had asked whether to stop.
    assert outcome.step == 4
    assert [path.name for path in saved(tmp_path)] == ["step-0000004"]
    assert signal.getsignal(signal.SIGTERM) is before


def test_parts_of_a_batch_add_up(tmp_path, make_engine, trained_of):
    """Two parts of two rows are one batch of four, but for rounding."""
    engines = [make_engine(tmp_path / str(parts), options=Options(accumulate=parts, log_every=1)) for parts in (1, 2)]
    for engine in engines:
        engine.run(until=1)
    one, two = map(trained_of, engines)
    gradients = [name for name in one if name.startswith("exp_avg.")]
    assert all(torch.allclose(one[name], two[name], atol=1e-7) for name in gradients)
    losses = [read_log(tmp_path / part)[0]["loss"] for part in "12"]
    assert abs(losses[0] - losses[1]) < 1e-6


def test_a_batch_that_cannot_be_shared(tmp_path, make_engine):
    with pytest.raises(UserError, match="batch of 4 rows cannot be shared evenly by 1 processes in 3 parts each; take"):
        make_engine(tmp_path, options=Options(accumulate=3))


def test_nan_stops_and_saves_what_was_before(tmp_path, make_engine, trained_of):
    engine = make_engine(tmp_path)
    states = {}

    def keep(entry):
        states[entry["step"]] = trained_of(engine)
        if entry["step"] == 5:
            with torch.no_grad():
                engine.task.network.plus.attn_distribution[0][0] = torch.nan
            states[5] = trained_of(engine)

    with pytest.raises(UserError, match="step 6 gave loss nan and gradient norm nan") as error:
        engine.run([keep])
    assert "its rows: 4, 5, 6, 7;" in str(error.value)
    assert "\n" not in str(error.value)
    assert [path.name for path in saved(tmp_path)] == ["step-0000004", "step-0000005"]
    again = make_engine(tmp_path)
    again.resume()
    found = trained_of(again)
    assert all(torch.equal(found[name].nan_to_num(9), states[5][name].nan_to_num(9)) for name in found)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"lr": 2e-2}, "settings"), ({"options": Options(seed=1)}, "seed 0 there, 1 now")],
)
def test_another_training_is_not_continued(changes, message, tmp_path, make_engine):
    make_engine(tmp_path).run(until=2)
    with pytest.raises(UserError, match=f"holds another training: {message}") as error:
        make_engine(tmp_path, **changes).resume()
    assert "another --out" in str(error.value)


def test_what_is_logged(tmp_path, make_engine):
    make_engine(tmp_path).run(until=2)
    entry = read_log(tmp_path)[-1]
    frames = [entry[f"frame_{number}"] for number in range(5)]
    assert abs(entry["loss"] - sum(frames[1:]) / 4) < 1e-6
    assert entry["lr"] == 1e-2
    for name in ("grad_norm", "tokens_per_second", "peak_share", "memory_bytes", "seconds"):
        assert entry[name] > 0


def test_recomputing_changes_nothing(tmp_path, make_engine, task_of, make_config, trained_of):
    """Dropout included: it is drawn again as it was."""
    found = []
    for recompute in (False, True):
        task = task_of(make_config(), dropout=0.1, recompute=recompute)
        engine = make_engine(tmp_path / str(recompute), task=task)
        engine.run(until=3)
        found.append(trained_of(engine))
    assert all(torch.allclose(found[0][name], found[1][name], atol=1e-6) for name in found[0])


def test_bfloat16_is_close(tmp_path, make_engine):
    for is_half in (False, True):
        make_engine(tmp_path / str(is_half), options=Options(is_half=is_half, log_every=1)).run(until=4)
    exact, half = (read_log(tmp_path / part) for part in ("False", "True"))
    assert [entry["loss"] for entry in exact] != [entry["loss"] for entry in half]
    assert all(abs(a["loss"] - b["loss"]) < 0.02 for a, b in zip(exact, half, strict=True))


def test_a_damaged_checkpoint_says_what_to_do(tmp_path, make_engine):
    make_engine(tmp_path).run(until=4)
    for path in saved(tmp_path)[-1].glob("*.distcp"):
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=r"cannot be read .*; remove that folder: the run goes on from the one before"):
        make_engine(tmp_path).resume()


def test_the_loss_of_held_out_rows_is_logged_and_changes_nothing(
    tmp_path, make_engine, trained_of, rows_of, make_config
):
    """It is that of the task without dropout on the first rows, and training ends with the same bits as without it."""
    config = make_config()
    plain = make_engine(tmp_path / "plain", dropout=0.1)
    plain.run()
    looked = make_engine(tmp_path / "looked", dropout=0.1, options=Options(save_every=4, log_every=1, validate_every=4))
    held_out = rows_of(config, 4, config.frames, seed=9)
    looked.held_out = type(looked.batches)(held_out, 4)
    looked.run()
    assert equal(trained_of(plain), trained_of(looked))
    logged = {entry["step"]: entry.get("validation_loss") for entry in read_log(tmp_path / "looked")}
    assert [step for step, loss in logged.items() if loss is not None] == [4, 8]
    looked.task.eval()
    with torch.no_grad():
        expected = looked.task(looked.task.prepare(held_out))["loss"].item()
    assert logged[8] == pytest.approx(expected, rel=1e-5)
