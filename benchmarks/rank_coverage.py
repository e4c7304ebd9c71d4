"""How often rank ranges hold every model's true places: simulated truths, paired samples, the function that ranks.

    python benchmarks/rank_coverage.py [--repetitions 2000] [--only WORD] [--json]

Three shares a row: `together`, no range of the table misses; `each`, the range of one model; `percentiles`, the same as
`each` for 2.5 to 97.5 % of the ranks in the bootstrap, which is what many boards print.

Places of a tie are all that its members share. Truths with ties have a line: 93 to 97 % together. Truths without one
have no upper line: there only a difference that is told in the wrong direction is an error. With two models and a gap
of g standard errors that happens with probability Phi(-1.96 - g): 2.5 % at no gap, 0.15 % at one standard error. So a
range that holds at 95 % under ties holds at 97.5 % or more under every truth without; those rows must show 95 % at
least, and the rows of two models what the formula says. Gaps are in standard errors of a difference.
"""

from __future__ import annotations

import argparse
import json
from statistics import NormalDist

import numpy as np

from eval.intervals import bootstrap_counts, group_codes
from reports.board.ranking import Entrant, Moved, rank

FAR = 20.0
TIED = {
    "2 equal models": [0.0] * 2,
    "5 equal models": [0.0] * 5,
    "12 equal models": [0.0] * 12,
    "groups of 3, 2, 1, far apart": [0, 0, 0, FAR, FAR, 2 * FAR],
    "groups of 4, 4, 4, far apart": [0] * 4 + [FAR] * 4 + [2 * FAR] * 4,
}
APART = {
    "2 models, 0.01 apart": [0, 0.01],
    "2 models, 1 apart": [0, 1.0],
    "8 models, steps of 0.01": [0.01 * i for i in range(8)],
    "8 models, steps of 0.25": [0.25 * i for i in range(8)],
    "8 models, steps of 0.5": [0.5 * i for i in range(8)],
    "8 models, steps of 1": [1.0 * i for i in range(8)],
    "groups of 4, 4, steps of 0.01, far apart": [0.01 * i + FAR * (i // 4) for i in range(8)],
}
KINDS = (("normal", 50), ("normal", 200), ("skewed", 200), ("clusters", 60))


def scores_of(truth: np.ndarray, units: int, seed: int, kind: str) -> tuple[np.ndarray, list[str]]:
    """(N, K) scores of shared prompts and the unit of each row. `kind`: normal, skewed, or clusters of 4 a prompt."""
    random = np.random.default_rng([seed, units])
    k, own = len(truth), 1.0
    if kind == "skewed":
        noise = random.gamma(2.0, size=(units, k)) / np.sqrt(2) + random.gamma(2.0, size=(units, 1))
    else:
        noise = random.normal(size=(units, k)) + random.normal(size=(units, 1))
    names = [str(i) for i in range(units)]
    if kind == "clusters":
        noise = np.repeat(noise, 4, axis=0) + 0.3 * random.normal(size=(4 * units, k))
        names, own = [str(i // 4) for i in range(4 * units)], 1 + 0.3**2 / 4
    return noise + np.sqrt(2 * own / units) * truth, names


def percentiles(scores: np.ndarray, names: list[str], replicates: int = 500) -> list[tuple[int, int]]:
    """What the plain bootstrap of ranks says: 2.5 to 97.5 % of the places of each model."""
    codes, n_units = group_codes(names)
    sums = np.zeros((n_units, scores.shape[1]))
    np.add.at(sums, codes, scores)
    drawn = bootstrap_counts(range(n_units), replicates, 0, "percentiles") @ sums
    ranks = 1 + drawn.argsort(axis=1).argsort(axis=1)
    low = np.quantile(ranks, 0.025, axis=0, method="lower")
    high = np.quantile(ranks, 0.975, axis=0, method="higher")
    return [(int(a), int(b)) for a, b in zip(low, high, strict=True)]


def held(truth: np.ndarray, units: int, seed: int, kind: str) -> tuple[list[bool], list[bool]]:
    """One repetition: whether each model's range holds its true places; ours, and those of percentiles."""
    scores, names = scores_of(truth, units, seed, kind)
    entrants = [
        Entrant(f"m{j}", float(column.mean()), len(column), moved=Moved("all", names, column - column.mean()))
        for j, column in enumerate(scores.T)
    ]
    low = 1 + (truth[None, :] < truth[:, None]).sum(axis=1)
    high = len(truth) - (truth[None, :] > truth[:, None]).sum(axis=1)
    found = rank(entrants, "lower", seed=seed, with_pairs=False).ranges
    ours, plain = (
        [bool(a <= lo and hi <= b) for (a, b), lo, hi in zip(ranges, low, high, strict=True)]
        for ranges in (found, percentiles(scores, names))
    )
    return ours, plain


def expected(name: str) -> float | None:
    """The share that the formula says, where there is one."""
    truth = (TIED | APART)[name]
    if len(truth) != 2:
        return None
    gap, limit = truth[1] - truth[0], NormalDist().inv_cdf(0.975)
    wrong = NormalDist().cdf(-limit - gap)
    return 1 - 2 * wrong if gap == 0 else 1 - wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=2000)
    parser.add_argument("--only", default="", help="rows whose name holds this word")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rows = []
    for name, truth in (TIED | APART).items():
        if given.only not in name:
            continue
        for kind, units in KINDS:
            shares = np.array([held(np.array(truth, float), units, i, kind) for i in range(given.repetitions)])
            together, each, plain = shares[:, 0].all(axis=1).mean(), shares[:, 0].mean(), shares[:, 1].mean()
            passes = 0.93 <= together <= 0.97 if name in TIED else together >= 0.95
            if (formula := expected(name)) is not None:
                passes &= abs(together - formula) <= 0.02
            row = {"truth": name, "samples": kind, "units": units, "together": together, "each": each}
            rows.append(row | {"percentiles": plain, "formula": formula, "passes": bool(passes)})
            if not given.json:
                said = "" if formula is None else f"formula {100 * formula:.1f}"
                words = f"together {100 * together:5.1f}  each {100 * each:5.1f}  percentiles {100 * plain:5.1f}"
                print(f"{name:<41} {kind:<9}{units:>4}  {words}  {said:<13}{'' if passes else ' OUTSIDE'}", flush=True)
    if given.json:
        print(json.dumps(rows, indent=1, default=float))


if __name__ == "__main__":
    main()
