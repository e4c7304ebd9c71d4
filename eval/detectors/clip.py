"""CLIP through open_clip: unit-length embeddings of frames and of captions.

Shapes: B clips, C channels, T frames, H x W pixels, N captions, L tokens, D features.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from cogvideo.errors import UserError
from eval.detectors.contract import Detector
from eval.detectors.engine import Engine, FrameDetector
from eval.detectors.state import State, fit_state, known_options, present, read_state
from eval.preprocess import clip_preprocess
from eval.protocol import Preprocess
from eval.registry import detectors, did_you_mean

# Captions a pass through the text tower; they cost little.
TEXT_PIECE = 64
# What OpenAI's archive holds beside the weights.
NO_WEIGHTS = {"input_resolution", "context_length", "vocab_size", "attn_mask"}
_log = logging.getLogger(__name__)
Tokeniser = Callable[[Sequence[str]], tuple[Tensor, Sequence[bool]]]


class ImageTower(nn.Module):
    """CLIP's image side: frames (B, C, H, W) -> `embedding` (B, D) of unit length."""

    def __init__(self, clip: nn.Module) -> None:
        super().__init__()
        self.clip = clip

    def forward(self, frames_BCHW: Tensor) -> dict[str, Tensor]:
        return {"embedding": functional.normalize(self.clip.encode_image(frames_BCHW).float(), dim=-1)}  # type: ignore[operator]


class ClipDetector(FrameDetector):
    """A CLIP model as a detector of frames, which also reads captions.

    `preprocess` is what its images must have gone through. `warnings` says which captions were cut off; a run puts
    them into its result.
    """

    def __init__(
        self,
        name: str,
        clip: nn.Module,
        tokenise: Tokeniser,
        *,
        n_features: int,
        preprocess: Preprocess,
        device: str = "cpu",
        dtype: str = "float32",
        backend: str = "eager",
    ) -> None:
        piece = 16 if torch.device(device).type == "cpu" else 128
        engine = Engine(
            ImageTower(clip), device=device, dtype=dtype, backend=backend, piece=piece, layout=torch.channels_last
        )
        super().__init__(name, engine, {"embedding": n_features}, chunk=8)
        self.clip, self.tokenise, self.preprocess = clip, tokenise, preprocess
        self.warnings: list[str] = []

    def __call__(self, clips_BCTHW: Tensor) -> dict[str, Tensor]:
        """`embedding` (B, T, D) of unit length. Raises UserError on another frame size than the network's."""
        if tuple(clips_BCTHW.shape[3:]) != self.preprocess.size:
            raise UserError(
                f"detector {self.name} reads frames of {self.preprocess.size} pixels, "
                f"got {tuple(clips_BCTHW.shape[3:])}: prepare them with {self.preprocess.name}"
            )
        return super().__call__(clips_BCTHW)

    def encode_text(self, captions: Sequence[str]) -> Tensor:
        """Embeddings (N, D) of unit length, float32. Captions that do not fit lose their end, which is warned of."""
        tokens_NL, cut = self.tokenise(captions)
        cut_captions(self, captions, cut, tokens_NL.shape[1])
        passes = []
        with torch.no_grad():
            for start in range(0, len(tokens_NL), TEXT_PIECE):
                part_NL = tokens_NL[start : start + TEXT_PIECE].to(self.engine.device)
                embedded: Tensor = self.clip.encode_text(part_NL)  # type: ignore[operator]
                passes.append(functional.normalize(embedded.float(), dim=-1).cpu())
        return torch.cat(passes)


def cut_captions(detector: Detector, captions: Sequence[str], cut: Sequence[bool], limit: int) -> None:
    """Warn of captions that lost their end: in the log, and once among the detector's warnings."""
    lost = [caption for caption, is_cut in zip(captions, cut, strict=True) if is_cut]
    if lost:
        message = (
            f"{len(lost)} caption(s) are longer than the {limit} tokens that {detector.name} reads, and lost their end:"
            f" first {lost[0][:60]!r}"
        )
        if message not in detector.warnings:
            detector.warnings = [*detector.warnings, message]
            _log.warning(message)


@detectors.register(
    "clip",
    "CLIP (open_clip) on every frame and on captions: unit-length embeddings, the features of CLIPSIM",
    layers="embedding",
    weights="a state dict with open_clip's names (.safetensors, .pt), or OpenAI's own archive",
)
def load(
    path: Path | None,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    backend: str = "eager",
    options: Mapping[str, Any] | None = None,
) -> ClipDetector:
    """CLIP of a named size with the weights of `path`.

    Options: `model`, a name of open_clip's (`ViT-B-32-quickgelu`: OpenAI's weights need QuickGELU), or `config`, a
    table as in open_clip's model_configs (or its JSON text). Raises UserError on an unknown name or a tower that
    would have to be downloaded.
    """
    given = known_options("clip", options, model="ViT-B-32-quickgelu", config=None)
    config = _config(given["model"], given["config"])
    clip = build(config)
    fit_state(clip, _clip_state(path), "clip", path)
    return ClipDetector(
        "clip",
        clip,
        tokeniser(config["text_cfg"].get("context_length", 77)),
        n_features=config["embed_dim"],
        preprocess=clip_preprocess(config["vision_cfg"]["image_size"]),
        device=device,
        dtype=dtype,
        backend=backend,
    )


def build(config: Mapping[str, Any]) -> nn.Module:
    """An untrained CLIP from a table as in open_clip's model_configs."""
    from open_clip.model import CLIP

    try:
        clip: nn.Module = CLIP(**config)
    except (TypeError, KeyError) as error:
        raise UserError(f"detector clip: this is no table of a CLIP model: {error}") from None
    return clip.eval()


def tokeniser(context_length: int) -> Tokeniser:
    """CLIP's byte-pair tokens (N, L), and for each caption whether it had to be cut."""
    from open_clip.tokenizer import SimpleTokenizer

    tokenizer = SimpleTokenizer(context_length=context_length)

    def tokenise(captions: Sequence[str]) -> tuple[Tensor, list[bool]]:
        # Two places are taken by the marks of start and end.
        cut = [len(tokenizer.encode(caption)) > context_length - 2 for caption in captions]
        return tokenizer(list(captions)), cut

    return tokenise


def _config(model: str, config: Mapping[str, Any] | str | None) -> dict[str, Any]:
    """The table of a model: the given one, or open_clip's by name."""
    if config is not None:
        table = json.loads(config) if isinstance(config, str) else dict(config)
    else:
        import open_clip

        table = open_clip.get_model_config(model)
        if table is None:
            raise UserError(f"open_clip has no model {model!r}{did_you_mean(model, open_clip.list_models())}")
    downloads = {"hf_model_name", "hf_tokenizer_name"} & set(table["text_cfg"])
    if downloads or "timm_model_name" in table["vision_cfg"] or table.pop("custom_text", False):
        raise UserError(
            f"detector clip builds OpenAI's kind of CLIP only, and {model!r} is another: see docs/protocols.md"
        )
    return table


def _clip_state(path: Path | None) -> State:
    """A state dict, also out of OpenAI's TorchScript archive, from which only the tensors are taken."""
    path = present(path, "clip")
    try:
        return read_state(path, "clip")
    except UserError:
        try:
            with warnings.catch_warnings():
                # torch deprecates making such files; OpenAI's exist.
                warnings.simplefilter("ignore")
                state = torch.jit.load(str(path), map_location="cpu").state_dict()  # type: ignore[no-untyped-call]
        except RuntimeError:
            pass
        else:
            return {name: value.float() for name, value in state.items() if name not in NO_WEIGHTS}
        raise
