"""Numbers that this code gave where it was written, held against what it gives here.

After a wanted change of pixels, networks or drawing, or after the embedded detectors were trained again:
python -m eval.doctor.golden
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from eval import preprocess
from eval.detectors.weights import EMBEDDED, embedded_file
from eval.doctor.checks import Check
from eval.doctor.measuring import FRAMES, MEND, RULE, SMALL, drawn_clips, drawn_network
from eval.metrics.frechet import frechet
from eval.protocol import MetricSpec, Protocol

FILE = Path(__file__).with_suffix(".json")
PIXELS = (
    preprocess.I3D_DIRECT,
    preprocess.I3D_SHORT224_CROP,
    preprocess.I3D_TF1,
    preprocess.C3D_TGAN2,
    preprocess.INCEPTION_PYTORCH_FID,
    preprocess.INCEPTION_CLEAN,
    preprocess.CLIP_VIT_B_32,
)
TOLERANCE = 1e-4


def golden() -> Iterator[Check]:
    """Drawing, pixels, a drawn network, the embedded networks, and the distance, against the stored numbers."""
    stored = json.loads(FILE.read_text(encoding="utf-8"))
    sha256 = clips_sha256()
    found = "the same bytes" if sha256 == stored["clips_sha256"] else f"sha256 {sha256[:12]}"
    yield Check("drawing of shapes", sha256 == stored["clips_sha256"], found, stored["clips_sha256"][:12], MEND)
    for name, values in pixels().items():
        yield _near(f"pixels {name}", values, stored["pixels"].get(name))
    yield _near("network i3d", network(), stored["network"])
    for name, (weights, values) in embedded().items():
        known = stored["embedded"].get(name, {})
        if known.get("weights_sha256") != weights:
            yield Check(f"network {name}", None, "no stored numbers for these weights")
        else:
            yield _near(f"network {name}", values, known["values"])
    off = _closed_form()
    yield Check("Fréchet, closed form", off <= 1e-9, f"off by {off:.1e}", "at most 1e-9", MEND)


def clips_sha256() -> str:
    return hashlib.sha256(b"".join(clip.tobytes() for clip in drawn_clips())).hexdigest()


def pixels() -> dict[str, list[float]]:
    """For each named preprocessing eight numbers of one prepared clip: its mean and seven pixels across it.

    The clip is noise and not square, so that kernels, grids and crops all show.
    """
    raw = np.random.Philox(key=3).random_raw(2 * 80 * 60 * 3)
    clip = (raw >> np.uint64(56)).astype(np.uint8).reshape(2, 80, 60, 3)
    found = {}
    for spec in PIXELS:
        flat = preprocess.apply(clip, replace(spec, subtract="")).contiguous().numpy().ravel()
        at = np.linspace(0, flat.size - 1, 9).astype(int)[1:-1]
        found[spec.name] = [float(flat.mean(dtype=np.float64)), *map(float, flat[at])]
    return found


def network() -> list[float]:
    """The logits of the drawn I3D on one clip, as the detector runs it (folded, in passes of fixed size)."""
    from eval.detectors.i3d import I3D, as_detector

    drawn = drawn_network()
    assert isinstance(drawn, I3D)
    return _first_row(as_detector("drawn", drawn), "logits")


def embedded() -> dict[str, tuple[str, list[float]]]:
    """For each detector in the package its weights' sha256 and eight features of one clip."""
    from eval.features import Extractor, needs_of
    from eval.protocols import PROTOCOLS

    users: dict[str, tuple[Protocol, MetricSpec]] = {}
    for protocol in PROTOCOLS.values():
        users |= {spec.weights: (protocol, spec) for spec in protocol.metrics if protocol.embedded and spec.weights}
    found = {}
    for name, (protocol, spec) in sorted(users.items()):
        file = embedded_file(name)
        if file is None:
            continue
        need = next(need for need in needs_of(protocol) if need.weights == name)
        rows = Extractor([need], RULE, {name: file})(drawn_clips(1), ["0"], [need])
        flat = rows[f"{need.key}:{spec.layer}"].ravel()
        found[name] = (file.sha256, [float(value) for value in flat[:8]])
    return found


def write() -> None:
    """Take the numbers of this machine as the golden ones."""
    values: dict[str, Any] = {
        "clips_sha256": clips_sha256(),
        "pixels": pixels(),
        "network": network(),
        "embedded": {name: {"weights_sha256": sha, "values": row} for name, (sha, row) in embedded().items()},
    }
    temporary = FILE.with_suffix(".tmp")
    temporary.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    temporary.replace(FILE)


def _first_row(detector: Any, layer: str) -> list[float]:
    import torch

    batch = torch.zeros(detector.chunk, 3, FRAMES, 64, 64)
    batch[0] = preprocess.apply(drawn_clips(1)[0], SMALL)
    with torch.inference_mode():
        return [float(value) for value in detector(batch)[layer][0]]


def _near(name: str, values: list[float], stored: list[float] | None) -> Check:
    if stored is None:
        return Check(name, None, "no stored numbers")
    ours, theirs = np.array(values), np.array(stored)
    off = float(np.abs(ours - theirs).max() / max(1e-6, np.abs(theirs).max())) if ours.shape == theirs.shape else np.inf
    return Check(name, off <= TOLERANCE, f"off by {off:.1e}" if off else "the same", f"at most {TOLERANCE:g}", MEND)


def _closed_form() -> float:
    """Two sets that differ by a shift have the squared length of the shift as their distance."""
    raw = np.random.Philox(key=20).random_raw(400 * 16).reshape(400, 16)
    features_ND = (raw >> np.uint64(11)) * 2.0**-53
    shift_D = np.arange(16) / 16
    wanted = float((shift_D**2).sum())
    return abs(frechet(features_ND + shift_D, features_ND) - wanted) / wanted


if __name__ == "__main__":
    write()
    print(f"wrote {FILE}; weights in {EMBEDDED}")
