"""`cogeval doctor`: what it looks at, what it says is missing, and that it notices what it is there to notice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import cogeval
from cogvideo.weights import WeightEntry, WeightStore
from eval.doctor import Check, benchmarks, examine, golden, machine, measuring
from eval.doctor.checks import survived
from eval.protocols import PROTOCOLS
from eval.weights import open_store


@pytest.fixture(autouse=True)
def own_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COGEVAL_HOME", "TORCH_HOME", "HF_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    for name in ("HF_HUB_CACHE", "COGEVAL_DATA", "COGEVAL_UCF101_DATA"):
        monkeypatch.delenv(name, raising=False)


def by_name(checks: Iterator[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def test_the_command_passes_here_and_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert cogeval.main(["doctor", "--json", "--no-measure"]) == 0
    answer = json.loads(capsys.readouterr().out)
    titles = [section["title"] for section in answer["sections"]]
    names = ("ucf101", "kinetics600", "prompts", "sensitivity")
    assert titles == ["Machine", "Places", *(f"cogeval {name}" for name in names)]
    assert answer["ok"] is True
    rows = {check["name"]: check for section in answer["sections"] for check in section["checks"]}
    tats = rows["tats-16f-2048 (published)"]
    assert (tats["ok"], tats["state"]) == (False, "missing")
    assert tats["found"] == "without i3d-tats, c3d-tgan2, c3d-tgan2-mean, inception-fid, clip-vit-b-32"
    assert tats["mend"] == "cogeval weights fetch i3d-tats c3d-tgan2 c3d-tgan2-mean inception-fid clip-vit-b-32"
    assert cogeval.main(["doctor", "--no-measure"]) == 0
    out = capsys.readouterr().out
    assert "without i3d-tats" in out
    assert "https://www.crcv.ucf.edu/data/UCF101/UCF101.rar" in out
    assert out.splitlines()[-2].endswith("Nothing to mend, numbers were not measured")


def test_every_protocol_that_is_not_embedded_has_its_row_once() -> None:
    rows = [lack.protocol.name for lack in benchmarks.lacks(open_store())]
    assert rows == [protocol.name for protocol in PROTOCOLS.values() if not protocol.embedded]
    shown = [
        check.name.split()[0]
        for name in benchmarks.DATA
        for check in benchmarks.benchmark(name, benchmarks.lacks(open_store()))
    ]
    assert sorted(name for name in shown if name != "data") == sorted(rows)


def test_a_protocol_is_ready_once_its_weights_are_here_and_failed_if_one_is_damaged(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"weights")
    catalogue = {name: WeightEntry(name, f"{name}.pt", "pickle") for name in open_store().catalogue}
    store = WeightStore(catalogue, home=tmp_path / "home")
    store.add("i3d-tats", file)
    rows = by_name(benchmarks.benchmark("kinetics600", benchmarks.lacks(store)))
    assert rows["vdm-5to16f-50000 (published)"].state == "ok"
    store.get("i3d-tats").path.write_bytes(b"something else")
    rows = by_name(benchmarks.benchmark("kinetics600", benchmarks.lacks(store)))
    assert rows["vdm-5to16f-50000 (published)"].state == "failed"
    assert rows["vdm-5to16f-50000 (published)"].found == "damaged: i3d-tats"


def test_the_data_folder_of_the_environment_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COGEVAL_UCF101_DATA", str(tmp_path))
    assert by_name(benchmarks.benchmark("ucf101", []))["data"].state == "ok"
    monkeypatch.setenv("COGEVAL_UCF101_DATA", str(tmp_path / "gone"))
    check = by_name(benchmarks.benchmark("ucf101", []))["data"]
    assert (check.state, check.found) == ("failed", f"{tmp_path / 'gone'} is no folder")


def test_something_to_mend_is_exit_3(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("COGEVAL_HOME", str(tmp_path / "file" / "inside"))
    assert cogeval.main(["doctor", "--no-measure"]) == 3
    out = capsys.readouterr().out
    assert "1 to mend before numbers from here can be trusted: cache" in out
    assert "set COGEVAL_HOME to a folder that you can write" in out


@pytest.mark.parametrize(
    ("found", "wanted", "is_enough"),
    [
        ("2.11.0", "2.11", True),
        ("2.11.0+cu128", "2.11", True),
        ("2.9.1", "2.11", False),
        ("2.11.0rc1", "2.11.0", True),
        ("18.1", "14", True),
        ("1.10", "1.9.2", True),
        ("0.26.0a0+git", "0.26", True),
    ],
)
def test_versions_are_compared_as_numbers(found: str, wanted: str, is_enough: bool) -> None:
    assert machine.is_at_least(found, wanted) is is_enough


def test_an_old_package_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    real = machine.metadata.version
    monkeypatch.setattr(machine.metadata, "version", lambda name: "1.0.0" if name == "scipy" else real(name))
    check = by_name(machine.machine())["scipy"]
    assert (check.state, check.found) == ("failed", "1.0.0")
    assert check.mend.startswith("run `python -m pip install 'scipy>=1.")


def test_an_ffmpeg_without_a_decoder_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(machine.DECODERS, "no-such-codec", "nothing")
    check = by_name(machine.machine())["decoders"]
    assert (check.state, check.found) == ("failed", "without no-such-codec (nothing)")


def test_a_doctor_does_not_break_down() -> None:
    def broken() -> Iterator[Check]:
        yield Check("first", True, "fine")
        raise RuntimeError("libcuda\nis old")

    (check,) = survived("torch", broken)
    assert (check.name, check.state, check.found) == ("torch", "failed", "RuntimeError: libcuda is old")


def test_the_golden_numbers_are_met_here() -> None:
    checks = by_name(golden.golden())
    assert {check.state for check in checks.values()} <= {"ok", "note"}
    assert {"drawing of shapes", "pixels i3d-tf1-224", "network i3d", "Fréchet, closed form"} <= set(checks)
    assert sum(check.state == "ok" for check in checks.values()) >= 10


def test_the_golden_numbers_of_the_embedded_networks_are_of_todays_weights() -> None:
    """After a training: `python -m eval.doctor.golden`."""
    stored = json.loads(golden.FILE.read_text())["embedded"]
    assert {name: row["weights_sha256"] for name, row in stored.items()} == {
        name: sha256 for name, (sha256, _) in golden.embedded().items()
    }


def test_changed_pixels_and_networks_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    real = golden.preprocess.apply
    monkeypatch.setattr(golden.preprocess, "apply", lambda *args, **kwargs: real(*args, **kwargs) * 1.001)
    states = {name: check.state for name, check in by_name(golden.golden()).items()}
    assert states["pixels i3d-direct-224"] == states["pixels clip-bicubic-224"] == states["network i3d"] == "failed"
    assert states["drawing of shapes"] == "ok"


def test_the_probes_tell_the_preprocessings_apart() -> None:
    rows = list(golden.pixels().values())
    gaps = [np.abs(np.subtract(a, b)).max() for i, a in enumerate(rows) for b in rows[:i]]
    assert min(gaps) > 1e-2


def test_the_drawn_network_is_the_same_every_time_and_says_something() -> None:
    first, second = measuring.drawn_network().state_dict(), measuring.drawn_network().state_dict()
    assert all((first[name] == second[name]).all() for name in first)
    assert np.std(golden.network()) > 0.1


def test_scores_do_not_depend_on_the_setting_here() -> None:
    checks = by_name(measuring.invariance(["cpu"]))
    assert {check.state for check in checks.values()} == {"ok"}, checks
    assert set(checks) == {variant.name for variant in measuring.VARIANTS} | {"order of features"}


@pytest.mark.parametrize(("noise", "state"), [(0.0, "ok"), (1e-2, "failed")])
def test_a_setting_that_changes_the_score_is_noticed(monkeypatch: pytest.MonkeyPatch, noise: float, state: str) -> None:
    """A stand-in whose features move with the batch size."""
    base = np.random.default_rng(0).normal(size=(measuring.N_CLIPS, 8)).astype(np.float32)

    def features(paths: object, file: object, setting: measuring.Setting) -> measuring.Values:
        return base + np.float32(noise * (setting.batch == 1)) * np.arange(8, dtype=np.float32) * (base > 0)

    monkeypatch.setattr(measuring, "_features", features)
    monkeypatch.setattr(measuring, "_bench", lambda: _nothing())
    checks = by_name(measuring.invariance([]))
    assert checks["batch size"].state == state
    assert checks["workers"].state == "ok"
    assert checks["workers"].found == "the same bits"


class _nothing:  # noqa: N801 - used as a function
    def __enter__(self) -> tuple[list[Path], SimpleNamespace]:
        return [], SimpleNamespace()

    def __exit__(self, *_: object) -> None:
        pass


def test_the_clips_are_drawn_the_same_in_one_go_or_alone() -> None:
    together = [hashlib.sha256(clip.tobytes()).hexdigest() for clip in measuring.drawn_clips(5)]
    assert hashlib.sha256(measuring.drawn_clips(1)[0].tobytes()).hexdigest() == together[0]
    assert len(set(together)) == 5


def test_measuring_is_part_of_a_full_examination(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(golden, "golden", lambda: [Check("g", True, "")])
    monkeypatch.setattr(measuring, "invariance", lambda devices: [Check(device, True, "") for device in devices])
    sections = {section.title: section.checks for section in examine(open_store())}
    assert [check.name for check in sections["Same numbers as ours"]] == ["g"]
    assert sections["Scores do not depend on"][0].name == "cpu"
