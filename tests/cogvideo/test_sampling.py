"""The sampler against a slow reference in numpy, exact probabilities, and the corners of a distribution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from cogvideo.clusters import cluster_table
from cogvideo.errors import UserError
from cogvideo.randomness import uniform
from cogvideo.sampling import (
    FIRST_FRAME,
    SUPERRES,
    VIDEO,
    SamplerSettings,
    argmax,
    cluster_mass,
    greedy,
    guided,
    plain_top_k,
    sample,
    token_distribution,
)

SETTINGS = SamplerSettings(1.05, 3, 0.7)
LABELS = torch.tensor([4, 0, 1, 1, 2, 0, 4, 4, 2, 1, 5, 0, 2, 2, 4])
TABLE = cluster_table(LABELS, num_clusters=8)  # 3, 6 and 7 are empty
LAST = 1 - 2.0**-53


def logits(rows, seed=0, scale=1.5, tokens=15):
    return torch.randn(rows, tokens, generator=torch.Generator().manual_seed(seed)) * scale


def slow_distribution(row, labels, settings):
    """The rule as the fact sheet has it, one token after another in float64."""
    z = [float(value) / settings.temperature for value in row]
    p = [np.exp(value - max(z)) for value in z]
    clusters = sorted(set(labels))
    mass = {c: sum(p[t] for t in range(len(z)) if labels[t] == c) / sum(p) for c in clusters}
    kept = sorted(clusters, key=lambda c: -mass[c])[: settings.top_k_clusters]
    out = np.zeros(len(z))
    for c in kept:
        inside = [t for t in range(len(z)) if labels[t] == c]
        w = [np.exp((z[t] - max(z)) / settings.within_temperature) for t in inside]
        for t, weight in zip(inside, w, strict=True):
            out[t] = mass[c] / sum(mass[k] for k in kept) * weight / sum(w)
    return out


@pytest.mark.parametrize("settings", [SETTINGS, FIRST_FRAME, VIDEO, SUPERRES, SamplerSettings(0.3, 1, 2.0)])
def test_distribution_against_the_slow_rule(settings):
    rows = logits(20)
    exact = token_distribution(rows, settings, TABLE)
    assert torch.allclose(exact.sum(-1), torch.ones(20, dtype=torch.float64), atol=1e-12)
    for row, ours in zip(rows, exact, strict=True):
        assert np.allclose(ours.numpy(), slow_distribution(row.tolist(), LABELS.tolist(), settings), atol=1e-6)


@pytest.mark.parametrize("settings", [SETTINGS, SUPERRES], ids=["video", "superres"])
def test_draws_follow_the_distribution(settings):
    """A chi-squared test of 200,000 draws with the generator that generation uses."""
    count = 200_000
    row = logits(1, seed=3)
    uniforms = uniform(torch.tensor([11]), 1, torch.arange(count), 2)[0]
    ids = sample(row.expand(count, -1), settings, TABLE, uniforms)
    expected = token_distribution(row, settings, TABLE)[0].numpy() * count
    counts = np.bincount(ids.numpy(), minlength=15)
    assert counts[expected == 0].sum() == 0
    assert (expected > 0).sum() >= 6
    assert stats.chisquare(counts[expected > 0], expected[expected > 0]).pvalue > 1e-3


def test_each_draw_is_the_inverse_distribution():
    """Clusters by falling mass, tokens by number: uniforms just below and above each boundary."""
    row = logits(1, seed=5)
    exact = slow_distribution(row[0].tolist(), LABELS.tolist(), SETTINGS)
    mass = {c: exact[LABELS.numpy() == c].sum() for c in range(8)}
    order = sorted(mass, key=lambda c: -mass[c])[:3]
    start = 0.0
    for cluster in order:
        inner = 0.0
        for token in np.flatnonzero(LABELS.numpy() == cluster):
            share = exact[token] / mass[cluster]
            for u in (inner + 1e-6, inner + share - 1e-6):
                for first in (start + 1e-6, start + mass[cluster] - 1e-6):
                    pair = torch.tensor([[first, u]], dtype=torch.float64)
                    assert sample(row, SETTINGS, TABLE, pair).item() == token
            inner += share
        start += mass[cluster]


def test_same_ids_for_any_batch_split():
    rows = logits(60, tokens=300)
    table = cluster_table(torch.arange(300) * 7 % 40)
    uniforms = uniform(torch.arange(60), 2, torch.tensor(9), 2)
    whole = sample(rows, VIDEO, table, uniforms)
    parts = [
        sample(r, VIDEO, table, u) for n in (1, 7, 30) for r, u in zip(rows.split(n), uniforms.split(n), strict=True)
    ]
    assert torch.equal(torch.cat(parts), whole.repeat(3))
    shaped = sample(rows.reshape(3, 4, 5, 300), VIDEO, table, uniforms.reshape(3, 4, 5, 2))
    assert torch.equal(shaped.flatten(), whole)
    assert len(whole.unique()) > 20


def test_temperature_near_zero_is_greedy():
    rows = logits(50)
    cold = SamplerSettings(1.0, 1, 1e-4)
    uniforms = uniform(torch.arange(50), 0, torch.tensor(0), 2)
    assert torch.equal(sample(rows, cold, TABLE, uniforms), greedy(rows, cold, TABLE))


def test_greedy_is_the_best_token_of_the_best_cluster():
    """Not the best token of all: many middling tokens outweigh one good one."""
    row = torch.zeros(1, 15)
    row[0, 10] = 1.0  # alone in cluster 5: mass e; cluster 4 has four tokens
    row[0, 7] = 0.1
    assert argmax(row).item() == 10
    assert greedy(row, VIDEO, TABLE).item() == 7


def test_ties_go_to_the_lowest_number():
    row = torch.zeros(1, 15)
    one_each = cluster_table(torch.arange(15))
    settings = SamplerSettings(1.0, 4, 1.0)
    assert greedy(row, settings, one_each).item() == 0
    assert (token_distribution(row, settings, one_each)[0] > 0).nonzero().flatten().tolist() == [0, 1, 2, 3]
    firsts = torch.tensor([0.0, 0.3, 0.6, LAST], dtype=torch.float64)
    pairs = torch.stack([firsts, torch.zeros(4, dtype=torch.float64)], dim=-1)
    assert sample(row.expand(4, -1), settings, one_each, pairs).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("value", [0.0, 5e-324, 0.5, LAST])
def test_nothing_without_mass_is_drawn(value):
    """More clusters asked for than have mass, empty clusters, tokens at -inf, and the ends of the unit interval."""
    rows = torch.full((4, 15), -torch.inf)
    rows[0, 9] = 3.0
    rows[1, [2, 6]] = 0.0
    rows[2] = -50_000.0
    rows[2, [0, 14]] = 50_000.0
    rows[3, 3:5] = torch.tensor([-1e30, -1e30])
    uniforms = torch.full((4, 2), value, dtype=torch.float64)
    for settings in (SETTINGS, FIRST_FRAME, SamplerSettings(1.0, 1000, 0.5)):
        ids = sample(rows, settings, TABLE, uniforms)
        exact = token_distribution(rows, settings, TABLE)
        assert (exact.gather(1, ids[:, None]) > 0).all()
        assert torch.allclose(exact.sum(-1), torch.ones(4, dtype=torch.float64))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_broken_row_gives_an_id_in_range_and_spoils_no_other(bad):
    rows = logits(3)
    uniforms = torch.full((3, 2), 0.4, dtype=torch.float64)
    good = sample(rows, SETTINGS, TABLE, uniforms)
    rows[1] = bad
    for ids in (sample(rows, SETTINGS, TABLE, uniforms), greedy(rows, SETTINGS, TABLE)):
        assert ((ids >= 0) & (ids < 15)).all()
    assert torch.equal(sample(rows, SETTINGS, TABLE, uniforms)[::2], good[::2])


def test_half_precision_logits_are_widened_first():
    rows = logits(30).bfloat16()
    uniforms = uniform(torch.arange(30), 0, torch.tensor(0), 2)
    assert torch.equal(sample(rows, VIDEO, TABLE, uniforms), sample(rows.float(), VIDEO, TABLE, uniforms))
    assert torch.allclose(cluster_mass(rows, VIDEO, TABLE).sum(-1), torch.ones(30, dtype=torch.float64))


def test_guidance():
    cond, uncond = logits(2, seed=1), logits(2, seed=2)
    assert torch.allclose(guided(cond, uncond, 3.0), 3 * cond - 2 * uncond, atol=1e-5)
    assert torch.allclose(guided(cond, uncond, 1.0), cond, atol=1e-6)
    assert guided(cond.half(), uncond.half(), 3.0).dtype == torch.float32


def test_plain_top_k():
    count, row = 100_000, logits(1, seed=4)
    draws = uniform(torch.tensor([2]), 0, torch.arange(count), 1)[0, :, 0]
    counts = np.bincount(plain_top_k(row.expand(count, -1), 5, draws).numpy(), minlength=15)
    kept = row[0].topk(5)
    expected = np.zeros(15)
    expected[kept.indices.numpy()] = torch.softmax(kept.values.double(), 0).numpy() * count
    assert counts[expected == 0].sum() == 0
    assert stats.chisquare(counts[expected > 0], expected[expected > 0]).pvalue > 1e-3
    assert plain_top_k(row, 1, draws[:1]).item() == argmax(row).item()
    assert plain_top_k(row, 99, torch.tensor([LAST])).item() == row.argmin().item()


@pytest.mark.parametrize("values", [(0.0, 1, 1.0), (1.0, 0, 1.0), (1.0, 1, -0.5)])
def test_settings_that_mean_nothing(values):
    with pytest.raises(UserError, match="above 0"):
        SamplerSettings(*values)


def test_nothing_is_read_back():
    """Traced with tensors that have no values, so nothing on the way can ask for one (`.item()`, `if`)."""
    from torch.fx.experimental.proxy_tensor import make_fx

    rows, uniforms = logits(4), uniform(torch.arange(4), 0, torch.tensor(0), 2)
    traced = make_fx(lambda r, u: sample(r, VIDEO, TABLE, u), tracing_mode="fake", _allow_non_fake_inputs=True)
    graph = traced(rows, uniforms)
    other = logits(4, seed=8)
    assert torch.equal(graph(other, uniforms), sample(other, VIDEO, TABLE, uniforms))
