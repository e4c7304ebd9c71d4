"""Who sees what, in which order: cells of a balanced design, the least-filled one for each new rater, all seeded.

A cell is an offset into the arrangements (which models, in which order on the page); a row is an order of the items.
Sources: Williams 1949 and Bose 1939 by `human_eval.designs`; the least-filled cell counts complete and live raters.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from human_eval.designs import ordered_blocks, williams
from human_eval.study.building import anchor, trap_points
from human_eval.study.design import Study


class Seat(NamedTuple):
    """A place in the design: the cell and the row of items."""

    cell: int
    row: int


class PlannedTrial(NamedTuple):
    """One page. `stimuli` in the order on screen; `expected` is what a check demands (`human_eval.checks`)."""

    position: int
    kind: str
    item: str
    stimuli: tuple[str, ...]
    expected: dict[str, Any]


def arrangements(study: Study) -> list[tuple[str, ...]]:
    """The pages that one item can be shown on: models in the order on screen."""
    names = [model.id for model in study.models]
    if study.slots == 1:
        return [(name,) for name in names]
    return [tuple(names[which] for which in row) for row in ordered_blocks(len(names), study.slots)]


def cell_count(study: Study) -> int:
    """How many cells the design has. Where one video is shown at a time, a cell is an order of models over trials."""
    return len(williams(len(study.models))) if study.slots == 1 else len(arrangements(study))


def row_count(study: Study) -> int:
    """How many orders of the items there are."""
    return len(_item_orders(len(study.main_items)))


@lru_cache(maxsize=8)
def _item_orders(n: int) -> list[tuple[int, ...]]:
    return williams(n)


def draw_seat(study: Study, taken: Iterable[Seat], closed: Iterable[int], ordinal: int) -> Seat | None:
    """The seat of the next rater: the least-filled open cell and the least-filled row, ties by seeded lot.

    `taken` holds the seats of complete and live raters. None if every cell is closed.
    """
    seats = list(taken)
    random = generator(study.seed, "seat", ordinal)
    shut = set(closed)
    open_cells = [cell for cell in range(cell_count(study)) if cell not in shut]
    if not open_cells:
        return None
    cell = _least(Counter(seat.cell for seat in seats), open_cells, random)
    row = _least(Counter(seat.row for seat in seats), range(row_count(study)), random)
    return Seat(cell, row)


def plan_trials(study: Study, seat: Seat, ordinal: int) -> list[PlannedTrial]:
    """Practice, then the analysed pages with the checks spread among them. The same for the same three arguments."""
    random = generator(study.seed, "trials", ordinal)
    main = [
        PlannedTrial(0, "main", item, tuple(f"{item}/{model}" for model in models), {})
        for item, models in (_single(study, seat, random) if study.slots == 1 else _pages(study, seat))
    ]
    pages = _with_checks(study, main, random)
    practice = [_practice(study, k, random) for k in range(study.training)]
    return [page._replace(position=at) for at, page in enumerate((*practice, *pages), start=1)]


def generator(seed: int, purpose: str, ordinal: int) -> np.random.Generator:
    """A stream of its own for each purpose and rater."""
    digest = hashlib.sha256(f"{seed}|{purpose}|{ordinal}".encode()).digest()
    return np.random.Generator(np.random.Philox(int.from_bytes(digest[:8], "big")))


def _least(counts: Counter[int], choices: Sequence[int], random: np.random.Generator) -> int:
    least = min(counts[choice] for choice in choices)
    ties = [choice for choice in choices if counts[choice] == least]
    return ties[int(random.integers(len(ties)))]


def _ranks(study: Study) -> list[int]:
    """A seeded number for each main item, so that neighbours in the file do not share an arrangement."""
    return [int(rank) for rank in generator(study.seed, "items", 0).permutation(len(study.main_items))]


def _pages(study: Study, seat: Seat) -> list[tuple[str, tuple[str, ...]]]:
    """Items in the row's order; which arrangement an item gets turns with the cell, so that over all cells each item
    is shown in each arrangement once."""
    shown, ranks, items = arrangements(study), _ranks(study), study.main_items
    orders = _item_orders(len(items))
    found = [
        (items[item].id, shown[(ranks[item] + seat.cell + turn) % len(shown)])
        for turn in range(study.passes)
        for item in orders[(seat.row + turn) % len(orders)]
    ]
    return found[: study.trials]


def _single(study: Study, seat: Seat, random: np.random.Generator) -> list[tuple[str, tuple[str, ...]]]:
    """One video a page: models follow each other as in a Williams square, items as the row says, and no item is shown
    twice in a row if that can be avoided."""
    names = [model.id for model in study.models]
    ranks, items, orders = _ranks(study), study.main_items, williams(len(names))
    rows = _item_orders(len(items))
    pools: dict[int, list[int]] = {model: [] for model in range(len(names))}
    for turn in range(len(names)):
        for item in rows[(seat.row + turn) % len(rows)]:
            pools[(ranks[item] + seat.cell + turn) % len(names)].append(item)
        if sum(map(len, pools.values())) >= study.trials:
            break
    found: list[tuple[str, tuple[str, ...]]] = []
    last = -1
    order = seat.cell
    while len(found) < study.trials:
        for model in orders[order]:
            pool = pools[model] or max(pools.values(), key=len)
            if len(found) == study.trials or not pool:
                break
            which = next((at for at, item in enumerate(pool) if item != last), 0)
            owner = next(key for key, value in pools.items() if value is pool)
            last = pool.pop(which)
            found.append((items[last].id, (names[owner],)))
        # Where two orders meet, no model follows itself, and each other model is as likely.
        fitting = [one for one in range(len(orders)) if orders[one][0] != orders[order][-1]] or [order]
        order = fitting[int(random.integers(len(fitting)))]
    return found


def _practice(study: Study, k: int, random: np.random.Generator) -> PlannedTrial:
    item = study.spare_items[k % len(study.spare_items)].id
    stimuli = _gold_stimuli(study, item, k, random)
    return PlannedTrial(0, "training", item, stimuli, {"damaged": stimuli.index(f"{item}/#damaged") + 1})


def _gold_stimuli(study: Study, item: str, k: int, random: np.random.Generator) -> tuple[str, ...]:
    """The damaged clip, the clean one that it was made of, and others to fill the page, in random order."""
    others = [model.id for model in study.models if model.id != anchor(study)]
    names = ["#damaged", anchor(study), *others[k % max(1, len(others)) :], *others[: k % max(1, len(others))]]
    page = names[: study.slots]
    return tuple(f"{item}/{page[int(at)]}" for at in random.permutation(len(page)))


def _with_checks(study: Study, main: list[PlannedTrial], random: np.random.Generator) -> list[PlannedTrial]:
    checks = study.checks
    spare = [item.id for item in study.spare_items]
    # After the items of practice, so that a check is not known already.
    made = [_gold(study, spare[(study.training + k) % len(spare)], k, random) for k in range(checks.gold)]
    shown = arrangements(study)
    for k in range(checks.instructed):
        item = spare[(study.training + checks.gold + k) % len(spare)]
        models = shown[int(random.integers(len(shown)))]
        made.append(
            PlannedTrial(0, "instructed", item, tuple(f"{item}/{m}" for m in models), instruction(study, k, random))
        )
    for k in range(checks.trap):
        item = spare[(study.training + checks.gold + checks.instructed + k) % len(spare)]
        on_page = list(shown[int(random.integers(len(shown)))])
        point = trap_points(study)[k % len(trap_points(study))]
        slot = int(random.integers(len(on_page)))
        on_page[slot] = f"#trap-{point}"
        answers = {f"v{slot + 1}.{aspect.id}": str(point) for aspect in study.aspects if point in aspect.scale.points}
        made.append(PlannedTrial(0, "trap", item, tuple(f"{item}/{m}" for m in on_page), {"equal": answers}))
    pages = list(main)
    for at, check in enumerate(made, start=1):
        low, high = (len(main) * (at - 1)) // max(1, len(made)), (len(main) * at) // max(1, len(made))
        place = low + int(random.integers(1, max(2, high - low)))
        pages.insert(min(place + at - 1, len(pages)), check)
    first_half = main[: max(1, len(main) // 2)]
    for k in range(checks.repeat):
        source = first_half[int(random.integers(len(first_half)))] if k else first_half[0]
        pages.append(source._replace(kind="repeat", expected={"repeat": [source.item, *source.stimuli]}))
    return pages


def _gold(study: Study, item: str, k: int, random: np.random.Generator) -> PlannedTrial:
    stimuli = _gold_stimuli(study, item, k, random)
    bad = stimuli.index(f"{item}/#damaged") + 1
    tolerance = study.checks.tolerance
    clean_id = f"{item}/{anchor(study)}"
    if study.slots == 1:
        aspect = study.aspects[-1]
        most = aspect.scale.low + (len(aspect.scale.points) - 1) // 2 + tolerance
        return PlannedTrial(0, "gold", item, stimuli, {"most": {f"v1.{aspect.id}": most}})
    clean = stimuli.index(clean_id) + 1
    if study.pair:
        return PlannedTrial(0, "gold", item, stimuli, {"equal": {"choice": str(clean)}})
    expected: dict[str, Any] = {}
    if study.aspects:
        aspect = study.aspects[-1]
        expected["below"] = [[f"v{bad}.{aspect.id}", f"v{clean}.{aspect.id}", tolerance]]
    if study.favourite:
        expected["not"] = {"favourite": str(bad)}
    return PlannedTrial(0, "gold", item, stimuli, expected)


def instruction(study: Study, k: int, random: np.random.Generator) -> dict[str, Any]:
    """What an instructed page demands: one point for every scale and, at the end, "Cannot say" or a named video."""
    if study.pair:
        allowed = study.allowed("choice")
        return {"equal": {"choice": allowed[int(random.integers(len(allowed)))]}}
    expected: dict[str, str] = {}
    if study.aspects:
        shared = set.intersection(*(set(aspect.scale.points) for aspect in study.aspects))
        points = sorted(shared) or [study.aspects[0].scale.low]
        point = str(points[int(random.integers(len(points)))])
        for slot in range(1, study.slots + 1):
            for aspect in study.aspects:
                if int(point) in aspect.scale.points:
                    expected[f"v{slot}.{aspect.id}"] = point
    if study.favourite:
        allowed = study.allowed("favourite")
        expected["favourite"] = "none" if "none" in allowed else allowed[int(random.integers(len(allowed)))]
    return {"equal": expected}
