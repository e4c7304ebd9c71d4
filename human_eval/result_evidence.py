"""What stands behind the scores on the result page: how sure they are, tests, agreement, places, metrics, screening."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from eval.notation import number
from human_eval.analysis.agreement import Alpha
from human_eval.analysis.analyze import AnalysisResult
from human_eval.analysis.correlation import Coefficient
from human_eval.analysis.findings import AspectFindings, Findings
from human_eval.analysis.rank_tests import Friedman, PairTest
from human_eval.analysis.resampling import Interval
from human_eval.result_tables import (
    Column,
    Group,
    Row,
    Scale,
    Section,
    excludes_zero,
    listed,
    p_words,
    scale_round,
    several,
    words_of,
)

ZERO_TO_ONE = Scale(0.0, 1.0, 0.25)
MINUS_TO_ONE = Scale(-1.0, 1.0, 0.5)
INTERVAL = Column("95 % interval", kind="right")
Names = Mapping[str, str]


def evidence(result: AnalysisResult, names: Names) -> list[Section]:
    """The sections in the order of the page. `names` are the aspects' words by id."""
    found = result.analysed
    parts = [naive_section(found, names), *tests_section(found, names), agreement_section(found, names)]
    parts += [position_section(found, names), metrics_section(found, names), models_section(found, names)]
    return [part for part in parts if part is not None]


def naive_section(found: Findings, names: Names) -> Section | None:
    """How far intervals that take answers as independent fall short."""
    if not found.aspects:
        return None
    known = [
        (one.interval.se / one.naive.se, one.n / one.n_effective)
        for aspect in found.aspects.values()
        for one in aspect.opinions
        if one.interval.se is not None and one.naive.se and one.n_effective
    ]
    title = "How far naive intervals fall short"
    if not known:
        return Section("naive", title, "Too few raters or prompts to say: the two-way interval needs two of each.")
    ratios = [ratio for ratio, _ in known]
    groups = []
    for aspect in found.aspects.values():
        scale = scale_round([end for one in aspect.opinions for end in (one.interval.low, one.interval.high, one.mean)])
        rows = []
        for one in aspect.opinions:
            wide, narrow = words_of(one.interval, 2), words_of(one.naive, 2)
            ratio = one.interval.se / one.naive.se if one.interval.se is not None and one.naive.se else None
            mark = scale.mark(
                one.mean, one.interval, f"{one.model}: {wide}; as if independent {narrow}", naive=one.naive
            )
            worth = "unknown" if one.n_effective is None else f"{one.n_effective:,.0f}"
            times = "unknown" if ratio is None else f"{ratio:.1f}"
            rows.append(Row(one.model, (wide, narrow, mark, times, f"{one.n:,}", worth)))
        groups.append(Group(_name(names, aspect), rows))
    return Section(
        "naive",
        title,
        f"Taken as independent, these ratings would give intervals {_range(ratios)} times too narrow.",
        "Ratings of one rater are alike, and so are ratings of one prompt: thousands of them say as much as the few "
        "independent ratings in the last column. The naive interval (thin line below) treats each rating as a new "
        "person with a new prompt; it does not hold the truth as often as it says. Quote the two-way interval.",
        "Model",
        (
            Column("95 % interval", "two-way", "right"),
            Column("Naive", "as if independent", "right"),
            Column("Both", kind="figure"),
            Column("Too narrow", "times", "right"),
            Column("n", "ratings", "right"),
            Column("Worth", "independent ratings", "right"),
        ),
        groups,
    )


def tests_section(found: Findings, names: Names) -> list[Section]:
    """Differences of the means with their interval, and tests on raters' means."""
    if not found.aspects:
        return []
    if not any(aspect.differences for aspect in found.aspects.values()):
        return [Section("tests", "Differences and tests", "One model only: there is nothing to compare.")]
    told, asked, groups, facts = 0, 0, [], []
    for aspect in found.aspects.values():
        tests = {(one.first, one.second): one for one in aspect.pair_tests}
        ends = [end for gap in aspect.differences for end in (gap.interval.low, gap.interval.high, gap.difference)]
        scale, rows = scale_round(list(ends), is_symmetric=True), []
        for gap in aspect.differences:
            asked, is_told = asked + 1, excludes_zero(gap.interval)
            told += is_told
            better = gap.first if gap.difference > 0 else gap.second
            words = words_of(gap.interval, 2, sign=True)
            reading = f"{better} is higher" if is_told else "No difference found"
            if gap.interval.low is None:
                reading = "n too small to say"
            value = number(gap.difference, 2, sign=True)
            mark = scale.mark(
                gap.difference, gap.interval, f"{gap.first} minus {gap.second}: {value}, {words}", has_zero=True
            )
            cells = _test_cells(tests.get((gap.first, gap.second)))
            rows.append(Row(f"{gap.first} − {gap.second}", (value, words, mark, reading, *cells), is_told))
        groups.append(Group(_name(names, aspect), rows))
        facts.append((_name(names, aspect), _friedman_words(aspect.friedman)))
    sentence = f"{told} of {several(asked, 'difference')} of two models can be told from zero."
    return [
        Section(
            "tests",
            "Differences and tests",
            sentence,
            "Difference of the mean scores with its two-way 95 % interval. The tests beside it compare the raters' "
            "means, so that a rater counts once; their p-values take prompts as fixed. Each p is adjusted over all "
            "pairs of its aspect: Holm for any false call, Benjamini-Hochberg (BH) for the share of false calls.",
            "Pair",
            (
                Column("Difference", kind="right"),
                Column("95 % interval", "two-way", "right"),
                Column("Against zero", kind="figure"),
                Column("Reading"),
                Column("Wilcoxon p", "Holm", "right"),
                Column("Wilcoxon p", "BH", "right"),
                Column("Paired t p", "Holm", "right"),
                Column("Effect", "d of raters", "right"),
                Column("Rank effect", "−1 to 1", "right"),
                Column("n", "raters", "right"),
            ),
            groups,
            tuple((f"Friedman, {name}", words) for name, words in facts),
        )
    ]


def _test_cells(test: PairTest | None) -> tuple[str, ...]:
    if test is None:
        return ("no test",) * 6
    return (
        p_words(test.wilcoxon_p_holm),
        p_words(test.wilcoxon_p_bh),
        p_words(test.t_p_holm),
        number(test.dz, 2, sign=True),
        number(test.rank_biserial, 2, sign=True),
        f"{test.raters:,}",
    )


def _friedman_words(test: Friedman | None) -> str:
    if test is None:
        return "no test: it needs three models that two raters rated, and scores that vary"
    return (
        f"χ² = {test.chi2:.1f}, p {_equals(test.p)}, Kendall's W = {test.kendall_w:.2f}, over "
        f"{several(test.models, 'model')} and {several(test.raters, 'rater')}"
    )


def _equals(p: float) -> str:
    words = p_words(p)
    return words if words.startswith("<") else f"= {words}"


def agreement_section(found: Findings, names: Names) -> Section | None:
    """Krippendorff's alpha, intra-class correlations, kappas: how far raters agree."""
    if not found.aspects:
        return None
    title = "How far raters agree"
    if found.raters < 2:
        return Section("agreement", title, "One rater only: agreement needs two.")
    groups, ordinal = [], []
    for aspect in found.aspects.values():
        agreed, rows = aspect.agreement, []
        alpha = agreed.alpha["ordinal"]
        if alpha.value is not None:
            ordinal.append(alpha.value)
        for kind, one in agreed.alpha.items():
            rows.append(_alpha_row(kind, one))
        units = several(agreed.icc.units, "video")
        for label, name in (
            ("ICC(A,1), one rater", "ICC(A,1)"),
            ("ICC(C,1), one rater, leniency aside", "ICC(C,1)"),
            (f"ICC(A,k), mean of {agreed.icc.raters:,}", "ICC(A,k)"),
        ):
            icc = agreed.icc.coefficients.get(name)
            if icc is None:
                rows.append(_agreement_row(label, None, None, units, agreed.icc.reason))
            else:
                rows.append(_agreement_row(label, icc.value, icc.interval, units))
        rows.append(_agreement_row("Fleiss' kappa", agreed.fleiss_kappa, agreed.fleiss_interval, "", "scale too fine"))
        rows.append(_agreement_row("Randolph's kappa", agreed.randolph_kappa, None, "", "scale too fine"))
        rows.append(_agreement_row("Spearman, mean of pairs", agreed.mean_pairwise_spearman, None, "", "no pair"))
        groups.append(Group(_name(names, aspect), rows))
    sentence = "Too few ratings of the same videos to say how far raters agree."
    if ordinal:
        low, high = number(min(ordinal), 2), number(max(ordinal), 2)
        span = low if low == high else f"{low} to {high}"
        sentence = (
            f"Krippendorff's alpha (ordinal) is {span}; 1 is full agreement, 0 is that of answers drawn by lot."
        )
    return Section(
        "agreement",
        title,
        sentence,
        "A low alpha of single raters does not make their mean unsure: ICC(A,k) is the agreement of the mean of all "
        "raters with that of another panel of the same size. Intervals of alpha and Fleiss' kappa draw whole videos "
        "again; those of the ICC are McGraw and Wong's. A video is one prompt of one model.",
        "Coefficient",
        (
            Column("Value", kind="right"),
            INTERVAL,
            Column("−1 to 1", "1: full agreement", "figure"),
            Column("Over", kind="right"),
        ),
        groups,
    )


def _alpha_row(kind: str, one: Alpha) -> Row:
    row = _agreement_row(
        f"Krippendorff's alpha, {kind}", one.value, one.interval, several(one.units, "video"), one.reason
    )
    return replace(row, leads=kind == "ordinal" and one.value is not None)


def _agreement_row(label: str, value: float | None, interval: Interval | None, over: str, reason: str = "") -> Row:
    if value is None:
        return Row(label, (reason or "not known", "no interval", MINUS_TO_ONE.mark(None, None, reason), over))
    shown, words = number(value, 2), words_of(interval, 2)
    mark = MINUS_TO_ONE.mark(value, interval, f"{label}: {shown}, 95 % interval {words}", has_zero=True)
    return Row(label, (shown, words, mark, over))


def position_section(found: Findings, names: Names) -> Section | None:
    """What the place on the screen adds to a score."""
    if not found.aspects:
        return None
    title = "Effect of the place"
    known = [aspect for aspect in found.aspects.values() if aspect.position is not None]
    if not known:
        return Section("position", title, "Every video stood at the same place, so the place can have no effect.")
    told, groups = [], []
    for aspect in known:
        position = aspect.position
        assert position is not None
        ends = [end for one in position.interval_by_position.values() for end in (one.low, one.high)]
        scale = scale_round([*ends, *position.effect_by_position.values()], is_symmetric=True)
        rows = []
        for place, effect in position.effect_by_position.items():
            interval = position.interval_by_position[place]
            value, words = number(effect, 2, sign=True), words_of(interval, 2, sign=True)
            if excludes_zero(interval):
                told.append(f"place {place} ({_name(names, aspect)}, {value})")
            mark = scale.mark(effect, interval, f"place {place}: {value}, 95 % interval {words}", has_zero=True)
            mean, n = position.mean_by_position[place], position.n_by_position[place]
            rows.append(Row(f"Place {place}", (number(mean, 2), value, words, mark, f"{n:,}"), excludes_zero(interval)))
        groups.append(Group(_name(names, aspect), rows))
    places = sum(len(group.rows) for group in groups)
    sentence = "No effect of the place was found: every interval holds zero."
    if told:
        sentence = f"{listed(told)}: scored away from the others (of {places} intervals, about 1 in 20 would by chance)."
    return Section(
        "position",
        title,
        sentence[0].upper() + sentence[1:],
        "What a place on the screen adds to a score: mean of the scores at that place, each without the mean of its "
        "model, against the average of the places. Models stand at each place equally often, so this does not favour "
        "one.",
        "Place",
        (
            Column("Mean", "score", "right"),
            Column("Effect", kind="right"),
            Column("95 % interval", "two-way", "right"),
            Column("Against zero", kind="figure"),
            Column("n", "ratings", "right"),
        ),
        groups,
    )


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
    for aspect, one in kept.items():
        rows = []
        for metric in one.metrics:
            better = "higher is better" if metric.direction == "higher" else "lower is better"
            pairs = several(metric.model_pairs, "pair")
            order = "unknown" if metric.ranking_accuracy is None else f"{100 * metric.ranking_accuracy:.0f} % of {pairs}"
            for level, coefficients in (("models", metric.by_model), ("videos", metric.by_item)):
                for coefficient in coefficients.values():
                    if coefficient.n:
                        rows.append(_metric_row(metric.metric, better, level, order, coefficient))
        groups.append(Group(names.get(aspect, aspect), rows))
    metrics = {one.metric for each in kept.values() for one in each.metrics}
    few = min((c.n for each in kept.values() for m in each.metrics for c in m.by_model.values() if c.n), default=0)
    sentence = f"{several(len(metrics), 'metric')} against the mean score by people"
    sentence += f"; with {several(few, 'model')} a coefficient by model says little." if 0 < few < 10 else "."
    facts = tuple(
        (
            f"{gap.first} − {gap.second}",
            f"{names.get(aspect, aspect)}, {gap.kind}: {number(gap.difference, 2, sign=True)}, 95 % interval "
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
        "Last column: share of the pairs of models that the metric orders as people do. Below the table: difference of "
        "two metrics' coefficients, each turned so that larger is better.",
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
    cells = (label, value, words, mark, p_words(one.p), f"{one.n:,} {level}", order if level == "models" else "")
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
                cells += ["compared with", ""]
            else:
                inside = fitted.intervals.get(one.model)
                value = fitted.fixed.get(one.model)
                cells += [number(value, 2, sign=True), words_of(inside, 2, sign=True)]
            rows.append(Row(one.model, tuple(cells)))
        groups.append(Group(_name(names, aspect), rows))
        bias = list(aspect.rater_model.bias.values())
        if fitted is not None and bias:
            facts.append(
                (
                    _name(names, aspect),
                    f"raters' leniency from {number(min(bias), 2, sign=True)} to {number(max(bias), 2, sign=True)}; "
                    f"variance of raters {fitted.var_rater:.2f}, of prompts {fitted.var_item:.2f}, "
                    f"of the rest {fitted.var_residual:.2f}",
                )
            )
    return Section(
        "models",
        "The same by other models of raters",
        "Two models that allow for lenient and strict raters stand beside the plain means.",
        "P.910 takes each rater's leniency off and trusts steady raters more. The mixed model has raters and prompts as "
        "random effects; its column is the difference from the first model.",
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


def screening_section(result: AnalysisResult, names: Names) -> Section:
    """What the rules fixed beforehand removed, and what that changed."""
    excluded, everybody = result.excluded, result.everybody
    flagged = {rule: [name for name, one in result.screening.raters.items() if rule in one.flags] for rule in result.rules}
    rejected = sum(one.rejected for one in result.bt500.values())
    facts = [
        (
            rule,
            f"{words}: {several(len(flagged[rule]), 'rater')}"
            + ("" if rule in result.settings.rules.excluding else " (only shown, nobody is left out for it)"),
        )
        for rule, words in result.rules.items()
    ]
    facts.append(("BT.500", f"would reject {several(rejected, 'rater')}; given to compare with, nobody is left out for it"))
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
                    one.model,
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
        groups.append(Group(_name(names, aspect), rows))
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


def _name(names: Names, aspect: AspectFindings) -> str:
    return names.get(aspect.aspect, aspect.aspect)


def _range(values: list[float]) -> str:
    low, high = f"{min(values):.1f}", f"{max(values):.1f}"
    return low if low == high else f"{low} to {high}"
