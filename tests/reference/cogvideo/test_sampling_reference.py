"""The cluster sampler against the released code's masses, probabilities and greedy choices."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from cogvideo.clusters import read_clusters
from cogvideo.sampling import SamplerSettings, cluster_mass, greedy, sample, token_distribution

TOLERANCE = {"rtol": 2e-5, "atol": 2e-7}


@pytest.fixture(params=["tiny", "release_constants"])
def folder(request, cogvideo_dir):
    path = cogvideo_dir / request.param
    if not path.is_dir():
        pytest.skip(f"this reference set has no {path.name}")
    return path


@pytest.fixture(params=["strategy_first_frame", "strategy_video"])
def case(request, folder):
    """(logits, settings, table, what the released code made of them)."""
    files = [folder / f"{request.param}.io{suffix}" for suffix in (".json", ".safetensors")]
    files.append(folder / "cluster_labels.safetensors")
    if absent := [path.name for path in files if not path.is_file()]:
        pytest.skip(f"this reference set has no {', '.join(absent)}")
    facts = json.loads(files[0].read_text(encoding="utf-8"))
    settings = SamplerSettings(facts["temperature"], facts["top_k"], facts["temperature2"])
    table = read_clusters(files[2], num_clusters=facts["num_clusters"])
    expected = load_file(files[1])
    return expected["logits"], settings, table, expected


def test_cluster_mass(case):
    logits, settings, table, expected = case
    assert torch.allclose(cluster_mass(logits, settings, table).float(), expected["cluster_mass"], **TOLERANCE)


def test_kept_clusters(case):
    logits, settings, table, expected = case
    exact = token_distribution(logits, settings, table)
    mass = torch.zeros(len(logits), table.num_clusters, dtype=torch.float64).index_add(1, table.labels, exact)
    assert torch.allclose(
        mass.gather(1, expected["top_cluster_ids"].long()).float(), expected["top_cluster_prob"], **TOLERANCE
    )
    assert (mass > 0).sum(1).tolist() == [settings.top_k_clusters] * len(logits)


def test_token_probabilities(case):
    logits, settings, table, expected = case
    exact = token_distribution(logits, settings, table)
    assert torch.allclose(exact.float(), expected["token_prob"], **TOLERANCE)


def test_greedy(case):
    logits, settings, table, expected = case
    assert greedy(logits, settings, table).tolist() == expected["greedy_token"].tolist()


def test_draws_have_the_released_probabilities(case):
    """Evenly spread uniforms draw each token as often as its probability says, but for the steps of the spread."""
    logits, settings, table, expected = case
    side = 40
    ticks = (torch.arange(side, dtype=torch.float64) + 0.5) / side
    pairs = torch.cartesian_prod(ticks, ticks)
    for row, probabilities in zip(logits, expected["token_prob"], strict=True):
        counts = torch.zeros(len(row), dtype=torch.float64)
        for part in pairs.split(200):
            ids = sample(row.expand(len(part), -1), settings, table, part)
            counts += torch.bincount(ids, minlength=len(row))
        assert (counts / side**2 - probabilities).abs().max() < 2.5 / side
        assert counts[probabilities == 0].sum() == 0
