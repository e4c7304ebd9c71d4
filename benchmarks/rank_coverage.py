"""How often rank ranges hold every model's true places: simulated truths, paired samples, the function that ranks.

    python benchmarks/rank_coverage.py [--repetitions 2000] [--json]

The target is 95 %, and 93 to 97 % passes, wherever some models are truly equal: there an error is possible at every
tie. Where all models truly differ, a range is wrong only if a difference is told in the wrong direction, which is
rarer; those settings must hold at least 95 %. Places of a tie are all that its members share.
"""

from __future__ import annotations

import argparse
import json

import numpy as np

from reports.board.ranking import Entrant, Moved, rank

TIED = {
    "5 equal models": [0.0] * 5,
    "12 equal models": [0.0] * 12,
    "groups of 3, 2, 1": [0, 0, 0, 2, 2, 4],
    "groups of 4, 4, 4": [0] * 4 + [3] * 4 + [6] * 4,
}
APART = {"8 models, steps of one standard error": [0.2 * i for i in range(8)]}


def covers(truth: np.ndarray, units: int, seed: int, kind: str) -> bool:
    """One repetition. `kind`: normal or skewed samples of shared prompts, or clusters of 4 samples a prompt."""
    random = np.random.default_rng([seed, units])
    k = len(truth)
    if kind == "skewed":
        noise = random.gamma(2.0, size=(units, k)) / np.sqrt(2) + random.gamma(2.0, size=(units, 1))
    else:
        noise = random.normal(size=(units, k)) + random.normal(size=(units, 1))
    names = [str(i) for i in range(units)]
    if kind == "clusters":
        noise = np.repeat(noise, 4, axis=0) + 0.3 * random.normal(size=(4 * units, k))
        names = [str(i // 4) for i in range(4 * units)]
    scores = noise + truth
    entrants = [
        Entrant(f"m{j}", float(column.mean()), len(column), moved=Moved("all", names, column - column.mean()))
        for j, column in enumerate(scores.T)
    ]
    low = 1 + (truth[None, :] < truth[:, None]).sum(axis=1)
    high = k - (truth[None, :] > truth[:, None]).sum(axis=1)
    found = rank(entrants, "lower", seed=seed, with_pairs=False).ranges
    return all(a <= lo and hi <= b for (a, b), lo, hi in zip(found, low, high, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=2000)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rows = []
    for name, truth in (TIED | APART).items():
        for kind, units in (("normal", 50), ("normal", 200), ("skewed", 200), ("clusters", 60)):
            hits = sum(covers(np.array(truth, float), units, i, kind) for i in range(given.repetitions))
            share = hits / given.repetitions
            passes = 0.93 <= share <= 0.97 if name in TIED else share >= 0.95
            rows.append({"truth": name, "samples": kind, "units": units, "coverage": share, "passes": passes})
            if not given.json:
                print(
                    f"{name:<40} {kind:<9} {units:>5}  {100 * share:.1f} %  {'' if passes else 'OUTSIDE'}", flush=True
                )
    if given.json:
        print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
