"""What stands behind the scores on the result page: how sure they are, tests, agreement, places."""

from __future__ import annotations

from dataclasses import replace

from eval.notation import number
from human_eval.analysis.agreement import Alpha
from human_eval.analysis.findings import Findings
from human_eval.analysis.rank_tests import Friedman, PairTest
from human_eval.analysis.resampling import Interval
from human_eval.result_names import Names
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

MINUS_TO_ONE = Scale(-1.0, 1.0, 0.5)
INTERVAL = Column("95 % interval", kind="right")


def evidence(found: Findings, names: Names) -> list[Section | None]:
    """The sections in the order of the page. `names` are the words for aspects and models."""
    return [
        naive_section(found, names),
        tests_section(found, names),
        agreement_section(found, names),
        position_section(found, names),
    ]


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
                one.mean, one.interval, f"{names.model(one.model)}: {wide}; as if independent {narrow}", naive=one.naive
            )
            worth = "unknown" if one.n_effective is None else f"{one.n_effective:,.0f}"
            times = "unknown" if ratio is None else f"{ratio:.1f}"
            rows.append(Row(names.model(one.model), (wide, narrow, mark, times, f"{one.n:,}", worth)))
        groups.append(Group(names.aspect(aspect.aspect), rows))
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


def tests_section(found: Findings, names: Names) -> Section | None:
    """Differences of the means with their interval, and tests on raters' means."""
    if not found.aspects:
        return None
    if not any(aspect.differences for aspect in found.aspects.values()):
        return Section("tests", "Differences and tests", "One model only: there is nothing to compare.")
    told, asked, groups, facts = 0, 0, [], []
    for aspect in found.aspects.values():
        tests = {(one.first, one.second): one for one in aspect.pair_tests}
        ends = [end for gap in aspect.differences for end in (gap.interval.low, gap.interval.high, gap.difference)]
        scale, rows = scale_round(list(ends), is_symmetric=True), []
        for gap in aspect.differences:
            asked, is_told = asked + 1, excludes_zero(gap.interval)
            told += is_told
            first, second = names.model(gap.first), names.model(gap.second)
            better = first if gap.difference > 0 else second
            words = words_of(gap.interval, 2, sign=True)
            reading = f"{better} is higher" if is_told else "No difference found"
            if gap.interval.low is None:
                reading = "n too small to say"
            value = number(gap.difference, 2, sign=True)
            mark = scale.mark(gap.difference, gap.interval, f"{first} minus {second}: {value}, {words}", has_zero=True)
            cells = _test_cells(tests.get((gap.first, gap.second)))
            rows.append(Row(f"{first} − {second}", (value, words, mark, reading, *cells), is_told))
        groups.append(Group(names.aspect(aspect.aspect), rows))
        facts.append((names.aspect(aspect.aspect), _friedman_words(aspect.friedman)))
    sentence = f"{told} of {several(asked, 'difference')} of two models can be told from zero."
    return Section(
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
            Column("n", "raters", "right"),
        ),
        groups,
        tuple((f"Friedman, {name}", words) for name, words in facts),
    )


def _test_cells(test: PairTest | None) -> tuple[str, ...]:
    if test is None:
        return ("no test",) * 5
    return (
        p_words(test.wilcoxon_p_holm),
        p_words(test.wilcoxon_p_bh),
        p_words(test.t_p_holm),
        number(test.dz, 2, sign=True),
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
        fine, over = "scale too fine", several(alpha.units, "video")
        rows.append(_agreement_row("Fleiss' kappa", agreed.fleiss_kappa, agreed.fleiss_interval, over, fine))
        rows.append(_agreement_row("Randolph's kappa", agreed.randolph_kappa, None, over, fine))
        rows.append(_agreement_row("Spearman, mean of pairs", agreed.mean_pairwise_spearman, None, over, "no pair"))
        groups.append(Group(names.aspect(aspect.aspect), rows))
    sentence = "Too few ratings of the same videos to say how far raters agree."
    if ordinal:
        low, high = number(min(ordinal), 2), number(max(ordinal), 2)
        span = low if low == high else f"{low} to {high}"
        sentence = f"Krippendorff's alpha (ordinal) is {span}; 1 is full agreement, 0 is that of answers drawn by lot."
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
            value, words = number(effect, 3, sign=True), words_of(interval, 3, sign=True)
            if excludes_zero(interval):
                told.append(f"place {place} ({names.aspect(aspect.aspect)}, {value})")
            mark = scale.mark(effect, interval, f"place {place}: {value}, 95 % interval {words}", has_zero=True)
            mean, n = position.mean_by_position[place], position.n_by_position[place]
            rows.append(Row(f"Place {place}", (number(mean, 2), value, words, mark, f"{n:,}"), excludes_zero(interval)))
        groups.append(Group(names.aspect(aspect.aspect), rows))
    places = sum(len(group.rows) for group in groups)
    sentence = "No effect of the place was found: every interval holds zero."
    if told:
        sentence = (
            f"{listed(told)}: scored away from the others (of {places} intervals, about 1 in 20 would by chance)."
        )
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


def _range(values: list[float]) -> str:
    low, high = f"{min(values):.1f}", f"{max(values):.1f}"
    return low if low == high else f"{low} to {high}"
