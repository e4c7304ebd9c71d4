"""The terminal against the design's sketch, at every width, and on terminals that can show less."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from eval.compare import compare_runs
from eval.notation import Axis, axis_of, duration, interval, number
from eval.records import Choice, Counts
from eval.terminal import Stages, make_console, results_table
from eval.terminal.benchmark import benchmark_table

SKETCH = """\
Model A on UCF-101  2,048 clips, 16 frames, 128 × 128, 1 h 12 min
Metric    Better    Value     95 % interval   Floor        n   Scale
─────────────────────────────────────────────────────────────────────────────────────────────
FVD       lower     412.6     398.1 – 428.0    61.8    2,048   ····┊··················─●─····
KVD       lower      33.9       30.2 – 37.8     0.4    2,048   ┊·················──●──·······
IS        higher    46.21     45.38 – 47.02    none   20,480   ···············─●─············
CLIPSIM   higher   0.2931   0.2912 – 0.2950    none    2,048   ···············──●─···········

● Comparable with numbers of protocol tats-16f-2048
! Generated in bfloat16: on 64 check clips the features differ from float32 by 0.2 % at most.
! FVD still falls with n: 439 at 1,024, 412.6 at 2,048, 391 extrapolated.

report  runs/ucf101/model-a-7f3a2c91/report.html
data    runs/ucf101/model-a-7f3a2c91/result.json
"""
PATHS = {
    "report": "runs/ucf101/model-a-7f3a2c91/report.html",
    "data": "runs/ucf101/model-a-7f3a2c91/result.json",
}


class Screen(io.StringIO):
    """A file that says it is a terminal."""

    def __init__(self, is_terminal: bool = True, encoding: str = "utf-8") -> None:
        super().__init__()
        self._is_terminal = is_terminal
        self._encoding = encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    def isatty(self) -> bool:
        return self._is_terminal


def shown(renderable, width: int = 100, encoding: str = "utf-8", **environ: str) -> str:
    screen = Screen(is_terminal=False, encoding=encoding)
    make_console(screen, environ={"COLUMNS": str(width), **environ}).print(renderable)
    return screen.getvalue()


def test_the_result_looks_as_the_sketch(sample_runs):
    assert shown(results_table(sample_runs.result(), PATHS)) == SKETCH


@pytest.mark.parametrize(
    ("width", "heads"),
    [
        (93, ["Metric", "Better", "Value", "Floor", "n", "Scale"]),
        (92, ["Metric", "Better", "Value", "Floor", "n"]),
        (60, ["Metric", "Better", "Value", "Floor", "n"]),
    ],
)
def test_columns_go_in_the_order_of_the_design(sample_runs, width, heads):
    head = shown(results_table(sample_runs.result()), width).splitlines()[1]
    assert [word for word in head.split() if word not in ("95", "%", "interval")] == heads
    assert "95 % interval" in head


def test_floor_goes_before_better(sample_runs):
    wide = sample_runs.metric("FVD with a long name", 412.6, 398.1, 428.0, floor=61.8)
    head = shown(results_table(sample_runs.result([wide])), 62).splitlines()[1]
    assert "Floor" not in head
    assert "Better" in head
    head = shown(results_table(sample_runs.result([sample_runs.metric("FVD" * 10, 412.6, 398.1, 428.0)])), 62)
    assert "Better" not in head.splitlines()[1]


@pytest.mark.parametrize("width", [24, 40, 59, 60, 79, 80, 92, 93, 94, 200])
def test_no_line_is_wider_than_the_terminal(sample_runs, tmp_path, width):
    runs = [sample_runs.write_run(tmp_path / name, sample_runs.model(name, 400.0, 9.0)) for name in ("A" * 50, "B")]
    for renderable in (
        results_table(sample_runs.result()),
        benchmark_table(compare_runs(runs), has_pairs=True, printed=None),
    ):
        text = shown(renderable, width)
        words = [line for line in text.splitlines() if cell_len(line) > width and " " in line.strip()]
        assert words == []


def test_under_sixty_columns_each_metric_is_a_block(sample_runs):
    lines = shown(results_table(sample_runs.result()), 59).splitlines()
    assert lines[1:6] == [
        "FVD  lower is better",
        "  value     412.6",
        "  interval  398.1 – 428.0",
        "  floor     61.8",
        "  n         2,048",
    ]


def test_without_utf8_every_sign_has_a_stand_in(sample_runs):
    text = shown(results_table(sample_runs.result(status="partial", counts=_partial())), encoding="ascii")
    text.encode("ascii")
    assert "398.1 to 428.0" in text
    assert "....|..................-*-...." in text
    assert "128 x 128" in text
    # " to " is one cell wider than the dash between the ends of an interval.
    assert text.splitlines()[2] == "-" * 94
    assert "% Partial: 1,536 of 2,048 clips scored" in text


def _partial() -> Counts:
    reasons = {"wrong frame count": 500, "duplicate": 12}
    return Counts(planned=2048, made=2048, ok=1536, rejected=512, reasons=reasons)


def test_verdict_lines_give_each_reason_and_what_is_missing(sample_runs):
    found = sample_runs.result(
        comparable=False,
        not_comparable_because=["embedded data", "features in float16"],
        status="partial",
        counts=_partial(),
    )
    lines = shown(results_table(found), 120).splitlines()
    assert "~ Not comparable with published numbers: embedded data" in lines
    assert "~ Not comparable with published numbers: features in float16" in lines
    missing = "◐ Partial: 1,536 of 2,048 clips scored; 512 rejected: wrong frame count (500), duplicate (12)"
    assert missing in lines
    assert not any(line.startswith("●") for line in lines)


def test_what_is_missing_is_said_in_words(sample_runs):
    undefined = sample_runs.metric("FVD", None, note="all features are equal")
    lone = sample_runs.metric("IS", 12.5, kind="inception-score", interval_note="")
    text = shown(results_table(sample_runs.result([undefined, lone])))
    assert "FVD: undefined: all features are equal; no floor: not measured" in text
    assert "IS: no interval: n too small for an interval" in text
    assert "None" not in text
    assert "nan" not in text.lower()


def test_a_value_that_moves_with_n_is_said(sample_runs):
    line = {"value": 391.0, "low": 372.0, "high": 410.0, "points": [(2048, 412.6), (1024, 439.0), (512, 501.0)]}
    moving = sample_runs.metric("FVD", 412.6, 398.1, 428.0, extrapolated=line)
    text = shown(results_table(sample_runs.result([moving], warnings=[])), 120)
    assert "! FVD still falls with n: 439.0 at n = 1,024, 412.6 at n = 2,048, 391.0 extrapolated" in text
    still = sample_runs.metric("FVD", 412.6, 398.1, 428.0, extrapolated=line | {"high": 413.0})
    assert "still" not in shown(results_table(sample_runs.result([still], warnings=[])), 120)


def test_a_shared_warning_is_said_once(sample_runs):
    both = [sample_runs.metric(name, 1.0, 0.5, 1.5, warnings=["too few samples"]) for name in ("FVD", "KVD")]
    text = shown(results_table(sample_runs.result(both, warnings=[])))
    assert text.count("too few samples") == 1
    assert "! FVD, KVD: too few samples" in text


def test_names_from_strangers_cannot_move_the_cursor(sample_runs):
    facts = {"spec": "folder:x", "title": "\x1b[2J\x07evil\u202egnp[bold]\r\nx"}
    text = shown(results_table(sample_runs.result(generator=facts)))
    assert not any(c in text for c in "\x1b\x07\u202e\r")
    assert "[bold]" in text
    assert text.splitlines()[0].startswith("\ufffd[2J\ufffdevil\ufffdgnp[bold]  x on UCF-101")


def test_colours_follow_the_terminal(sample_runs):
    def painted(**environ: str) -> str:
        screen = Screen()
        console = make_console(screen, environ={"COLUMNS": "100", "TERM": "xterm-256color", **environ})
        console.print(results_table(sample_runs.result()))
        return screen.getvalue()

    dark, light = painted(COLORTERM="truecolor"), painted(COLORTERM="truecolor", COLORFGBG="0;15")
    assert "38;2;108;195;220" in dark
    assert "38;2" not in light
    assert "\x1b[36m" in light
    assert "\x1b[36m" in painted(TERM="xterm")
    assert "\x1b[36m" in painted(COLORTERM="truecolor", COGEVAL_BACKGROUND="light")
    assert "38;" not in painted(COLORTERM="truecolor", NO_COLOR="1")
    assert "\x1b" not in painted(TERM="dumb")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def stage_console(is_terminal: bool, **environ: str) -> tuple[Screen, Console]:
    screen = Screen(is_terminal)
    environ = {"COLUMNS": "100", "LINES": "40", "TERM": "xterm-256color", "NO_COLOR": "1", **environ}
    return screen, make_console(screen, environ=environ)


def test_without_a_terminal_each_finished_stage_is_a_plain_line():
    screen, console = stage_console(is_terminal=False)
    clock = Clock()
    with Stages(console=console, clock=clock) as stages:
        stages.header(
            "ucf101", "tats-16f-2048", "b41e09d7", [Choice(name="device", value="cpu", reason="no GPU found")]
        )
        stages.start("plan", 2048)
        clock.now = 1
        stages.finish("plan", count="2,048 clips")
        stages.start("generate", 2048, unit="clips")
        stages.advance("generate", 2048)
        clock.now = 2293
        stages.finish("generate")
        stages.start("features", 2048)
    lines = screen.getvalue().splitlines()
    assert lines[0].startswith("cogeval ")
    assert lines[0].endswith("  ucf101  tats-16f-2048  fingerprint b41e 09d7")
    assert lines[1:] == [
        "  device   cpu  no GPU found",
        "  plan       2,048 clips  0:00:01",
        "  generate   2,048 clips  0:38:12",
    ]
    assert "\x1b" not in screen.getvalue()


def test_a_stage_line_looks_as_the_sketch():
    _, console = stage_console(is_terminal=True)
    clock = Clock()
    stages = Stages(console=console, clock=clock)
    stages.start("generate", 2048, unit="clips", done=640)
    stages.advance("generate", 749)
    clock.now = 38 * 60 + 12
    made = stages.line(stages._stages["generate"], "utf-8").text.plain
    bar = "━" * 19 + "─" * 9
    assert made == f"  generate {bar}  1,389 / 2,048  0:38:12  0:33:36 left, 0.3 clips/s"
    waiting = stages.line(stages._stages["score"], "utf-8").text.plain
    assert waiting == "  score    " + "─" * 28 + "        waiting"
    assert "=" * 19 + "-" * 9 in stages.line(stages._stages["generate"], "ascii").text.plain
    stages.advance("generate", 658)
    almost = stages.line(stages._stages["generate"], "utf-8").text.plain
    assert almost.count("━") == 27, "a bar is full when the stage is finished, not before"
    stages.__exit__(None, None, None)


def test_on_a_terminal_lines_are_redrawn_and_each_generator_keeps_its_block():
    screen, console = stage_console(is_terminal=True)
    with Stages(console=console) as stages:
        for name in ("Real", "Noise"):
            stages.generator(name)
            stages.start("generate", 4, unit="clips")
            stages.advance("generate", 4)
            stages.finish("generate")
    text = screen.getvalue()
    assert "\x1b[" in text
    last = text[text.rindex("Noise") :]
    assert text.index("Real") < text.index("Noise")
    assert "4 clips" in last
    # A block that is closed keeps what began, and says nothing of stages that never did.
    assert "waiting" not in last[last.rindex("━" * 28) :]


def test_an_interrupted_stage_says_so():
    screen, console = stage_console(is_terminal=False)
    stages = Stages(console=console)
    stages.start("generate", 10)
    stages.advance("generate", 3)
    with pytest.raises(KeyboardInterrupt), stages:
        raise KeyboardInterrupt
    assert "generate" in screen.getvalue()
    assert "3 / 10" in screen.getvalue()
    assert screen.getvalue().rstrip().endswith("stopped")


@pytest.mark.parametrize("term", ["dumb", "unknown"])
def test_a_dumb_terminal_gets_plain_lines(term):
    screen, console = stage_console(is_terminal=True, TERM=term)
    with Stages(console=console) as stages:
        stages.start("plan", 3)
        stages.finish("plan", count="3 clips")
    assert screen.getvalue() == "  plan           3 clips  0:00:00\n"


def test_quiet_writes_nothing():
    screen, console = stage_console(is_terminal=True)
    with Stages(console=console, quiet=True) as stages:
        stages.header("ucf101", "p", "b41e09d7", [Choice(name="device", value="cpu")])
        stages.generator("Real")
        stages.start("plan", 1)
        stages.finish("plan")
        stages.message("something")
    assert screen.getvalue() == ""


def test_an_unknown_stage_is_a_bug_and_says_which():
    stages = Stages(console=stage_console(is_terminal=False)[1])
    with pytest.raises(ValueError, match="no stage 'generat'; there are plan, generate"):
        stages.start("generat")


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [
        (1209, 1, "1,209.0"),
        (-38.0, 1, "−38.0"),
        (-0.04, 1, "0.0"),
        (0.29314, 4, "0.2931"),
        (None, 1, "undefined"),
        (float("nan"), 1, "undefined"),
        (float("inf"), 1, "undefined"),
    ],
)
def test_numbers(value, decimals, text):
    assert number(value, decimals) == text


def test_intervals_show_signs_where_they_occur():
    assert interval(398.1, 428.0, 1) == "398.1 – 428.0"
    assert interval(-38.0, 10.9, 1) == "−38.0 to +10.9"
    assert interval(2, 3, 1, sign=True) == "+2.0 to +3.0"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.42, "0.4 s"), (38, "38 s"), (250, "4 min 10 s"), (3480, "58 min"), (4320, "1 h 12 min")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_the_axis_holds_every_row_and_starts_at_zero_for_distances(sample_runs):
    rows = [sample_runs.metric("FVD", v, v - 5, v + 5) for v in (12.0, 903.0)]
    assert axis_of(rows) == Axis(0.0, 1000.0, 200.0)
    scores = [sample_runs.metric("IS", v, v - 0.5, v + 0.5, kind="inception-score") for v in (3.0, 21.0)]
    axis = axis_of(scores)
    assert axis is not None
    assert axis.low <= 2.5
    assert axis.high >= 21.5
    share = sample_runs.metric("R-precision", 0.4, 0.3, 0.5, kind="r-precision")
    assert axis_of([share]) == Axis(0.0, 1.0, 0.25)
    negative = axis_of([sample_runs.metric("KVD", -0.2, -0.4, 0.1, kind="kvd")])
    assert negative is not None
    assert negative.low <= -0.4
    assert negative.share(-0.2) < negative.share(0.0)
    assert axis_of([sample_runs.metric("FVD", None)]) is None
    assert axis_of([sample_runs.metric("FVD", 0.0, 0.0, 0.0)]) is not None


def test_the_benchmark_table_orders_marks_ties_and_never_ranks_papers(sample_runs, tmp_path):
    models = [("Frozen", 903.0, 30.0), ("Model B", 420.1, 14.0), ("Model A", 412.6, 15.0)]
    runs = [sample_runs.write_run(tmp_path / name, sample_runs.model(name, v, half)) for name, v, half in models]
    text = shown(benchmark_table(compare_runs(runs)), 100)
    lines = text.splitlines()
    order = [
        line.split("●")[0].strip() + " " + line.split("●")[1].split("  ")[0].strip() for line in lines if " ● " in line
    ]
    assert order == ["1–2 Model A", "1–2 Model B", "3 Frozen"]
    assert "FVD from papers  61 numbers, none with the same setting, so none is ranked" in text
    assert "○ CogVideo (2022)" in text
    assert "high confidence [magvit]; disputed (1)" in " ".join(text.split())
    assert "(1) disputed: CogVideo UCF: 626/50.46" in text
    assert "55 more" in text
    assert "[magvit] MAGVIT paper (arXiv 2212.05199)" in text
    everything = shown(benchmark_table(compare_runs(runs), printed=None), 100)
    assert everything.count("○ ") == 61
    assert "○" not in shown(benchmark_table(compare_runs(runs), printed=0), 100)


def test_leading_entries_are_bold_and_only_they(sample_runs, tmp_path):
    models = [("Frozen", 903.0, 30.0), ("Model B", 420.1, 14.0), ("Model A", 412.6, 15.0)]
    runs = [sample_runs.write_run(tmp_path / name, sample_runs.model(name, v, half)) for name, v, half in models]
    screen = Screen()
    console = make_console(screen, environ={"COLUMNS": "100", "TERM": "xterm"})
    console.print(benchmark_table(compare_runs(runs), printed=0))
    text = screen.getvalue()
    assert "\x1b[1;36m● Model A\x1b[0m" in text
    assert "\x1b[1;36m● Model B\x1b[0m" in text
    assert "\x1b[1;36m● Frozen" not in text


def test_a_partial_run_has_the_half_disc(sample_runs, tmp_path):
    partial = sample_runs.model("Model A", 400.0, 9.0, status="partial", counts=_partial())
    whole = sample_runs.model("Model B", 500.0, 9.0)
    runs = [sample_runs.write_run(tmp_path / name, found) for name, found in (("a", partial), ("b", whole))]
    text = shown(benchmark_table(compare_runs(runs), printed=0))
    assert "◐ Model A" in text
    assert "● Model B" in text


def test_paths_are_never_cut(sample_runs):
    path = Path("runs") / ("x" * 150) / "result.json"
    assert str(path) in shown(results_table(sample_runs.result(), {"data": path}), 80).replace("\n", "")


def test_a_reader_that_has_gone_is_left_to_the_door():
    class Gone(Screen):
        def write(self, text: str) -> int:
            raise BrokenPipeError(32, "Broken pipe")

    with pytest.raises(BrokenPipeError):
        make_console(Gone(is_terminal=False), environ={}).print("text")
