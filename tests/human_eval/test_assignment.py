"""Balance of the design: cells, positions, who follows whom; checks that a careful rater passes."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise

import pytest
from scipy.stats import chisquare

from human_eval.assignment import Seat, arrangements, cell_count, draw_seat, plan_trials, row_count
from human_eval.checks import judge
from human_eval.study.design import Item, Model, Study
from human_eval.study.presets import from_preset


def study(preset: str, models: int, items: int = 12, **settings: object) -> Study:
    return from_preset(
        preset,
        "kites",
        [Model(id=f"m{k}") for k in range(models)],
        [Item(id=f"i{k}", prompt=f"prompt {k}") for k in range(items)],
        **settings,
    )


def fill(design: Study, raters: int) -> list[tuple[Seat, list]]:
    seats: list[Seat] = []
    sessions = []
    for ordinal in range(raters):
        seat = draw_seat(design, seats, (), ordinal)
        assert seat is not None
        seats.append(seat)
        sessions.append((seat, plan_trials(design, seat, ordinal)))
    return sessions


def models_of(trial) -> list[str]:
    return [stimulus.partition("/")[2] for stimulus in trial.stimuli]


@pytest.mark.parametrize(
    ("preset", "models", "settings"),
    [
        ("cogvideo-2022", 3, {}),
        ("cogvideo-2022", 4, {}),
        ("cogvideo-2022", 5, {"per_page": 3}),
        ("pairwise", 4, {}),
        ("mos", 3, {}),
        ("mos", 4, {"quota": {"trials": 12}}),
    ],
)
def test_cells_rows_and_positions_are_balanced_to_within_one(preset: str, models: int, settings: dict) -> None:
    design = study(preset, models, **settings)
    raters = cell_count(design) * row_count(design) // 2 + 5
    sessions = fill(design, raters)
    cells, rows = Counter(seat.cell for seat, _ in sessions), Counter(seat.row for seat, _ in sessions)
    assert len(cells) == cell_count(design)
    assert max(cells.values()) - min(cells.values()) <= 1
    assert max(rows.values()) - min(rows.values()) <= 1
    shown = Counter((trial.item, trial.stimuli) for _, trials in sessions for trial in trials if trial.kind == "main")
    if design.trials == len(design.main_items) and design.slots > 1:
        assert len(shown) == len(design.main_items) * len(arrangements(design))
        assert max(shown.values()) - min(shown.values()) <= 1
    for _, trials in sessions:
        main = [trial for trial in trials if trial.kind == "main"]
        assert len(main) == design.trials
        assert len({trial.stimuli for trial in main}) == design.trials
        assert [trial.position for trial in trials] == list(range(1, len(trials) + 1))
        assert len(trials) == design.training + design.all_trials


@pytest.mark.parametrize("models", [3, 4])
def test_full_blocks_have_equal_carry_over_on_the_page_and_over_items(models: int) -> None:
    design = study("cogvideo-2022", models, checks={"gold": 0, "instructed": 0})
    sessions = fill(design, cell_count(design) * row_count(design))
    beside: Counter[tuple[str, str]] = Counter()
    after: Counter[tuple[str, str]] = Counter()
    for _, trials in sessions:
        main = [trial for trial in trials if trial.kind == "main"]
        for trial in main:
            beside.update(pairwise(models_of(trial)))
        after.update(pairwise(trial.item for trial in main))
    assert len(beside) == models * (models - 1)
    assert len(set(beside.values())) == 1
    assert len(after) == 12 * 11
    assert len(set(after.values())) == 1


def test_one_at_a_time_models_follow_each_other_evenly_and_never_themselves() -> None:
    design = study("mos", 3, checks={"gold": 0, "instructed": 0, "trap": 0, "repeat": 0}, training=0)
    after: Counter[tuple[str, str]] = Counter()
    for _, trials in fill(design, 60):
        after.update(pairwise(models_of(trial)[0] for trial in trials))
        assert all(first.item != second.item for first, second in pairwise(trials))
    assert all(first != second for first, second in after)
    assert max(after.values()) < 1.15 * min(after.values())


def test_screen_position_says_nothing_about_the_model_over_ten_thousand_enrolments() -> None:
    design = study("cogvideo-2022", 3, items=6, quota={"raters": 10_000})
    cells: Counter[int] = Counter()
    rows: Counter[int] = Counter()
    places: Counter[tuple[str, int]] = Counter()
    for ordinal in range(10_000):
        # The counts stand in for ten thousand seats: drawing looks at nothing else.
        least = [Seat(cell, 0) for cell, n in cells.items() for _ in range(n - min(cells.values(), default=0))]
        if len(cells) < cell_count(design):
            least = [Seat(cell, 0) for cell in cells]
        seat = draw_seat(design, least, (), ordinal)
        assert seat is not None
        cells[seat.cell] += 1
        rows[seat.row] += 1
        for trial in plan_trials(design, seat, ordinal):
            if trial.kind == "main":
                places.update((model, slot) for slot, model in enumerate(models_of(trial)))
    assert max(cells.values()) - min(cells.values()) <= 1
    assert len(places) == 9
    assert chisquare(list(places.values())).pvalue > 0.001


def test_after_dropouts_are_replaced_cells_differ_by_one_at_most() -> None:
    design = study("cogvideo-2022", 3)
    lots = random.Random(4)
    complete: list[Seat] = []
    live: list[Seat] = []
    ordinal = 0
    while len(complete) < 90:
        while len(complete) + len(live) < 90 and len(live) < 12:
            seat = draw_seat(design, [*complete, *live], (), ordinal)
            assert seat is not None
            live.append(seat)
            ordinal += 1
        seat = live.pop(lots.randrange(len(live)))
        if lots.random() > 0.3:
            complete.append(seat)
    counts = Counter(seat.cell for seat in complete)
    assert ordinal > 110
    assert max(counts.values()) - min(counts.values()) <= 1


def test_a_closed_cell_gets_nobody_and_none_open_lets_nobody_in() -> None:
    design = study("cogvideo-2022", 3)
    seats: list[Seat] = []
    for ordinal in range(20):
        seat = draw_seat(design, seats, (0, 3), ordinal)
        assert seat is not None
        seats.append(seat)
    assert not {0, 3} & {seat.cell for seat in seats}
    assert draw_seat(design, seats, range(6), 20) is None


def test_everything_is_drawn_from_the_seed() -> None:
    one, two, other = (study("mos", 3, seed=seed) for seed in (1, 1, 2))
    assert fill(one, 9) == fill(two, 9)
    assert fill(one, 9) != fill(other, 9)


@pytest.mark.parametrize("preset", ["cogvideo-2022", "pairwise", "mos"])
def test_a_rater_who_looks_passes_each_check_and_one_who_does_not_fails(preset: str) -> None:
    design = study(
        preset, 3, checks={"instructed": 2, "gold": 2, "repeat": 0, "trap": 0 if preset == "pairwise" else 2}
    )
    failed = 0
    for _, trials in fill(design, 12):
        for trial in (trial for trial in trials if trial.kind in ("instructed", "gold", "trap")):
            good, lazy = {}, {}
            bad = next((at for at, s in enumerate(trial.stimuli, 1) if s.endswith("#damaged")), 0)
            for field in design.fields:
                allowed = design.allowed(field)
                good[field] = allowed[-1]
                if field.startswith(f"v{bad}."):
                    good[field] = allowed[0]
                lazy[field] = allowed[len(allowed) // 2]
            if bad and "favourite" in good:
                good["favourite"] = "none"
            if bad and "choice" in good:
                good["choice"] = str(3 - bad)
            good |= trial.expected.get("equal", {})
            assert judge(trial.expected, good) == ""
            failed += bool(judge(trial.expected, lazy))
    assert failed > 20


def test_repeats_are_judged_against_the_first_time() -> None:
    expected = {"repeat": ["i1", "i1/m0"]}
    assert judge(expected, {"v1.quality": "4"}, {"v1.quality": "5"}) == ""
    assert "2.0 points" in judge(expected, {"v1.quality": "3"}, {"v1.quality": "5"})
    assert "a repeated pair" in judge(expected, {"choice": "1"}, {"choice": "2"})
