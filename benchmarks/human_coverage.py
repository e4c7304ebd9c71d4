"""How often the intervals of a human study hold the truth that they claim to hold.

`OMP_NUM_THREADS=1 python benchmarks/human_coverage.py` draws 500 studies a design; the true mean score is known in
closed form. Two-way intervals should cover in 93 to 97 % of them. `--votes` measures favourite shares and Bradley-Terry
strengths instead; their truth comes from a million raters' latent values.
"""

from __future__ import annotations

import argparse
import time
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

from human_eval.analysis.choice_model import fit
from human_eval.analysis.contests import pair_votes
from human_eval.analysis.means import bootstrap_means, clustered_interval, influence
from human_eval.analysis.shares import shares
from human_eval.analysis.simulation import Design, Spread, expected_score, simulate_latent, simulate_scores
from human_eval.analysis.strengths import strengths

MEANS = (3.7, 3.2)
DESIGNS = {
    "90 raters x 30 items": Design(90, 30),
    "24 raters x 10 items": Design(24, 10),
    "90 raters, 10 of 30 items each": Design(90, 30, items_each=10),
    "12 raters x 8 items": Design(12, 8),
}
SPREADS = {
    "both": Spread(),
    "raters only": Spread(item=0.0, item_model=0.0),
    "items only": Spread(rater=0.0, rater_model=0.0),
}


def ends(replicates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low, high = np.quantile(replicates, [0.025, 0.975], axis=0)
    return low, high


def measure(design: Design, spread: Spread, studies: int, resamples: int) -> dict[str, list[tuple[float, float]]]:
    """Kind of interval -> (coverage, median width) of a mean and of the difference of two means."""
    truth = np.array([expected_score(mean, spread, design.scale) for mean in MEANS])
    wanted = (truth[0], truth[0] - truth[1])
    hits: dict[str, list[list[float]]] = {}
    for study in range(studies):
        data = simulate_scores(design, MEANS, spread, np.random.default_rng([study, 7]))
        means = data.means()
        values = (means[0], means[0] - means[1])
        found: dict[str, list[tuple[float, float]]] = {}
        seen = data.counts[0]
        n = seen.sum()
        sds = [data.sums[m][seen > 0].std(ddof=1) for m in (0, 1)]
        halves = [stats.t.ppf(0.975, n - 1) * sds[0] / n**0.5, stats.t.ppf(0.975, 2 * n - 2) * np.hypot(*sds) / n**0.5]
        found["naive t"] = [(v - h, v + h) for v, h in zip(values, halves, strict=True)]
        for by in ("raters", "both"):
            drawn = bootstrap_means(data, by, resamples, study)
            pair = (drawn[:, 0], drawn[:, 0] - drawn[:, 1])
            found[f"{by} bootstrap"] = [tuple(map(float, ends(one))) for one in pair]
        weights = (np.array([1.0, 0.0]), np.array([1.0, -1.0]))
        found["two-way t"] = [
            clustered_interval(v, influence(data, w), seen).ends for v, w in zip(values, weights, strict=True)
        ]
        for kind, intervals in found.items():
            row = [float(low <= w <= high) for (low, high), w in zip(intervals, wanted, strict=True)]
            hits.setdefault(kind, []).append(row + [high - low for low, high in intervals])
    out = {}
    for kind, rows in hits.items():
        table = np.array(rows)
        out[kind] = [(table[:, c].mean(), float(np.median(table[:, 2 + c]))) for c in (0, 1)]
    return out


def votes(design: Design, spread: Spread, studies: int) -> dict[str, float]:
    """Coverage of the share of the best of three, and of its strength from one pair of models a rater and item."""
    means = (3.5, 3.3, 3.0)
    rng = np.random.default_rng(0)
    own = np.hypot(np.hypot(spread.item_model, spread.rater_model), spread.residual)
    many = np.array(means)[:, None] + own * rng.standard_normal((3, 1_000_000))
    share = float((many.argmax(0) == 0).mean())
    pairs = list(combinations(range(3), 2))
    won = [float((many[a] > many[b]).mean()) for a, b in pairs]
    contests = pair_votes(pair_rows([("r", "i", a, b, "a") for a, b in pairs]), "half").contests
    theta = fit(contests, np.array([[p, 1 - p] for p in won]).reshape(1, -1)).params[0, 0]
    names = ("share, Wilson", "share, two-way", "strength, model's own", "strength, two-way")
    hits = np.zeros((studies, len(names)))
    for study in range(studies):
        rng = np.random.default_rng([study, 8])
        latent = simulate_latent(design, means, spread, rng)
        best = latent.argmax(0)
        choices = [(f"r{r:02}", f"i{i:02}", "0|1|2", str(m)) for (r, i), m in np.ndenumerate(best)]
        table = pd.DataFrame(choices, columns=["rater", "item", "shown", "choice"])
        one = next(s for s in shares(table, resamples=2) if s.option == "0")
        which = rng.integers(0, 3, best.shape)
        rows = []
        for (r, i), p in np.ndenumerate(which):
            a, b = pairs[p]
            rows.append((f"r{r:02}", f"i{i:02}", a, b, "a" if latent[a, r, i] > latent[b, r, i] else "b"))
        top = strengths(pair_votes(pair_rows(rows), "half"), "", resamples=2).strengths[0]
        low, high = one.interval.ends
        t_low, t_high = top.interval.ends
        hits[study] = (
            one.wilson[0] <= share <= one.wilson[1],
            low <= share <= high,
            abs(top.theta - theta) <= 1.96 * top.se_model,
            t_low <= theta <= t_high,
        )
    return dict(zip(names, hits.mean(0).tolist(), strict=True))


def pair_rows(rows: list[tuple[str, str, int, int, str]]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["rater", "item", "model_a", "model_b", "winner"])
    return table.astype({"model_a": str, "model_b": str})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--votes", action="store_true")
    parser.add_argument("--studies", type=int, default=500)
    parser.add_argument("--resamples", type=int, default=1000)
    args = parser.parse_args()
    start = time.process_time()
    if args.votes:
        for name, design in list(DESIGNS.items())[:2]:
            found = votes(design, Spread(), args.studies)
            print(f"{name}: " + ", ".join(f"{kind} {covered:.1%}" for kind, covered in found.items()), flush=True)
        print(f"{args.studies} studies a design, {time.process_time() - start:.0f} CPU-seconds")
        return
    print("| design | what varies | interval | covers mean | width | covers difference | width |\n|" + "---|" * 7)
    for name, design in DESIGNS.items():
        for vary, spread in SPREADS.items():
            if vary != "both" and not name.startswith(("90 raters x", "24")):
                continue
            for kind, ((mean, wide), (gap, gap_wide)) in measure(design, spread, args.studies, args.resamples).items():
                print(
                    f"| {name} | {vary} | {kind} | {mean:.1%} | {wide:.3f} | {gap:.1%} | {gap_wide:.3f} |", flush=True
                )
    print(
        f"\n{args.studies} studies a design, {args.resamples} resamples, {time.process_time() - start:.0f} CPU-seconds"
    )


if __name__ == "__main__":
    main()
