"""The only place where pixels change: from decoded or generated uint8 clips to what a detector reads.

Shapes: B clips, T frames, H x W pixels, C or 3 channels, RGB unless said. torch is imported inside functions only.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cogvideo.errors import MissingPrerequisite, UserError
from eval.protocol import ClipRule, Preprocess

if TYPE_CHECKING:
    from torch import Tensor

Clip = NDArray[np.uint8]

# Where TGANv2 cuts the stored mean clip (128 x 171): not the centre, but every published number was made this way.
MEAN_CLIP_CORNER = (8, 8)

# I3D. TATS, VideoGPT's own code, cd-fvd on arrays, and StyleGAN-V's network when it resizes by itself.
I3D_DIRECT = Preprocess("i3d-direct-224", size=(224, 224))
# I3D. VideoGPT as copied in common_metrics_on_video_quality.
I3D_SHORT224_CROP = Preprocess("i3d-short-side-224-crop", size=(224, 224), geometry="short-side-crop")
# I3D. The first FVD code, google-research frechet_video_distance.
I3D_TF1 = Preprocess("i3d-tf1-224", size=(224, 224), grid="legacy")
# Networks in TorchScript that rescale and resize by themselves.
RAW_255 = Preprocess("raw-0-255", geometry="none", scale="zero-255")
# C3D. pfnet-research/tgan2: channels reversed, corners aligned, the mean clip taken off.
C3D_TGAN2 = Preprocess(
    "c3d-tgan2-112",
    size=(112, 112),
    grid="align-corners",
    scale="zero-255",
    channels="bgr",
    subtract="c3d-tgan2-mean",
)
# Inception. pytorch-fid, and clean-fid's bicubic on float channels with its own range.
INCEPTION_PYTORCH_FID = Preprocess("inception-pytorch-fid-299", size=(299, 299))
INCEPTION_CLEAN = Preprocess(
    "inception-clean-299", size=(299, 299), kernel="bicubic", antialias=True, backend="pil", scale="signed-128"
)


def clip_preprocess(
    size: int,
    mean: tuple[float, ...] = (0.48145466, 0.4578275, 0.40821073),
    std: tuple[float, ...] = (0.26862954, 0.26130258, 0.27577711),
) -> Preprocess:
    """What CLIP's image tower of `size` pixels reads: PIL bicubic on the short side, centre crop, CLIP's statistics."""
    return Preprocess(
        f"clip-bicubic-{size}",
        size=(size, size),
        geometry="short-side-crop",
        fit="torchvision",
        kernel="bicubic",
        antialias=True,
        backend="pil",
        rounding="nearest",
        scale="zero-one",
        mean=mean,
        std=std,
    )


CLIP_VIT_B_32 = clip_preprocess(224)
# ViCLIP. VBench: torch's bicubic without antialiasing on whole levels, and CLIP's statistics.
VICLIP = replace(clip_preprocess(224), name="viclip-bicubic-224", antialias=False, backend="torch")
# VideoMAE. cd-fvd: 0..1 without mean and deviation.
VIDEOMAE_DIRECT = Preprocess("videomae-direct-224", size=(224, 224), scale="zero-one")
# Points are tracked on frames of one size; FVMD takes 256 pixels, and half of that is four times less work.
TRACKS_128 = Preprocess("tracks-128", size=(128, 128), antialias=True, scale="zero-255")


def apply(clip_THWC: Clip, spec: Preprocess, *, files: Mapping[str, Path] | None = None, device: str = "cpu") -> Tensor:
    """A clip as one detector reads it: float32 (C, T, H, W) on `device`, in memory as (T, H, W, C).

    `files` are the paths of the weight files that the record names (`subtract`). Raises MissingPrerequisite if one is
    not there, UserError if a mean clip does not fit, ValueError if the clip is no uint8 (T, H, W, 3).
    """
    import torch

    _check(clip_THWC)
    if spec.channels == "bgr":
        clip_THWC = clip_THWC[..., ::-1]
    frames_TCHW = _resized(clip_THWC, spec, device)
    if spec.rounding == "nearest":
        frames_TCHW.round_()
    # Bicubic weights overshoot; the tools that use them all clip.
    if spec.kernel == "bicubic":
        frames_TCHW.clamp_(0, 255)
    if spec.scale == "minus-one-one":
        frames_TCHW.div_(127.5).sub_(1)
    elif spec.scale == "zero-one":
        frames_TCHW.div_(255)
    elif spec.scale == "signed-128":
        frames_TCHW.sub_(128).div_(128)
    if spec.mean or spec.std:
        column = (1, -1, 1, 1)
        frames_TCHW.sub_(torch.tensor(spec.mean, device=device).reshape(column))
        frames_TCHW.div_(torch.tensor(spec.std, device=device).reshape(column))
    if spec.subtract:
        frames_TCHW.sub_(torch.from_numpy(_mean_frames(spec, frames_TCHW.shape, files or {})).to(device))
    return frames_TCHW.permute(1, 0, 2, 3)


def stacked(clips_CTHW: Sequence[Tensor]) -> Tensor:
    """Prepared clips as one batch (B, C, T, H, W) that keeps their layout in memory, (B, T, H, W, C)."""
    import torch

    return torch.stack([clip.permute(1, 2, 3, 0) for clip in clips_CTHW]).permute(0, 4, 1, 2, 3)


def to_protocol_size(clip_THWC: Clip, rule: ClipRule) -> Clip:
    """The clip at the protocol's size, uint8 (T, height, width, 3), the same for real and fake.

    Loads no torch if the rule is antialiased, so that decoding workers stay small.
    "centre-crop-first" takes the largest centred window of the target's shape and then resizes; "short-side-crop"
    resizes first; "stretch" ignores the shape. Bilinear; values are rounded, never cut off.
    """
    _check(clip_THWC)
    if rule.size is None or clip_THWC.shape[1:3] == rule.size:
        return clip_THWC
    height, width = clip_THWC.shape[1:3]
    size = rule.size
    if rule.resize == "centre-crop-first":
        clip_THWC = _centre(clip_THWC, _largest_window((height, width), size))
    elif rule.resize == "short-side-crop":
        size = covering_size((height, width), rule.size, "ceil")
    if clip_THWC.shape[1:3] != size:
        clip_THWC = _resized_uint8(clip_THWC, size, rule.antialias)
    return np.ascontiguousarray(_centre(clip_THWC, rule.size))


def covering_size(source: tuple[int, int], target: tuple[int, int], fit: str) -> tuple[int, int]:
    """The smallest (height, width) of the source's shape that covers the target.

    "ceil" rounds the longer side up as VideoGPT does, in its own order of operations; "torchvision" rounds it down.
    """
    (H, W), (h, w) = source, target
    if H * w <= W * h:
        longer = math.ceil(W * (h / H)) if fit == "ceil" else int(h * W / H)
        return h, max(longer, w)
    longer = math.ceil(H * (w / W)) if fit == "ceil" else int(w * H / W)
    return max(longer, h), w


def _check(clip_THWC: Clip) -> None:
    if clip_THWC.dtype != np.uint8 or clip_THWC.ndim != 4 or clip_THWC.shape[3] != 3:
        raise ValueError(f"a clip is uint8 (T, H, W, 3), got {clip_THWC.dtype} {clip_THWC.shape}")


def _largest_window(source: tuple[int, int], shape: tuple[int, int]) -> tuple[int, int]:
    """The largest (height, width) inside the source that has the aspect ratio of `shape`, to the nearest pixel."""
    (H, W), (h, w) = source, shape
    if W * h > H * w:
        return H, max(1, round(H * w / h))
    return max(1, round(W * h / w)), W


def _centre(clip_THWC: Clip, size: tuple[int, int]) -> Clip:
    top, left = ((have - want) // 2 for have, want in zip(clip_THWC.shape[1:3], size, strict=True))
    return clip_THWC[:, top : top + size[0], left : left + size[1]]


def _resized_uint8(clip_THWC: Clip, size: tuple[int, int], antialias: bool) -> Clip:
    """Bilinear to `size`, rounded. PIL's bilinear is the antialiased one."""
    if antialias:
        return _pil(clip_THWC, size, "bilinear", as_float=False)
    frames_TCHW = _interpolate(_frames(clip_THWC, "cpu"), size, Preprocess("protocol-size"))
    plain: Clip = frames_TCHW.round_().byte().permute(0, 2, 3, 1).numpy()
    return plain


def _resized(clip_THWC: Clip, spec: Preprocess, device: str) -> Tensor:
    """Frames (T, C, H, W) float32 on the 0..255 scale, at the record's size, in memory as (T, H, W, C)."""
    import torch

    if spec.size is None or spec.geometry == "none":
        return _frames(clip_THWC, device)
    size = spec.size
    if spec.geometry == "short-side-crop":
        size = covering_size((clip_THWC.shape[1], clip_THWC.shape[2]), spec.size, spec.fit)
    if spec.backend == "pil":
        if not spec.antialias or spec.grid != "half-pixel":
            raise ValueError(f"preprocessing {spec.name}: PIL resizes on half-pixel centres with antialiasing only")
        if clip_THWC.shape[1:3] != size:
            prepared = _pil(clip_THWC, size, spec.kernel, as_float=spec.rounding == "none")
            frames_TCHW = torch.from_numpy(prepared).to(device).permute(0, 3, 1, 2).float()
        else:
            frames_TCHW = _frames(clip_THWC, device)
    else:
        frames_TCHW = _interpolate(_frames(clip_THWC, device), size, spec)
    if size == spec.size:
        return frames_TCHW
    margin = [have - want for have, want in zip(size, spec.size, strict=True)]
    top, left = (m // 2 if spec.fit == "ceil" else round(m / 2) for m in margin)
    cropped = frames_TCHW[:, :, top : top + spec.size[0], left : left + spec.size[1]]
    return cropped.clone(memory_format=torch.channels_last)


def _frames(clip_THWC: Clip, device: str) -> Tensor:
    """Float frames (T, C, H, W) that lie in memory as decoded, so that no layout is ever copied into another."""
    import torch

    usable = clip_THWC.flags.writeable and all(stride > 0 for stride in clip_THWC.strides)
    pixels_THWC = torch.from_numpy(clip_THWC if usable else clip_THWC.copy(order="C"))
    return pixels_THWC.to(device).permute(0, 3, 1, 2).float()


def _interpolate(frames_TCHW: Tensor, size: tuple[int, int], spec: Preprocess) -> Tensor:
    """torch's kernels, and TF1's grid which torch does not have."""
    from torch.nn import functional

    if tuple(frames_TCHW.shape[2:]) == size:
        return frames_TCHW
    if spec.grid == "legacy":
        if spec.kernel != "bilinear" or spec.antialias:
            raise ValueError(f"preprocessing {spec.name}: TF1's grid goes with plain bilinear only")
        return _legacy_bilinear(_legacy_bilinear(frames_TCHW, 2, size[0]), 3, size[1])
    return functional.interpolate(
        frames_TCHW, size, mode=spec.kernel, align_corners=spec.grid == "align-corners", antialias=spec.antialias
    )


def _legacy_bilinear(frames_TCHW: Tensor, axis: int, target: int) -> Tensor:
    """One axis on TF1's grid: target pixel i reads source position i * source / target, in float32 as TF1 does."""
    import torch

    source = frames_TCHW.shape[axis]
    position = torch.arange(target, dtype=torch.float32) * torch.tensor(source / target, dtype=torch.float32)
    lower = position.long().clamp(max=source - 1)
    weight = (position - lower).reshape([-1 if a == axis else 1 for a in range(4)]).to(frames_TCHW.device)
    below = frames_TCHW.index_select(axis, lower.to(frames_TCHW.device))
    above = frames_TCHW.index_select(axis, (lower + 1).clamp(max=source - 1).to(frames_TCHW.device))
    return below + (above - below) * weight


def _pil(clip_THWC: Clip, size: tuple[int, int], kernel: str, *, as_float: bool) -> NDArray[np.uint8]:
    """PIL's resize of every frame: on uint8 pixels, or channel by channel on floats without rounding."""
    from PIL import Image

    resample = Image.Resampling.BICUBIC if kernel == "bicubic" else Image.Resampling.BILINEAR
    resized = np.empty((len(clip_THWC), *size, 3), dtype=np.float32 if as_float else np.uint8)
    for frame_HWC, out_HWC in zip(clip_THWC, resized, strict=True):
        if as_float:
            for channel in range(3):
                plane = Image.fromarray(frame_HWC[..., channel].astype(np.float32))
                out_HWC[..., channel] = np.asarray(plane.resize(size[::-1], resample))
        else:
            out_HWC[:] = np.asarray(Image.fromarray(np.ascontiguousarray(frame_HWC)).resize(size[::-1], resample))
    return resized


def _mean_frames(spec: Preprocess, shape: tuple[int, ...], files: Mapping[str, Path]) -> NDArray[np.float32]:
    """The stored mean clip cut to the frames (T, C, H, W)."""
    path = files.get(spec.subtract)
    if path is None or not path.is_file():
        raise MissingPrerequisite(
            f"preprocessing {spec.name} needs the mean clip {spec.subtract!r}, which is not here"
            f"{f' ({path})' if path else ''}: run `cogeval weights fetch {spec.subtract}`"
        )
    mean_CTHW = _mean_clip(path)
    T, C, H, W = shape
    top, left = MEAN_CLIP_CORNER
    cut = mean_CTHW[:, :, top : top + H, left : left + W]
    if cut.shape != (C, T, H, W):
        raise UserError(
            f"the mean clip in {path} is {mean_CTHW.shape} (channels, frames, height, width) and does not cover clips "
            f"of {T} frames of {H} x {W} pixels from row {top} and column {left}: use the protocol's length and size"
        )
    return cut.transpose(1, 0, 2, 3)


@lru_cache(maxsize=4)
def _mean_clip(path: Path) -> NDArray[np.float32]:
    """The one array (C, T, H, W) of an npz or npy file."""
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            arrays = [loaded[name] for name in loaded.files] if hasattr(loaded, "files") else [loaded]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"cannot read the mean clip {path}: {error}") from None
    if len(arrays) != 1 or arrays[0].ndim != 4:
        shapes = ", ".join(str(array.shape) for array in arrays)
        raise UserError(f"{path} should hold one mean clip (channels, frames, height, width), it holds {shapes}")
    return np.asarray(arrays[0], dtype=np.float32)
