"""How much each sample of a run moves each of its metrics, kept beside the result so that differences can be paired.

The influence of a sample is the derivative of the metric by the sample's weight (N times, so that the metric moves by
the mean of weight change times influence). Features are large and stay at home; these few numbers travel with a run,
and everything that a paired interval needs follows from them. numpy only.

Shapes: N samples, M real clips.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cogvideo.errors import UserError
from eval.intervals import Groups, group_codes
from eval.records import whole_file

Floats = NDArray[np.float64]
INFLUENCE_FILE = "influence.npz"
INFLUENCE_VERSION = 1


@dataclass(frozen=True)
class Influences:
    """One metric of one run: `fake` (N,) by sample id; `real` (M,) with the unit of each real clip, and a hash of
    which clips they are. A metric that looks at no real clips has M = 0."""

    ids: tuple[str, ...]
    fake: Floats
    real: Floats
    real_groups: NDArray[np.int64]
    real_sha256: str = ""


def influences(
    ids: Sequence[str], fake_N: Floats, real_M: Floats, real_ids: Sequence[str], real_groups: Groups
) -> Influences:
    """The record of one metric; units of real clips become numbers, which is all that pairing needs of them."""
    codes = group_codes(real_groups)[0] if len(real_M) else np.zeros(0, dtype=np.int64)
    digest = hashlib.sha256("\n".join(real_ids).encode()).hexdigest() if len(real_M) else ""
    return Influences(tuple(ids), np.asarray(fake_N, float), np.asarray(real_M, float), codes, digest)


def write_influences(run: Path, found: Mapping[str, Influences]) -> None:
    """All metrics of a run that have them, whole, and the same bytes from the same numbers."""
    arrays: dict[str, NDArray[np.generic]] = {"version": np.asarray(INFLUENCE_VERSION)}
    for number, (metric_id, one) in enumerate(sorted(found.items())):
        arrays |= {
            f"{number}/metric": np.asarray(metric_id),
            f"{number}/ids": np.asarray(one.ids, dtype=np.str_),
            f"{number}/fake": one.fake,
            f"{number}/real": one.real,
            f"{number}/real_groups": one.real_groups,
            f"{number}/real_sha256": np.asarray(one.real_sha256),
        }
    with whole_file(run / INFLUENCE_FILE) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def read_influences(run: Path) -> dict[str, Influences]:
    """By metric id; empty where a run has none, as those of an older cogeval. Raises UserError for a damaged file."""
    path = run / INFLUENCE_FILE
    if not path.exists():
        return {}
    try:
        with np.load(path, allow_pickle=False) as stored:
            if int(stored["version"]) > INFLUENCE_VERSION:
                raise UserError(f"{path} is of a newer cogeval; upgrade cogeval to read it")
            found = {}
            for name in stored.files:
                number, _, field = name.partition("/")
                if field == "metric":
                    found[str(stored[name])] = Influences(
                        tuple(map(str, stored[f"{number}/ids"])),
                        stored[f"{number}/fake"].astype(np.float64),
                        stored[f"{number}/real"].astype(np.float64),
                        stored[f"{number}/real_groups"].astype(np.int64),
                        str(stored[f"{number}/real_sha256"]),
                    )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is damaged ({error}); delete it and run the command that made it again") from None
    for metric_id, one in found.items():
        is_whole = len(one.fake) == len(one.ids) and len(one.real) == len(one.real_groups)
        if not is_whole or not (np.isfinite(one.fake).all() and np.isfinite(one.real).all()):
            raise UserError(f"{path} is damaged ({metric_id}); delete it and run the command that made it again")
    return found
