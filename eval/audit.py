"""Is a sample what the protocol asks for? What is not is rejected with its reason; nothing is padded or repaired.

Every verdict depends on the sample and on the set of samples, never on the order in which they were looked at, so
that a resumed run decides as one that was left alone. No torch here.

Shapes: T frames, H x W pixels.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from cogvideo.video import VideoError, VideoInfo, probe


@dataclass(frozen=True)
class Verdict:
    """Whether a sample (or a run) may be scored, else why not in one line.

    `warnings` may change a number, so they belong in the result. `sha256` is of the pixels and their shape. `kind` is
    a short code to count by: type, frames, size, constant, duplicate, mixed-sizes, too-few.
    """

    ok: bool
    reason: str = ""
    warnings: tuple[str, ...] = ()
    sha256: str = ""
    kind: str = ""


def pixels_sha256(clip_THWC: NDArray[np.uint8]) -> str:
    """SHA-256 of the shape and the pixels."""
    digest = hashlib.sha256(repr(clip_THWC.shape).encode())
    digest.update(np.ascontiguousarray(clip_THWC).data)
    return digest.hexdigest()


def audit_clip(
    clip: object,
    *,
    frames: int,
    size: tuple[int, int] | None = None,
    sample_id: str = "",
    seen: Mapping[str, str] | None = None,
) -> Verdict:
    """Judge one clip, which has to be uint8 (T, H, W, 3) RGB with `frames` frames and (height, width) `size`.

    Rejects a clip that is one colour throughout. A frozen one (all frames equal) passes with a warning: models do
    that, and the metrics have to show it. `seen` maps the pixels' SHA-256 to the first id that had them: a clip that
    repeats a sample with an earlier id (without `sample_id`: any) is rejected. A later id in `seen` is itself the
    repetition; `find_duplicates` over the whole run names it.
    """
    name = f"sample {sample_id!r}" if sample_id else "the clip"
    if not isinstance(clip, np.ndarray) or clip.dtype != np.uint8 or clip.ndim != 4 or clip.shape[-1] != 3:
        came = f"{clip.dtype} {clip.shape}" if isinstance(clip, np.ndarray) else type(clip).__name__
        return _rejected("type", f"expected a uint8 clip (frames, height, width, 3); {name} is {came}")
    n, height, width, _ = clip.shape
    if n != frames:
        return _rejected("frames", f"expected {frames} frames; {name} has {n}; generate it again at that length")
    if 0 in clip.shape or (size is not None and (height, width) != tuple(size)):
        wanted = f"{size[1]}x{size[0]} pixels" if size else "pixels"
        return _rejected("size", f"expected {wanted}; {name} has {width}x{height}; generate it at the protocol's size")
    sha256 = pixels_sha256(clip)
    if bool((clip == clip[0, 0, 0]).all()):
        colour = "#" + "".join(f"{value:02x}" for value in clip[0, 0, 0])
        return _rejected("constant", f"expected pictures; every pixel of {name} is {colour}; look at the model", sha256)
    first = (seen or {}).get(sha256, sample_id)
    if first != sample_id and (not sample_id or natural_order(first) < natural_order(sample_id)):
        return _rejected("duplicate", _duplicate_reason(sample_id, first), sha256)
    is_frozen = n > 1 and bool((clip[1:] == clip[:1]).all())
    return Verdict(True, warnings=(f"{name} does not move: its {n} frames are equal",) * is_frozen, sha256=sha256)


def find_duplicates(sha256_by_id: Mapping[str, str]) -> dict[str, Verdict]:
    """A rejection for every sample whose pixels a sample with an earlier id has too."""
    first: dict[str, str] = {}
    found: dict[str, Verdict] = {}
    for sample_id in sorted(sha256_by_id, key=natural_order):
        sha256 = sha256_by_id[sample_id]
        if first.setdefault(sha256, sample_id) != sample_id:
            found[sample_id] = _rejected("duplicate", _duplicate_reason(sample_id, first[sha256]), sha256)
    return found


def audit_sizes(size_by_id: Mapping[str, tuple[int, int]]) -> dict[str, Verdict]:
    """A rejection for every sample whose (height, width) is not the run's: the most frequent, or else the first.

    For protocols that leave the size to the generator. Sizes that differ would be resized differently.
    """
    ids = sorted(size_by_id, key=natural_order)
    if not ids:
        return {}
    (height, width), _ = Counter(size_by_id[i] for i in ids).most_common(1)[0]
    return {
        i: _rejected(
            "mixed-sizes",
            f"expected one size in a run; sample {i!r} is {size_by_id[i][1]}x{size_by_id[i][0]}, the others "
            f"{width}x{height}; generate it again at that size",
        )
        for i in ids
        if size_by_id[i] != (height, width)
    }


def audit_counts(
    *,
    protocol: str,
    n_good: int,
    n_needed: int,
    feature_sizes: Mapping[str, int] | None = None,
    rejected: Mapping[str, int] | None = None,
) -> Verdict:
    """Judge a whole run: enough samples for the protocol, and for the features of each metric?

    `feature_sizes`: metric id -> number of features; `rejected`: kind of rejection -> count.
    """
    warnings = tuple(
        f"{metric}: {n_good} samples in {d} dimensions give a covariance of rank {max(0, n_good - 1)}; the distance is "
        "mostly bias, so look at the extrapolated value and at the floor"
        for metric, d in (feature_sizes or {}).items()
        if n_good < d
    )
    if n_good >= n_needed:
        return Verdict(True, warnings=warnings)
    lost = ", ".join(f"{n} {kind}" for kind, n in sorted((rejected or {}).items()) if n)
    reason = (
        f"{protocol} needs {n_needed} samples; {n_good} are good" + (f" (rejected: {lost})" if lost else "") + "; "
        f"generate the missing {n_needed - n_good}, or score fewer with --samples {n_good} (not comparable)"
    )
    return Verdict(False, reason, warnings, kind="too-few")


def audit_video_file(
    path: str | os.PathLike[str],
    *,
    frames: int,
    start: int = 0,
    stride: int = 1,
    size: tuple[int, int] | None = None,
    fps: float | Fraction | None = None,
) -> VideoInfo:
    """Look at a video that is to be scored; decodes all of it, once.

    Raises VideoError, one line each: cannot be read, is empty, damaged or cut short, has one frame, fewer frames than
    `frames` at `stride` (or at `fps`) from `start` on, frames that are not evenly spaced (unless `fps` resamples
    them), another size than (height, width) `size`, or a rotation flag, with which people would see another picture
    than the networks.
    """
    info = probe(path, thorough=True)
    if info.n_frames == 1:
        raise VideoError(f"{info.path} has one frame: a picture; expected a video of {frames} frames", "one-frame")
    if info.is_variable_rate and fps is None:
        raise VideoError(
            f"{info.path} has a variable frame rate; expected evenly spaced frames, so write it again with "
            "ffmpeg -i IN -fps_mode cfr OUT, or score with a protocol that resamples by time",
            "variable-rate",
        )
    needed = start + (1 if fps else (frames - 1) * stride + 1)
    if info.n_frames < needed:
        raise VideoError(
            f"expected {needed} frames ({frames} at stride {stride} from {start}); {info.path} has {info.n_frames}; "
            "generate longer videos, or score with a protocol of fewer frames (not comparable)",
            "too-short",
        )
    needed_s = float(start / info.fps + (frames - 1) * stride / Fraction(fps)) if fps else 0.0
    if info.duration_s <= needed_s:
        raise VideoError(
            f"expected more than {needed_s:.3g} s ({frames} frames at {fps:g} fps from {start}); "
            f"{info.path} lasts {info.duration_s:.3g} s; generate longer videos",
            "too-short",
        )
    if size is not None and (info.height, info.width) != tuple(size):
        raise VideoError(
            f"expected {size[1]}x{size[0]} pixels; {info.path} has {info.width}x{info.height}; "
            "generate at that size (resizing the files would change the scores)",
            "wrong-size",
        )
    if info.rotation:
        raise VideoError(
            f"{info.path} carries a flag that turns it by {info.rotation} degrees, which networks do not see; "
            "write it turned, with ffmpeg -i IN OUT",
            "rotated",
        )
    return info


def natural_order(sample_id: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key of ids that puts s9 before s10."""
    parts = re.findall(r"(\d+)|(\D+)", sample_id)
    return (*((0, int(digits), digits) if digits else (1, 0, text) for digits, text in parts), (-1, 0, sample_id))


def _rejected(kind: str, reason: str, sha256: str = "") -> Verdict:
    return Verdict(False, reason, sha256=sha256, kind=kind)


def _duplicate_reason(sample_id: str, first: str) -> str:
    return f"sample {sample_id!r} repeats {first!r} pixel for pixel; give every sample its own seed"
