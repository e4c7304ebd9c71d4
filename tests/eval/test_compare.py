"""Runs side by side: grouped by fingerprint, differences called only where they show, ties honest."""

from __future__ import annotations

import numpy as np
import pytest

from cogvideo.errors import UserError
from eval.compare import compare_runs, difference_words, pairs_to_show, rank, reading_words
from eval.intervals import Difference
from eval.pairing import REFERENCE_FILE, load_runs, unpaired, write_reference


def clipsim_run(sample_runs, folder, title, scores, **more):
    value = float(np.mean(scores))
    half = 1.96 * float(np.std(scores)) / len(scores) ** 0.5
    found = sample_runs.metric(
        "CLIPSIM", value, value - half, value + half, kind="clipsim", n=len(scores), id="clipsim/vit-b-32"
    )
    facts = {"spec": f"folder:{title}", "title": title}
    result = sample_runs.result([found], generator=facts, warnings=[])
    return sample_runs.write_run(folder, result, scores={"clipsim/vit-b-32": [float(s) for s in scores]}, **more)


def fvd_run(sample_runs, folder, title, value, half, **more):
    protocol = more.pop("protocol", sample_runs.PROTOCOL)
    return sample_runs.write_run(folder, sample_runs.model(title, value, half, **more), protocol=protocol)


@pytest.fixture
def scores():
    """Two models whose scores go up and down together: their intervals overlap, and one is better on every prompt."""
    rng = np.random.default_rng(5)
    prompts = rng.normal(0.29, 0.03, 120)
    return prompts, prompts + 0.004 + rng.normal(0, 0.002, 120)


def test_shared_prompts_are_paired_and_see_what_separate_intervals_cannot(sample_runs, tmp_path, scores):
    runs = [clipsim_run(sample_runs, tmp_path / n, n, s) for n, s in zip("ab", scores, strict=True)]
    (group,) = compare_runs(runs).groups
    (pair,) = group.pairs
    a, b = group.members[0].interval, group.members[1].interval
    assert a.high > b.low, "the intervals overlap"
    assert unpaired(group.members[0], group.members[1]).differs is False
    assert pair.reading == "lower"
    # Against the textbook interval of paired differences.
    d = scores[0] - scores[1]
    half = 1.98 * d.std(ddof=1) / len(d) ** 0.5
    assert pair.difference.value == pytest.approx(d.mean(), rel=1e-9)
    assert (pair.difference.low, pair.difference.high) == pytest.approx((d.mean() - half, d.mean() + half), rel=0.05)
    assert pair.difference.n == 120
    assert group.leading == {1}
    assert group.ranks == {0: (2, 2), 1: (1, 1)}


def test_equal_models_are_not_told_apart(sample_runs, tmp_path, scores):
    shifted = scores[0] + np.random.default_rng(1).normal(0, 0.01, 120)
    comparison = compare_runs(
        [clipsim_run(sample_runs, tmp_path / n, n, s) for n, s in (("a", scores[0]), ("b", shifted))]
    )
    (group,) = comparison.groups
    assert reading_words(comparison, group, group.pairs[0]) == "No difference found"
    assert group.leading == {0, 1}
    assert set(group.ranks.values()) == {(1, 2)}


def test_copies_share_every_rank(sample_runs, tmp_path, scores):
    runs = [clipsim_run(sample_runs, tmp_path / n, n, scores[0]) for n in "abcd"]
    (group,) = compare_runs(runs).groups
    assert set(group.ranks.values()) == {(1, 4)}
    assert group.leading == {0, 1, 2, 3}
    assert all(pair.difference.value == 0 for pair in group.pairs)


def test_scores_that_are_not_the_metric_s_mean_are_not_used(sample_runs, tmp_path, scores):
    run = clipsim_run(sample_runs, tmp_path / "a", "a", scores[0])
    found = sample_runs.metric("CLIPSIM", 0.5, 0.49, 0.51, kind="clipsim", id="clipsim/vit-b-32")
    other = sample_runs.write_run(
        tmp_path / "b",
        sample_runs.result([found], generator={"spec": "b", "title": "b"}),
        scores={"clipsim/vit-b-32": list(scores[0])},
    )
    (pair,) = compare_runs([run, other]).groups[0].pairs
    assert pair.difference.method.startswith("not paired")


def test_ids_that_mean_other_prompts_are_not_paired(sample_runs, tmp_path, scores):
    a = clipsim_run(sample_runs, tmp_path / "a", "a", scores[0], label="Archery")
    b = clipsim_run(sample_runs, tmp_path / "b", "b", scores[1], label="Surfing")
    (pair,) = compare_runs([a, b]).groups[0].pairs
    assert pair.difference.method.startswith("not paired")
    first, second = (["one"] * 120, ["two"] * 120)
    c = clipsim_run(sample_runs, tmp_path / "c", "c", scores[0], label="", prompts=first)
    d = clipsim_run(sample_runs, tmp_path / "d", "d", scores[1], label="", prompts=second)
    e = clipsim_run(sample_runs, tmp_path / "e", "e", scores[1], label="", prompts=first)
    assert compare_runs([c, d]).groups[0].pairs[0].difference.method.startswith("not paired")
    assert compare_runs([c, e]).groups[0].pairs[0].difference.method.startswith("paired")


def test_independent_intervals_add_as_squares(sample_runs):
    a, b = sample_runs.metric("FVD", 410.0, 407.0, 413.0), sample_runs.metric("FVD", 400.0, 396.0, 404.0)
    found = unpaired(a, b)
    assert (found.value, found.low, found.high) == pytest.approx((10.0, 5.0, 15.0))
    lopsided = unpaired(sample_runs.metric("FVD", 10.0, 7.0, 22.0), sample_runs.metric("FVD", 0.0, -5.0, 4.0))
    assert (lopsided.low, lopsided.high) == pytest.approx((10 - 5.0, 10 + 13.0))


def test_distances_of_unequal_n_are_not_subtracted(sample_runs, tmp_path):
    a = fvd_run(sample_runs, tmp_path / "a", "a", 400.0, 9.0, n=2048)
    b = fvd_run(sample_runs, tmp_path / "b", "b", 800.0, 9.0, n=256)
    comparison = compare_runs([a, b])
    (group,) = comparison.groups
    assert group.pairs[0].reading == "unknown"
    assert "n differs (2,048 and 256)" in reading_words(comparison, group, group.pairs[0])
    assert group.ranks == {0: (1, 2), 1: (1, 2)}


def test_features_pair_distances(sample_runs, tmp_path):
    """Two sets of fakes that share most of their noise, through shards on disk and the metric's influence values."""
    from eval.features import ShardFolder
    from eval.metrics.fvd import fvd

    rng = np.random.default_rng(11)
    real = rng.normal(size=(300, 6)).astype(np.float32)
    noise = rng.normal(size=(200, 6)).astype(np.float32)
    fakes = {"a": noise + 0.9, "b": noise * np.float32(1.02) + 1.0}
    spec = sample_runs.PROTOCOL.metrics[0]
    name = f"{spec.feature_key}:{spec.layer}"
    ids = [f"{i:05d}" for i in range(200)]
    real_ids = [f"v{i}@0" for i in range(300)]
    ShardFolder(tmp_path / "cache").write(0, real_ids, {name: real})
    runs, values = [], []
    for title, fake in fakes.items():
        values.append(fvd(fake, real))
        result = sample_runs.model(title, values[-1], 0.6, n=200)
        run = sample_runs.write_run(tmp_path / title, result, prompts=["p"] * 200)
        ShardFolder(run / "features").write(0, ids, {name: fake})
        write_reference(run, {name: tmp_path / "cache"}, real_ids, real_ids)
        runs.append(run)
    (pair,) = compare_runs(runs).groups[0].pairs
    assert pair.difference.value == pytest.approx(values[0] - values[1], rel=1e-6)
    assert "paired" in pair.difference.method
    assert not pair.difference.method.startswith("not paired")
    assert pair.reading == "lower"
    alone = unpaired(*(compare_runs(runs).groups[0].members[i] for i in (0, 1)))
    assert pair.difference.high - pair.difference.low < alone.high - alone.low
    # Where the cache is gone the intervals still answer.
    (tmp_path / "cache" / "00000.npz").unlink()
    (pair,) = compare_runs(runs).groups[0].pairs
    assert pair.difference.method.startswith("not paired")
    (runs[0] / REFERENCE_FILE).unlink()
    assert compare_runs(runs).groups[0].pairs[0].difference.method.startswith("not paired")


def two_fingerprints(sample_runs, tmp_path):
    a = fvd_run(sample_runs, tmp_path / "a", "Model A", 412.6, 9.0)
    b = fvd_run(
        sample_runs, tmp_path / "b", "Model B", 300.0, 9.0, fingerprint="aaaa0000", protocol=sample_runs.other_frames(8)
    )
    return [a, b]


def test_fingerprints_are_never_in_one_order_and_the_fields_are_named(sample_runs, tmp_path):
    comparison = compare_runs(two_fingerprints(sample_runs, tmp_path))
    assert [list(group.members) for group in comparison.groups] == [[0], [1]]
    assert all(group.ranks == {i: (1, 1)} for i, group in enumerate(comparison.groups))
    (split,) = comparison.splits
    assert split.differing == ("clip.frames (16 | 8)",)
    sentence = split.sentence(comparison.runs)
    assert "Model A" in sentence
    assert "aaaa0000" in sentence


@pytest.mark.parametrize("asked", [{"is_strict": True}, {"metric": "fvd"}, {"metric": "fvd/tats-16f-2048"}])
def test_one_ranking_of_two_fingerprints_is_refused_in_one_line(sample_runs, tmp_path, asked):
    with pytest.raises(UserError, match=r"not ranked together: they differ in clip\.frames \(16 \| 8\)") as caught:
        compare_runs(two_fingerprints(sample_runs, tmp_path), **asked)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_other_data_and_weights_are_named(sample_runs, tmp_path):
    a = fvd_run(sample_runs, tmp_path / "a", "A", 400.0, 9.0)
    model = sample_runs.model("B", 400.0, 9.0, fingerprint="cccc0000")
    weights = model.metrics[0].weights.model_copy(update={"sha256": "00ff" * 16})
    data = model.data.model_copy(update={"list_sha256": "1234" * 16})
    metrics = [model.metrics[0].model_copy(update={"weights": weights})]
    b = sample_runs.write_run(tmp_path / "b", model.model_copy(update={"metrics": metrics, "data": data}))
    differing = compare_runs([a, b]).splits[0].differing
    assert [words.partition(" (")[0] for words in differing] == ["weights", "data list"]
    assert "77aa77aa77aa | " in differing[0]


def test_one_kind_of_metric_in_two_variants_is_told(sample_runs, tmp_path):
    a = fvd_run(sample_runs, tmp_path / "a", "A", 400.0, 9.0)
    b = fvd_run(sample_runs, tmp_path / "b", "B", 400.0, 9.0, id="fvd/styleganv-16f-2048", fingerprint="dddd0000")
    (split,) = compare_runs([a, b]).splits
    assert {side[0] for side in split.sides} == {"fvd/tats-16f-2048", "fvd/styleganv-16f-2048"}
    with pytest.raises(UserError, match="not ranked together"):
        compare_runs([a, b], metric="fvd")


def test_an_unknown_metric_offers_near_names(sample_runs, tmp_path):
    runs = [fvd_run(sample_runs, tmp_path / n, n, 400.0, 9.0) for n in "ab"]
    with pytest.raises(UserError, match=r"no run has metric 'fvd/tats-16f-204'; did you mean fvd/tats-16f-2048\?"):
        compare_runs(runs, metric="fvd/tats-16f-204")


@pytest.mark.parametrize(("make", "words"), [(False, "no run folder"), (True, "has no result.json")])
def test_what_is_no_run_is_one_line(tmp_path, make, words):
    path = tmp_path / "x"
    if make:
        path.mkdir()
    with pytest.raises(UserError, match=words):
        load_runs([path])


def test_an_unfinished_run_is_told_to_be_finished(sample_runs, tmp_path):
    run = fvd_run(sample_runs, tmp_path / "a", "A", 400.0, 9.0)
    (run / "result.json").unlink()
    with pytest.raises(UserError, match="an unfinished run: repeat its command"):
        load_runs([run])


def test_runs_of_one_title_are_told_apart_and_a_folder_counts_once(sample_runs, tmp_path):
    a, b = (fvd_run(sample_runs, tmp_path / n, "Model", 400.0, 9.0) for n in ("first", "second"))
    assert [run.name for run in load_runs([a, b, a / "result.json"])] == ["Model (first)", "Model (second)"]


def test_a_run_without_its_manifest_is_still_compared(sample_runs, tmp_path):
    a = fvd_run(sample_runs, tmp_path / "a", "A", 400.0, 9.0, protocol=None)
    b = fvd_run(sample_runs, tmp_path / "b", "B", 900.0, 9.0)
    assert compare_runs([a, b]).groups[0].ranks == {0: (1, 1), 1: (2, 2)}


def test_ranks_allow_what_the_pairs_allow(sample_runs):
    """A < C is called, A ~ B and B ~ C are not: B may be anywhere, and "cannot be told apart" is no equivalence."""
    from eval.compare import Pair

    members = {i: sample_runs.metric("FVD", v) for i, v in enumerate((10.0, 15.0, 20.0))}

    def pair(i: int, j: int, low: float, high: float) -> Pair:
        value = members[i].value - members[j].value
        return Pair(i, j, Difference(value, low, high, 100, 0.95, "invented"))

    pairs = [pair(0, 1, -12, 2), pair(0, 2, -17, -3), pair(1, 2, -12, 2)]
    ranks, leading = rank(members, pairs, "lower")
    assert ranks == {0: (1, 2), 1: (1, 3), 2: (2, 3)}
    assert leading == {0, 1}
    ranks, leading = rank(members, pairs, "higher")
    assert ranks == {0: (2, 3), 1: (1, 3), 2: (1, 2)}
    assert leading == {1, 2}


def test_an_undefined_value_has_no_rank(sample_runs, tmp_path):
    a = fvd_run(sample_runs, tmp_path / "a", "A", 400.0, 9.0)
    found = sample_runs.result(
        [sample_runs.metric("FVD", None, note="all equal")], generator={"spec": "b", "title": "B"}
    )
    b = sample_runs.write_run(tmp_path / "b", found)
    (group,) = compare_runs([b, a]).groups
    assert group.order() == [1, 0]
    assert group.ranks == {1: (1, 1)}


def test_with_a_baseline_pairs_read_run_minus_baseline(sample_runs, tmp_path):
    base = fvd_run(sample_runs, tmp_path / "base", "Base", 400.0, 3.0)
    worse = fvd_run(sample_runs, tmp_path / "worse", "Worse", 500.0, 4.0)
    near = fvd_run(sample_runs, tmp_path / "near", "Near", 401.0, 4.0)
    comparison = compare_runs([base, worse, near], baseline=base)
    (group,) = comparison.groups
    shown = pairs_to_show(comparison, group)
    assert [(comparison.runs[p.first].name, comparison.runs[p.second].name) for p in shown] == [
        ("Worse", "Base"),
        ("Near", "Base"),
    ]
    assert difference_words(group, shown[0]) == ("+100.0", "+95.0 to +105.0")
    assert reading_words(comparison, group, shown[0]) == "Worse is higher than Base (worse)"
    assert comparison.regressions == ((1, "fvd/tats-16f-2048"),)
    # Named only as the baseline, it is one of the runs as well.
    again = compare_runs([worse], baseline=base)
    assert again.regressions == ((0, "fvd/tats-16f-2048"),)


def test_better_than_the_baseline_is_no_regression_and_lost_values_are(sample_runs, tmp_path, scores):
    base = clipsim_run(sample_runs, tmp_path / "base", "Base", scores[0])
    better = clipsim_run(sample_runs, tmp_path / "better", "Better", scores[1])
    assert compare_runs([better], baseline=base).regressions == ()
    assert compare_runs([base], baseline=better).regressions == ((0, "clipsim/vit-b-32"),)
    both = [sample_runs.metric("FVD", 400.0, 397.0, 403.0), sample_runs.metric("KVD", 1.0, 0.9, 1.1, kind="kvd")]
    full = sample_runs.write_run(tmp_path / "full", sample_runs.result(both))
    lost = sample_runs.write_run(tmp_path / "lost", sample_runs.result(both[:1]))
    assert compare_runs([lost], baseline=full).regressions == ((0, "kvd/tats-16f-2048"),)


def test_a_baseline_that_shares_nothing_is_refused(sample_runs, tmp_path):
    a, b = two_fingerprints(sample_runs, tmp_path)
    with pytest.raises(UserError, match="shares no metric of one fingerprint with the baseline"):
        compare_runs([a], baseline=b)


def test_a_called_difference_never_reads_as_if_it_held_zero(sample_runs, tmp_path):
    a = fvd_run(sample_runs, tmp_path / "a", "A", 1.00, 0.02)
    b = fvd_run(sample_runs, tmp_path / "b", "B", 1.05, 0.02)
    comparison = compare_runs([a, b])
    (group,) = comparison.groups
    assert group.pairs[0].reading == "lower"
    assert difference_words(group, group.pairs[0]) == ("−0.05", "−0.08 to −0.02")
