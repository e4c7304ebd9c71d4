"""How narrow the intervals are so far: what the admin page and `human status` show while a study runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from human_eval.study.design import Study, said

if TYPE_CHECKING:
    from human_eval.analysis.tables import StudyTables

# Few, because the page shows the two-way interval by formula; the drawn ones are for the analysis.
RESAMPLES = 20


def half_widths(tables: StudyTables, study: Study) -> list[tuple[str, float]]:
    """(aspect, half-width in score units) of the two-way 95 % interval of a mean, the widest of the models."""
    from human_eval.analysis.means import mean_opinions

    found = []
    for aspect in study.aspects:
        rows = tables.ratings[tables.ratings["aspect"] == aspect.id]
        if not len(rows):
            continue
        opinions, _ = mean_opinions(rows, scale=(aspect.scale.low, aspect.scale.high), resamples=RESAMPLES)
        widths = [
            (one.interval.high - one.interval.low) / 2
            for one in opinions
            if one.interval.low is not None and one.interval.high is not None
        ]
        if widths:
            found.append((said(aspect.name, "en"), max(widths)))
    return found
