"""R-precision: the share of videos whose own caption ranks first among K candidates. Ties count against.

Options: candidates (K, 100), seed (0). Shapes: N samples, D dimensions of the embedding, P captions in the pool.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cogvideo.errors import UserError
from eval.intervals import permutation
from eval.metrics.averages import score_average
from eval.metrics.clipsim import captions_of, unit, video_embeddings
from eval.metrics.distance import first_of
from eval.metrics.features import checked
from eval.protocol import MetricSpec
from eval.registry import metrics
from eval.scoring import Score, ScoreInput


def r_precision(
    frames_NTD: ArrayLike, text_ND: ArrayLike, *, candidates: int = 100, seed: int = 0, names: tuple[str, ...] = ()
) -> tuple[NDArray[np.bool_], int]:
    """(whether each video's own caption is first, the number of candidates used).

    Shapes: (N, T, D) or (N, D) and (N, D). The pool is every different caption of the set; each video gets its own
    and `candidates` - 1 others drawn from the seed and its name, so that neither order nor the other videos' number
    of duplicates matters. Another caption with the same score counts against. A pool under `candidates` is used whole.
    Raises UserError if there is only one caption.
    """
    videos, text = video_embeddings(frames_NTD), unit(text_ND, "text")
    pool, own = np.unique(text, axis=0, return_inverse=True)
    own = own.reshape(-1)
    if len(pool) < 2:
        raise UserError("R-precision needs at least two different captions")
    k = min(candidates, len(pool))
    first = np.empty(len(videos), dtype=np.bool_)
    for row, video in enumerate(videos):
        name = names[row] if names else f"caption {own[row]}"
        order = permutation(seed, f"r-precision/{name}", len(pool) - 1)[: k - 1]
        others = order + (order >= own[row])
        first[row] = pool[own[row]] @ video > (pool[others] @ video).max()
    return first, k


@metrics.register(
    "r-precision",
    "Share of videos whose own caption ranks first",
    direction="higher",
    label="R-precision",
    decimals="3",
    needs="captions, CLIP or a video-text network",
)
def score(spec: MetricSpec, data: ScoreInput) -> Score:
    """R-precision over samples with a bootstrap interval."""
    fake = first_of(checked(data.fake, "fake"), spec.n_fake)
    text = checked(captions_of(fake, data.fake_text, spec.id), "caption")
    wanted, seed = int(spec.option("candidates", 100)), int(spec.option("seed", 0))
    first, k = r_precision(fake.values, text.values, candidates=wanted, seed=seed, names=fake.ids)
    warnings = () if k == wanted else (f"{k} different captions, so {k} candidates where the protocol says {wanted}",)
    return score_average(
        first.astype(np.float64),
        fake,
        data,
        floor=1.0 / k,
        floor_note=f"chance among {k} candidates",
        details={"candidates": k},
        warnings=warnings,
    )
