"""Automatic metrics against people, and the means by other models of raters, on the result page."""

from __future__ import annotations

from eval.notation import number
from human_eval.analysis.correlation import Coefficient
from human_eval.analysis.findings import Findings
from human_eval.result_names import Names
from human_eval.result_tables import Column, Group, Row, Scale, Section, excludes_zero, p_words, several, words_of

MINUS_TO_ONE = Scale(-1.0, 1.0, 0.5)
INTERVAL = Column("95 % interval", kind="right")


def metrics_section(found: Findings, names: Names) -> Section | None:
    """Automatic metrics of the runs against people."""
    if not found.aspects:
        return None
    title = "Automatic metrics against people"
    kept = {aspect: one for aspect, one in found.metrics.items() if one.metrics}
    if not kept:
        return Section(
            "metrics",
            title,
            "The study has no automatic metrics, so none is compared with people.",
            "A study made from run folders (human init --runs) takes along the metrics of the runs.",
        )
    groups = []
    for aspect, found_of in kept.items():
        rows = []
        for metric in found_of.metrics:
            better = "higher is better" if metric.direction == "higher" else "lower is better"
            pairs = several(metric.model_pairs, "pair")
            order = (
                "unknown" if metric.ranking_accuracy is None else f"{100 * metric.ranking_accuracy:.0f} % of {pairs}"
            )
            for level, coefficients in (("models", metric.by_model), ("videos", metric.by_item)):
                each = [one for one in coefficients.values() if one.n]
                rows += [_metric_row(metric.metric, better, level, order, one) for one in each]
        groups.append(Group(names.aspect(aspect), rows))
    metrics = {one.metric for each in kept.values() for one in each.metrics}
    few = min((c.n for each in kept.values() for m in each.metrics for c in m.by_model.values() if c.n), default=0)
    sentence = f"{several(len(metrics), 'metric')} against the mean score by people"
    sentence += f"; with {several(few, 'model')} a coefficient by model says little." if 0 < few < 10 else "."
    facts = tuple(
        (
            f"{gap.first} − {gap.second}",
            f"{names.aspect(aspect)}, {gap.kind}: {number(gap.difference, 2, sign=True)}, 95 % interval "
            f"{words_of(gap.interval, 2, sign=True)}, n = {gap.n:,} videos of {several(gap.models, 'model')}",
        )
        for aspect, one in kept.items()
        for gap in one.differences
    )
    return Section(
        "metrics",
        title,
        sentence,
        "Coefficients keep the metric's own sign: where lower is better, agreement is negative. By video, the interval "
        "draws whole models again where there are enough of them, else it is that of the transform and too narrow. "
        "Figures show the models with the 95 % intervals of both numbers, then the videos. Last column: share of the "
        "pairs of models that the metric orders as people do. Below the table: difference of two metrics' "
        "coefficients, each turned so that larger is better.",
        "Metric",
        (
            Column("Coefficient"),
            Column("Value", kind="right"),
            INTERVAL,
            Column("−1 to 1", kind="figure"),
            Column("p", kind="right"),
            Column("n", kind="right"),
            Column("Order kept", "pairs of models", "right"),
        ),
        groups,
        facts,
        has_plots=True,
    )


def _metric_row(metric: str, better: str, level: str, order: str, one: Coefficient) -> Row:
    interval = one.clustered if one.clustered is not None and one.clustered.low is not None else one.interval
    label = f"{one.kind.capitalize()} by {level[:-1]}"
    words = words_of(interval, 2, sign=True)
    if one.value is None:
        mark = MINUS_TO_ONE.mark(None, None, words)
        return Row(f"{metric}, {better}", (label, "none", words, mark, "no test", f"{one.n:,} {level}", order))
    value = number(one.value, 2, sign=True)
    mark = MINUS_TO_ONE.mark(one.value, interval, f"{metric}, {label}: {value}, {words}, n = {one.n}", has_zero=True)
    cells = (
        label,
        value,
        words,
        mark,
        p_words(one.p),
        f"{one.n:,} {level}",
        order if level == "models" else "as by model",
    )
    return Row(f"{metric}, {better}", cells, excludes_zero(interval))


def models_section(found: Findings, names: Names) -> Section | None:
    """The means by two other models of raters, which should say the same."""
    if not found.aspects or all(aspect.mixed_model is None for aspect in found.aspects.values()):
        return None
    groups, facts = [], []
    for aspect in found.aspects.values():
        fitted, rows = aspect.mixed_model, []
        for one in aspect.opinions:
            bias_free = aspect.rater_model.quality_by_model.get(one.model)
            cells = [number(one.mean, 2), number(bias_free, 2)]
            if fitted is None:
                cells += ["no fit", "no interval"]
            elif one.model == fitted.reference:
                cells += ["reference", "reference"]
            else:
                inside = fitted.intervals.get(one.model)
                value = fitted.fixed.get(one.model)
                cells += [number(value, 2, sign=True), words_of(inside, 2, sign=True)]
            rows.append(Row(names.model(one.model), tuple(cells)))
        groups.append(Group(names.aspect(aspect.aspect), rows))
        bias = list(aspect.rater_model.bias.values())
        if fitted is not None and bias:
            facts.append(
                (
                    names.aspect(aspect.aspect),
                    f"raters' leniency from {number(min(bias), 2, sign=True)} to {number(max(bias), 2, sign=True)}; "
                    f"variance of raters {fitted.var_rater:.2f}, of prompts {fitted.var_item:.2f}, "
                    f"of the rest {fitted.var_residual:.2f}",
                )
            )
    return Section(
        "models",
        "The same by other models of raters",
        "Two models that allow for lenient and strict raters stand beside the plain means.",
        "P.910 takes each rater's leniency off and trusts steady raters more. The mixed model has raters and prompts "
        "as random effects; its column is the difference from the first model. Its interval leaves out that raters and "
        "prompts differ in which model they favour: where it is narrower than the two-way one, quote the two-way.",
        "Model",
        (
            Column("Mean", kind="right"),
            Column("P.910", "leniency taken off", "right"),
            Column("Mixed model", "difference", "right"),
            INTERVAL,
        ),
        groups,
        tuple(facts),
    )
