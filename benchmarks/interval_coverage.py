"""How wide three kinds of interval of FVD are against the scatter they claim, and what the one in use covers.

`python benchmarks/interval_coverage.py --rounds 120` prints the table in docs/metrics.md.
"""

from __future__ import annotations

import argparse

import numpy as np

from eval.intervals import bootstrap_rows, linearised
from eval.metrics.frechet import frechet, frechet_influence

# Features, samples a set, and how far the spectra and means of the two distributions are apart.
SETTINGS = [(16, 200, 0.3), (16, 200, 0.0), (64, 48, 0.3), (64, 256, 0.3), (64, 256, 0.0), (64, 1024, 0.3)]
REPLICATES, BLOCKS = 60, 40


def draw(rng: np.random.Generator, dim: int, n: int, shift: float) -> tuple[np.ndarray, np.ndarray]:
    """Two Gaussian samples; the distributions are the same in every round."""
    fixed = np.random.default_rng(dim)
    spread = 0.3 + 1.5 * fixed.random(dim)
    other = spread * (1 + shift * fixed.standard_normal(dim)).clip(0.3, 3)
    return rng.standard_normal((n, dim)) * spread, rng.standard_normal((n, dim)) * other + shift * fixed.random(dim)


def measure(dim: int, n: int, shift: float, rounds: int) -> list[str]:
    values, influence, hits, bootstrap, above, jackknife = [], [], [], [], [], []
    for seed in range(rounds):
        x, y = draw(np.random.default_rng(seed), dim, n, shift)
        found = frechet_influence(x, y)
        values.append(found.value)
        low, high = linearised(found.value, [(found.fake, range(n)), (found.real, range(n))])
        influence.append((high - low) / 3.92)
        hits.append((low, high))
        if seed < rounds // 3:
            draws = zip(
                bootstrap_rows(range(n), REPLICATES, seed, "x"),
                bootstrap_rows(range(n), REPLICATES, seed, "y"),
                strict=True,
            )
            again = [frechet(x[a], y[b]) for a, b in draws]
            bootstrap.append(np.std(again))
            above.append(np.mean(again) / found.value)
            block = np.arange(n) % BLOCKS
            left = np.array([frechet(x[block != j], y[block != j]) for j in range(BLOCKS)])
            jackknife.append(np.sqrt((BLOCKS - 1) * left.var()))
    scatter, expected = np.std(values), np.mean(values)
    covered = np.mean([low <= expected <= high for low, high in hits])
    cells = [f"{dim}", f"{n}", f"{shift}", f"{expected:.2f}", f"{scatter:.3f}", f"{np.mean(influence) / scatter:.2f}"]
    cells += [f"{covered:.0%}", f"{np.mean(jackknife) / scatter:.2f}", f"{np.mean(bootstrap) / scatter:.2f}"]
    return [*cells, f"{np.mean(above):.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=120)
    rounds = parser.parse_args().rounds
    heads = ["D", "n", "shift", "expected", "scatter", "influence", "covers", "jackknife", "bootstrap", "its mean"]
    print("| " + " | ".join(heads) + " |\n|" + "---|" * len(heads))
    for setting in SETTINGS:
        print("| " + " | ".join(measure(*setting, rounds)) + " |", flush=True)


if __name__ == "__main__":
    main()
