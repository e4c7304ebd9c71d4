"""Draw image tokens from logits: first one of the likeliest clusters, then a token inside it (CogView2, CogVideo).

Everything is on the device and reads nothing back, so a step of generation can be captured whole.
Shapes: B rows (any leading shape), V image tokens, C clusters, K kept clusters, M tokens of the largest cluster.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from cogvideo.clusters import ClusterTable
from cogvideo.errors import UserError


@dataclass(frozen=True)
class SamplerSettings:
    """How far from the likeliest token a draw may go.

    `temperature` divides the logits before anything else; `top_k_clusters` clusters are kept, by mass; the chosen
    cluster's logits are divided by `within_temperature` once more. Raises UserError for values that are not positive.
    """

    temperature: float
    top_k_clusters: int
    within_temperature: float

    def __post_init__(self) -> None:
        if not min(self.temperature, self.top_k_clusters, self.within_temperature) > 0:
            raise UserError(f"expected temperatures and a number of clusters above 0, got {self}")


FIRST_FRAME = SamplerSettings(1.0, 16, 0.89)
VIDEO = SamplerSettings(1.05, 12, 0.89)
SUPERRES = SamplerSettings(1.0, 6, 0.6)
"""The settings that the release generates with (its inference script; super-resolution has them in its code)."""


def sample(logits_BV: Tensor, settings: SamplerSettings, table: ClusterTable, uniforms_B2: Tensor) -> Tensor:
    """int64 ids (B,), one draw a row by inverse distribution: uniform 0 picks the cluster, uniform 1 the token.

    logits_BV: any float type, any leading shape; uniforms_B2: float64 in [0, 1), of the same leading shape. Sums are
    float64, so that the order in which a device adds decides nothing. Ids do not depend on what else is in the batch.
    A cluster or token without mass (a logit of -inf) is never drawn. A row with a NaN, with +inf or with nothing but
    -inf gives some id in range: nobody can be told before the device is read, so the caller keeps
    `logits.isnan().any()` and looks at it when a frame is finished. Memory: about 4 C M + 8 C M bytes a row; give
    super-resolution's thousands of rows in chunks.
    """
    logits = logits_BV.float()
    mass_BK, cluster_BK = _kept_clusters(logits, settings, table)
    choice_B = _inverse(mass_BK, uniforms_B2[..., 0])
    cluster_B = cluster_BK.gather(-1, choice_B[..., None])[..., 0]
    members_BM = table.members[cluster_B]
    token_B = _inverse(_within(logits, members_BM, settings), uniforms_B2[..., 1])
    return members_BM.gather(-1, token_B[..., None])[..., 0].clamp(max=table.num_tokens - 1)


def greedy(logits_BV: Tensor, settings: SamplerSettings, table: ClusterTable) -> Tensor:
    """int64 ids (B,): the likeliest token of the cluster with the most mass. The lowest number wins a tie."""
    logits = logits_BV.float()
    cluster_B = cluster_mass(logits, settings, table).argmax(-1)
    members_BM = table.members[cluster_B]
    best_B = _gather_padded(logits, members_BM).argmax(-1)
    return members_BM.gather(-1, best_B[..., None])[..., 0].clamp(max=table.num_tokens - 1)


def cluster_mass(logits_BV: Tensor, settings: SamplerSettings, table: ClusterTable) -> Tensor:
    """float64 (B, C): probability of each cluster at `settings.temperature`, before any cluster is dropped."""
    scaled_BV = logits_BV.float() / settings.temperature
    weight_BV = (scaled_BV - scaled_BV.amax(-1, keepdim=True)).exp()
    if weight_BV.device.type == "cpu":
        # Adds token after token: six times faster than gathering, and on a CPU always in the same order.
        mass_BC = weight_BV.new_zeros((*weight_BV.shape[:-1], table.num_clusters), dtype=torch.float64)
        mass_BC.scatter_add_(-1, table.labels.expand_as(weight_BV), weight_BV.double())
    else:
        mass_BC = pad(weight_BV, (0, 1))[..., table.members].sum(-1, dtype=torch.float64)
    return mass_BC / mass_BC.sum(-1, keepdim=True)


def token_distribution(logits_BV: Tensor, settings: SamplerSettings, table: ClusterTable) -> Tensor:
    """float64 (B, V): the exact probability of each id in one draw of `sample`. For tests and reports."""
    mass_BC = cluster_mass(logits_BV, settings, table)
    kept_BK = mass_BC.sort(dim=-1, descending=True, stable=True).indices[..., : settings.top_k_clusters]
    mass_BC = torch.zeros_like(mass_BC).scatter(-1, kept_BK, mass_BC.gather(-1, kept_BK))
    mass_BC = mass_BC / mass_BC.sum(-1, keepdim=True)
    scaled_BV = logits_BV.double() / (settings.temperature * settings.within_temperature)
    padded_BCM = pad(scaled_BV, (0, 1), value=-torch.inf)[..., table.members]
    # A cluster without a finite logit has no mass; its 0/0 must not become a probability.
    top_BC = padded_BCM.logsumexp(-1)[..., table.labels]
    share_BV = (scaled_BV - top_BC).exp().nan_to_num(0.0)
    return mass_BC[..., table.labels] * share_BV


def guided(cond_BV: Tensor, uncond_BV: Tensor, alpha: float) -> Tensor:
    """float32 logits with classifier-free guidance: the unconditional ones plus `alpha` times the difference."""
    uncond = uncond_BV.float()
    return uncond + alpha * (cond_BV.float() - uncond)


def plain_top_k(logits_BV: Tensor, k: int, uniforms_B: Tensor) -> Tensor:
    """int64 ids (B,), drawn among the `k` likeliest tokens at temperature 1, as iterative super-resolution does.

    Which of several equal logits at the edge are kept is torch.topk's choice.
    """
    kept = logits_BV.float().topk(min(k, logits_BV.shape[-1]), dim=-1)
    weight_BK = (kept.values - kept.values[..., :1]).double().exp()
    return kept.indices.gather(-1, _inverse(weight_BK, uniforms_B)[..., None])[..., 0]


def argmax(logits_BV: Tensor) -> Tensor:
    """int64 ids (B,): the likeliest token, clusters aside."""
    return logits_BV.argmax(-1)


def _kept_clusters(logits_BV: Tensor, settings: SamplerSettings, table: ClusterTable) -> tuple[Tensor, Tensor]:
    """Mass and number of the kept clusters, most mass first. A stable sort, so that ties go to the lower number."""
    ordered = cluster_mass(logits_BV, settings, table).sort(dim=-1, descending=True, stable=True)
    kept = settings.top_k_clusters
    return ordered.values[..., :kept], ordered.indices[..., :kept]


def _within(logits_BV: Tensor, members_BM: Tensor, settings: SamplerSettings) -> Tensor:
    """float64 (B, M): weights, not yet normalised, of the tokens of one cluster; padding has none."""
    logits_BM = _gather_padded(logits_BV, members_BM)
    scale = settings.temperature * settings.within_temperature
    return ((logits_BM - logits_BM.amax(-1, keepdim=True)).double() / scale).exp()


def _gather_padded(logits_BV: Tensor, members_BM: Tensor) -> Tensor:
    num_tokens = logits_BV.shape[-1]
    gathered_BM = logits_BV.gather(-1, members_BM.clamp(max=num_tokens - 1))
    return gathered_BM.masked_fill(members_BM == num_tokens, -torch.inf)


def _inverse(weight_BN: Tensor, uniform_B: Tensor) -> Tensor:
    """The index where the running sum passes `uniform` of the total: never one without weight, never past the end."""
    running_BN = weight_BN.cumsum(-1)
    total_B1 = running_BN[..., -1:]
    index_B = (running_BN <= uniform_B[..., None] * total_B1).sum(-1)
    # The product may round up to the total; the last index with weight is the first where the total is reached.
    return torch.minimum(index_B, (running_BN < total_B1).sum(-1))
