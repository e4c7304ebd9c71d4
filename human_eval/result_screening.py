"""What the screening rules removed and what that changed, on the result page."""

from __future__ import annotations

from eval.notation import number
from human_eval.analysis.analyze import AnalysisResult
from human_eval.result_names import Names
from human_eval.result_tables import Column, Group, Row, Section, several, words_of

INTERVAL = Column("95 % interval", kind="right")


def screening_section(result: AnalysisResult, names: Names) -> Section:
    """What the rules fixed beforehand removed, and what that changed."""
    excluded, everybody = result.excluded, result.everybody
    flagged = {
        rule: [name for name, one in result.screening.raters.items() if rule in one.flags] for rule in result.rules
    }
    rejected = sum(one.rejected for one in result.bt500.values())
    facts = [
        (
            rule,
            f"{words}: {several(len(flagged[rule]), 'rater')}"
            + ("" if rule in result.settings.rules.excluding or "never" in words else ", nobody left out for it"),
        )
        for rule, words in result.rules.items()
    ]
    facts.append(
        ("BT.500", f"would reject {several(rejected, 'rater')}; given to compare with, nobody is left out for it")
    )
    facts.append(("payment", f"refused to {several(len(result.refused_payment), 'rater')}: decided by checks alone"))
    title, head = "What screening removed", "Model"
    if not excluded or everybody is None:
        return Section(
            "screening",
            title,
            f"Nobody: all {several(result.n_raters, 'rater')} passed the rules fixed beforehand.",
            facts=tuple(facts),
        )
    groups, moved = [], []
    for name, aspect in result.analysed.aspects.items():
        before = {one.model: one for one in everybody.aspects[name].opinions} if name in everybody.aspects else {}
        rows = []
        for one in aspect.opinions:
            other = before.get(one.model)
            if other is None:
                continue
            moved.append(abs(one.mean - other.mean))
            rows.append(
                Row(
                    names.model(one.model),
                    (
                        number(one.mean, 2),
                        words_of(one.interval, 2),
                        number(other.mean, 2),
                        words_of(other.interval, 2),
                        number(one.mean - other.mean, 2, sign=True),
                        f"{other.n - one.n:,} of {other.n:,}",
                    ),
                )
            )
        groups.append(Group(names.aspect(aspect.aspect), rows))
    sentence = f"{len(excluded):,} of {several(result.n_raters, 'rater')} left out by rules fixed beforehand"
    sentence += f"; it moved a mean by {max(moved):.2f} at most." if moved else "."
    return Section(
        "screening",
        title,
        sentence,
        "Means without the raters that were left out, and with everybody.",
        head,
        (
            Column("Mean", "analysed", "right"),
            INTERVAL,
            Column("Mean", "everybody", "right"),
            INTERVAL,
            Column("Moved by", kind="right"),
            Column("Removed", "ratings", "right"),
        ),
        groups,
        tuple(facts),
    )


def left_out_section(result: AnalysisResult) -> Section | None:
    """Each rater that was left out, with what was measured of them."""
    if not result.excluded:
        return None
    rows = []
    for name, rules in result.excluded.items():
        one = result.screening.raters[name]
        checks = f"{one.checks_passed} of {one.checks_shown}" if one.checks_shown else "none shown"
        rows.append(
            Row(
                name,
                (
                    ", ".join(rules),
                    _number_or(one.variance, 2),
                    checks,
                    _number_or(one.median_response_seconds, 1),
                    _number_or(one.correlation, 2),
                    "pay" if one.accept else "do not pay",
                    f"{one.n:,}",
                ),
            )
        )
    return Section(
        "left-out",
        "Raters left out",
        f"{several(len(rows), 'rater')}, with what was measured of each.",
        head="Rater",
        columns=(
            Column("By which rule"),
            Column("Variance", kind="right"),
            Column("Checks passed", kind="right"),
            Column("Median time", "seconds", "right"),
            Column("Correlation", "with the others", "right"),
            Column("Payment"),
            Column("n", "ratings", "right"),
        ),
        groups=[Group("", rows)],
    )


def _number_or(value: float | None, decimals: int) -> str:
    return "too few" if value is None else number(value, decimals)
