"""VideoMAE v2 fine-tuned on Something-Something v2: the features of content-debiased FVD.

Shapes: B clips, C channels, T frames, H x W pixels, N tokens, D features, h heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from eval.detectors.engine import Engine, VideoDetector
from eval.detectors.layers import require_size
from eval.detectors.state import fit_state, known_options, read_state
from eval.registry import detectors

NORM_EPS = 1e-6


class Attention(nn.Module):
    """Self-attention of all tokens. Queries and values have a bias, keys have none, as in the checkpoint."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(width))
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.proj = nn.Linear(width, width)

    def forward(self, x_BND: Tensor) -> Tensor:
        B, N, D = x_BND.shape
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        qkv = functional.linear(x_BND, self.qkv.weight, bias)
        q, k, v = qkv.reshape(B, N, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        mixed_BhNd = functional.scaled_dot_product_attention(q, k, v)
        projected: Tensor = self.proj(mixed_BhNd.transpose(1, 2).reshape(B, N, D))
        return projected


class Mlp(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x_BND: Tensor) -> Tensor:
        out: Tensor = self.fc2(functional.gelu(self.fc1(x_BND)))
        return out


class Block(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPS)
        self.mlp = Mlp(width, hidden)

    def forward(self, x_BND: Tensor) -> Tensor:
        x_BND = x_BND + self.attn(self.norm1(x_BND))
        out: Tensor = x_BND + self.mlp(self.norm2(x_BND))
        return out


class PatchEmbedding(nn.Module):
    """Tubelets of `tubelet` frames x `patch` x `patch` pixels -> tokens (B, N, D), time first, then rows."""

    def __init__(self, width: int, patch: int, tubelet: int) -> None:
        super().__init__()
        size = (tubelet, patch, patch)
        self.proj = nn.Conv3d(3, width, kernel_size=size, stride=size)

    def forward(self, clips_BCTHW: Tensor) -> Tensor:
        tokens: Tensor = self.proj(clips_BCTHW).flatten(2).transpose(1, 2)
        return tokens


class VideoMAE(nn.Module):
    """The encoder of VideoMAE with joint attention over space and time, all tokens averaged at the end.

    The defaults are ViT-giant on 16 frames of 224 pixels. State dict: the names of OpenGVLab/VideoMAEv2's fine-tuned
    checkpoints; places are a fixed table of sines, which is not in it. Source: Wang et al. 2023 (arXiv 2303.16727);
    for a distance: Ge et al. 2024 (arXiv 2404.12391).
    """

    def __init__(
        self,
        *,
        width: int = 1408,
        depth: int = 40,
        heads: int = 16,
        hidden: int = 6144,
        n_classes: int = 174,
        frames: int = 16,
        size: int = 224,
        patch: int = 14,
        tubelet: int = 2,
    ) -> None:
        super().__init__()
        self.expected = (frames, size, size)
        self.patch_embed = PatchEmbedding(width, patch, tubelet)
        n_tokens = (frames // tubelet) * (size // patch) ** 2
        self.register_buffer("places", sine_table(n_tokens, width), persistent=False)
        self.blocks = nn.ModuleList(Block(width, heads, hidden) for _ in range(depth))
        self.fc_norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.head = nn.Linear(width, n_classes)

    def forward(self, clips_BCTHW: Tensor) -> dict[str, Tensor]:
        """`pooled` (B, D): the mean over tokens after its norm; `logits` (B, K). Raises UserError on another size."""
        require_size("VideoMAE", self.expected, clips_BCTHW, "its table of places fits no other size")
        x_BND = self.patch_embed(clips_BCTHW)
        x_BND = x_BND + self.places.to(x_BND.dtype)
        for block in self.blocks:
            x_BND = block(x_BND)
        pooled = self.fc_norm(x_BND.mean(1))
        return {"pooled": pooled, "logits": self.head(pooled)}


def sine_table(n: int, width: int) -> Tensor:
    """(1, n, width): sines in the even columns, cosines in the odd ones, of n / 10000^(2 floor(column / 2) / width)."""
    rates = 10000.0 ** (-2 * (torch.arange(width, dtype=torch.float64) // 2) / width)
    angles = torch.arange(n, dtype=torch.float64)[:, None] * rates
    return torch.where(torch.arange(width) % 2 == 0, angles.sin(), angles.cos()).float()[None]


@detectors.register(
    "videomae",
    "VideoMAE v2 (ViT-g, fine-tuned on SSv2) on 16 frames of 224 px: the features of content-debiased FVD",
    layers="pooled 1408, logits 174",
    weights="vit_g_hybrid_pt_1200e_ssv2_ft.pth, or the same tensors as .safetensors",
)
def load(
    path: Path | None,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    backend: str = "eager",
    options: Mapping[str, Any] | None = None,
) -> VideoDetector:
    """VideoMAE with the weights of `path`. The sizes of `VideoMAE` are options, for other checkpoints of its layout."""
    sizes = {"width": 1408, "depth": 40, "heads": 16, "hidden": 6144, "n_classes": 174}
    pixels = {"frames": 16, "size": 224, "patch": 14, "tubelet": 2}
    given = known_options("videomae", options, **sizes, **pixels)
    state = read_state(path, "videomae")
    with torch.device("meta"):
        # A billion numbers need not be drawn only to be replaced.
        network = VideoMAE(**given)
    network = network.to_empty(device="cpu")
    tokens = cast(Tensor, network.places).shape[1]
    network.places = sine_table(tokens, given["width"])
    fit_state(network, state, "videomae", path)
    piece = 1 if torch.device(device).type == "cpu" else 8
    engine = Engine(network, device=device, dtype=dtype, backend=backend, piece=piece)
    layers = {"pooled": given["width"], "logits": given["n_classes"]}
    return VideoDetector("videomae", engine, layers, min_frames=given["frames"], chunk=8)
