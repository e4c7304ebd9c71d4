"""ViCLIP: one unit-length embedding of a clip and of a caption, for video-text alignment as in VBench.

Shapes: B clips, C channels, T frames, H x W pixels, M captions, L tokens, P patches of a frame, D features.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from cogvideo.errors import UserError
from eval.detectors.clip import TEXT_PIECE, Tokeniser, cut_captions, tokeniser
from eval.detectors.engine import Engine, VideoDetector
from eval.detectors.state import State, fit_state, known_options, read_state
from eval.registry import detectors


class QuickGELU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    """A residual block of CLIP's transformers, with its names."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_1 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            OrderedDict(c_fc=nn.Linear(width, 4 * width), gelu=QuickGELU(), c_proj=nn.Linear(4 * width, width))
        )
        self.ln_2 = nn.LayerNorm(width)

    def forward(self, x_BLD: Tensor, mask_LL: Tensor | None = None) -> Tensor:
        h = self.ln_1(x_BLD)
        x_BLD = x_BLD + self.attn(h, h, h, need_weights=False, attn_mask=mask_LL)[0]
        out: Tensor = x_BLD + self.mlp(self.ln_2(x_BLD))
        return out


class Transformer(nn.Module):
    def __init__(self, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(width, heads) for _ in range(layers))

    def forward(self, x_BLD: Tensor, mask_LL: Tensor | None = None) -> Tensor:
        for block in self.resblocks:
            x_BLD = block(x_BLD, mask_LL)
        return x_BLD


class VideoTower(nn.Module):
    """CLIP's vision transformer on the patches of all frames at once, each with its place and its time.

    Clips of more frames than `frames` are thinned to that number, evenly spread, as VBench takes them from a video.
    """

    def __init__(
        self, *, width: int, layers: int, heads: int, patch: int, size: int, frames: int, n_features: int
    ) -> None:
        super().__init__()
        self.frames, self.size = frames, size
        self.conv1 = nn.Conv3d(3, width, (1, patch, patch), (1, patch, patch), bias=False)
        self.class_embedding = nn.Parameter(torch.zeros(width))
        self.positional_embedding = nn.Parameter(torch.zeros((size // patch) ** 2 + 1, width))
        self.temporal_positional_embedding = nn.Parameter(torch.zeros(1, frames, width))
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = Transformer(width, layers, heads)
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(torch.zeros(width, n_features))

    def forward(self, clips_BCTHW: Tensor) -> dict[str, Tensor]:
        """`embedding` (B, D) of unit length. Raises UserError on another frame size or fewer frames."""
        T, H, W = clips_BCTHW.shape[2:]
        if (self.size, self.size) != (H, W) or self.frames > T:
            raise UserError(
                f"this ViCLIP reads at least {self.frames} frames of {self.size}x{self.size} pixels, got {T} of"
                f" {W}x{H}: choose a protocol whose pixels are made for it"
            )
        patches = self.conv1(clips_BCTHW[:, :, middle_frames(T, self.frames)]).flatten(3).permute(0, 2, 3, 1)
        places_PD = self.positional_embedding[1:]
        tokens_BTPD = patches + places_PD + self.temporal_positional_embedding[:, :, None]
        whole_D = self.class_embedding + self.positional_embedding[0]
        # The order of tokens changes nothing: each carries its place and its time.
        x_BLD = torch.cat([whole_D.expand(len(patches), 1, -1), tokens_BTPD.flatten(1, 2)], dim=1)
        x_BLD = self.transformer(self.ln_pre(x_BLD))
        embedding = self.ln_post(x_BLD[:, 0]) @ self.proj
        return {"embedding": functional.normalize(embedding.float(), dim=-1)}


class TextTower(nn.Module):
    """CLIP's causal text transformer, read at the end mark, which has the highest token number."""

    def __init__(self, *, width: int, layers: int, heads: int, context: int, vocabulary: int, n_features: int) -> None:
        super().__init__()
        self.transformer = Transformer(width, layers, heads)
        self.token_embedding = nn.Embedding(vocabulary, width)
        self.positional_embedding = nn.Parameter(torch.zeros(context, width))
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.zeros(width, n_features))

    def forward(self, tokens_ML: Tensor) -> Tensor:
        """Embeddings (M, D) of unit length, float32."""
        L = tokens_ML.shape[1]
        mask_LL = torch.full((L, L), -torch.inf).triu(1).to(self.positional_embedding)
        x_MLD = self.transformer(self.token_embedding(tokens_ML) + self.positional_embedding, mask_LL)
        ends_MD = self.ln_final(x_MLD)[torch.arange(len(tokens_ML)), tokens_ML.argmax(dim=-1)]
        return functional.normalize((ends_MD @ self.text_projection).float(), dim=-1)


def middle_frames(T: int, wanted: int) -> list[int]:
    """The middle frame of each of `wanted` equal parts of T frames, rounded down, as VBench samples a video."""
    edges = [T * part // wanted for part in range(wanted + 1)]
    return [(low + high - 1) // 2 for low, high in pairwise(edges)]


class ViClipDetector(VideoDetector):
    """ViCLIP as a detector of clips that also reads captions. `warnings` says which captions were cut off."""

    def __init__(self, engine: Engine, text: TextTower, tokenise: Tokeniser, n_features: int, frames: int) -> None:
        super().__init__("viclip", engine, {"embedding": n_features}, min_frames=frames)
        self.text, self.tokenise = text, tokenise
        self.warnings: list[str] = []

    def encode_text(self, captions: Sequence[str]) -> Tensor:
        """Embeddings (M, D) of unit length, float32. Captions that do not fit lose their end, which is warned of."""
        tokens_ML, cut = self.tokenise(captions)
        cut_captions(self, captions, cut, tokens_ML.shape[1])
        with torch.no_grad():
            parts = [self.text(part.to(self.engine.device)).cpu() for part in torch.split(tokens_ML, TEXT_PIECE)]
        return torch.cat(parts)


@detectors.register(
    "viclip",
    "ViCLIP (ViT-L/14) on 8 frames and on captions: one unit-length embedding a clip, for video-text alignment",
    layers="embedding 768",
    weights="ViClip-InternVid-10M-FLT.pth, or the same tensors as .safetensors",
)
def load(
    path: Path | None,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    backend: str = "eager",
    options: Mapping[str, Any] | None = None,
) -> ViClipDetector:
    """ViCLIP with the weights of `path`: OpenGVLab's names, `vision_encoder.*` and `text_encoder.*`.

    Options: the sizes of both towers. Raises UserError on weights that do not fit.
    """
    given = known_options(
        "viclip",
        options,
        width=1024,
        layers=24,
        heads=16,
        patch=14,
        size=224,
        frames=8,
        n_features=768,
        text_width=768,
        text_layers=12,
        text_heads=12,
        context=32,
        vocabulary=49408,
    )
    vision = {name: given[name] for name in ("width", "layers", "heads", "patch", "size", "frames", "n_features")}
    words = {name: given[f"text_{name}"] for name in ("width", "layers", "heads")}
    words |= {name: given[name] for name in ("context", "vocabulary", "n_features")}
    both = nn.ModuleDict({"vision_encoder": VideoTower(**vision), "text_encoder": TextTower(**words)})
    fit_state(both, _towers(read_state(path, "viclip")), "viclip", path)
    text = both["text_encoder"].eval().requires_grad_(False).to(device)
    assert isinstance(text, TextTower)
    piece = 1 if torch.device(device).type == "cpu" else 16
    engine = Engine(both["vision_encoder"], device=device, dtype=dtype, backend=backend, piece=piece)
    return ViClipDetector(engine, text, tokeniser(given["context"]), given["n_features"], given["frames"])


def _towers(state: State) -> State:
    """Without the temperature, which only training needs."""
    return {name: value for name, value in state.items() if name != "temp"}
