"""Which type a step computes in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from cogvideo.training import precision
from cogvideo.training.parallel import World
from cogvideo.training.recipe import Precision

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("wanted", "device", "expected"),
    [("auto", CPU, False), ("auto", GPU, True), ("float32", GPU, False), ("bfloat16", CPU, True)],
)
def test_by_name_or_device(wanted: Precision, device: torch.device, expected: bool, tmp_path: Path) -> None:
    assert precision.is_half(wanted, device, tmp_path, World()) is expected


@pytest.mark.parametrize(("gain", "expected"), [(0.03, False), (1.0, False), (1.2, False), (2.0, True), (12.0, True)])
def test_fast_is_what_the_machine_is_faster_in(
    gain: float, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speeds = {torch.float32: 5e10, torch.bfloat16: 5e10 * gain}
    monkeypatch.setattr(precision, "peak_flops", lambda device, dtype: speeds[dtype])
    assert precision.is_half("fast", CPU, tmp_path, World()) is expected


@pytest.mark.parametrize("begun", ["float32", "bfloat16"])
def test_a_run_that_has_begun_stays_what_it_is(begun: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "checkpoints" / "step-0000004"
    place.mkdir(parents=True)
    (place / "state.json").write_text(json.dumps({"step": 4, "precision": begun}))
    monkeypatch.setattr(precision, "peak_flops", lambda device, dtype: pytest.fail("measured again"))
    assert precision.is_half("fast", CPU, tmp_path, World()) is (begun == "bfloat16")
