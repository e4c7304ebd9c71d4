"""Published worked examples, edge cases of intervals, planning figures and designs."""

import pytest

from human_eval.analysis.agreement import krippendorff_alpha
from human_eval.analysis.corrections import adjust
from human_eval.analysis.correlation import transform_interval
from human_eval.analysis.icc import intra_class
from human_eval.analysis.kappa import fleiss_kappa
from human_eval.analysis.planning import (
    design_effect,
    effective_n,
    mean_n,
    paired_t_n,
    paired_t_power,
    share_n,
    sign_test_power,
    two_shares_n,
)
from human_eval.analysis.shares import clopper_pearson, denominators, printed_counts, wilson
from human_eval.designs import block_balance, incomplete_blocks, order_balance, williams


def test_krippendorff_2011(canonical):
    value = canonical("krippendorff_2011")
    table = [[float("nan") if one is None else one for one in row] for row in value["data"]]
    for scale, exact in value["exact"].items():
        found = krippendorff_alpha(table, scale, resamples=0).value
        assert found == pytest.approx(exact, abs=1e-6)
        assert round(found, 3) == value["published"][scale]


def test_shrout_fleiss_1979(canonical):
    value = canonical("shrout_fleiss_1979")
    found = intra_class(value["data"]).coefficients
    for name, want in value["pingouin"].items():
        assert found[name].value == pytest.approx(want, abs=1e-6)
    judges = len(value["data"][0])
    kinds = {"1": "1", "2": "A", "3": "C"}
    for name, want in value["published"].items():
        kind, size = name.removeprefix("ICC(").removesuffix(")").split(",")
        ours = found[f"ICC({kinds[kind]},{'1' if size == '1' else 'k'})"]
        assert size in ("1", str(judges))
        assert round(ours.value, 2) == want


def test_fleiss_example(canonical):
    value = canonical("fleiss_example")
    assert fleiss_kappa(value["data"]) == pytest.approx(value["exact"], abs=1e-6)
    assert round(fleiss_kappa(value["data"]), 2) == value["published"]


def test_printed_shares_have_a_denominator(canonical):
    value = canonical("paper_2205_15868")
    reported = {key: number for key, number in value["reported"].items() if key not in ("evaluators", "classes")}
    texts = [str(number) for number in reported.values()]
    n = value["smallest_denominator_that_gives_all_three"]
    counts = value[f"counts_at_{n}"]
    assert denominators(texts) == (n, counts)
    for ruled_out in value["denominators_ruled_out"]:
        assert printed_counts(texts, ruled_out) is None
    for name, ends in value[f"wilson_at_{n}"].items():
        assert wilson(counts[list(reported).index(name)], n) == pytest.approx(ends, abs=1e-6)
    evaluators = value["reported"]["evaluators"]
    for name, ends in value[f"wilson_if_{evaluators}"].items():
        assert wilson(round(reported[name] / 100 * evaluators), evaluators) == pytest.approx(ends, abs=1e-6)


@pytest.fixture
def power(canonical):
    return canonical("power").__getitem__


def test_paired_t_sample_size(power):
    """Whole numbers agree. The real-valued n were solved to 3e-8 of power there, which is 3e-6 of n."""
    for row in power("paired_t_n"):
        n = paired_t_n(row["dz"], row["power"], row["alpha"])
        assert -(-n // 1) == row["n_ceil"]
        assert n == pytest.approx(row["n"], abs=1e-5)
        assert paired_t_power(row["n"], row["dz"], row["alpha"]) == pytest.approx(row["power"], abs=1e-7)
        assert paired_t_power(n, row["dz"], row["alpha"]) == pytest.approx(row["power"], abs=1e-12)


def test_other_sample_sizes_and_power(power):
    for row in power("mos_ci_half_width_n"):
        assert mean_n(row["sd"], row["half_width"], row["confidence"]) == (row["n_normal"], row["n_t"])
    for row in power("sign_test_exact_power"):
        assert sign_test_power(row["n"], row["p"]) == pytest.approx(row["power"], abs=1e-6)
    for row in power("share_ci_n"):
        assert share_n(row["share"], row["half_width"]) == row["n"]
    for row in power("two_shares_n_per_group"):
        assert two_shares_n(row["p1"], row["p2"], row["power"]) == row["n"]


def test_design_effects(power):
    for row in power("design_effect"):
        assert design_effect(row["m"], row["icc"]) == pytest.approx(row["deff"], abs=1e-6)
        for key in [key for key in row if key.startswith("n_effective_of_")]:
            n = int(key.removeprefix("n_effective_of_"))
            assert effective_n(n, row["m"], row["icc"]) == pytest.approx(row[key], abs=1e-6)


def test_spearman_widths(power):
    for row in power("spearman_ci_half_width"):
        assert transform_interval(row["rho"], row["n"], "spearman").ends == pytest.approx(row["ci"], abs=1e-6)


def test_williams_squares(canonical):
    for models, value in canonical("williams").items():
        rows = williams(int(models))
        balance = order_balance(rows, int(models))
        assert len(rows) == value["rows"]
        assert {one for row in balance.positions for one in row} == {value["each_model_at_each_position"]}
        off = [one for a, row in enumerate(balance.neighbours) for b, one in enumerate(row) if a != b]
        assert set(off) == {value["each_ordered_neighbour_pair"]}
        if "example" in value:
            assert [list(row) for row in rows] == value["example"]


def test_balanced_incomplete_blocks(canonical):
    for value in canonical("balanced_incomplete_blocks"):
        models = value["models"]
        blocks = incomplete_blocks(models, value["block_size"])
        balance = block_balance(blocks, models)
        assert len(blocks) == value["blocks"]
        assert set(balance.times) == {value["times_each"]}
        together = {balance.together[a][b] for a in range(models) for b in range(a)}
        assert together == {value["pair_together"]}


def test_interval_edges(canonical):
    for key, value in canonical("interval_edges").items():
        count, n = map(int, key.split("/"))
        assert wilson(count, n) == pytest.approx(value["wilson"], abs=1e-6)
        assert clopper_pearson(count, n) == pytest.approx(value["clopper_pearson"], abs=1e-6)


def test_multiple_comparisons(canonical):
    value = canonical("multiple_comparisons")
    names = {"bonferroni": "bonferroni", "holm": "holm", "fdr_bh": "bh", "fdr_by": "by"}
    for key, name in names.items():
        if key in value:
            assert adjust(value["p"], name) == pytest.approx(value[key], abs=1e-6)
    if "bh_rejected_at_0_25" in value:
        assert int((adjust(value["p"], "bh") <= 0.25).sum()) == value["bh_rejected_at_0_25"]
