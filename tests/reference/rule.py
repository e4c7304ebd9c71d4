"""The rule that all reference inputs and weights follow: a salt and a name give every number, so no file is needed.

Shapes: T frames, H x W pixels, 3 RGB, N samples, D features.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Rule:
    """Draws named streams from numpy's raw Philox output, which no numpy version changes."""

    salt: str

    def raw(self, name: str, n: int) -> NDArray[np.uint64]:
        """The first `n` raw 64-bit outputs of the stream `name`."""
        digest = hashlib.sha256(f"{self.salt}/{name}".encode()).digest()
        return np.random.Philox(key=int.from_bytes(digest[:8], "little"), counter=0).random_raw(n)

    def uniform(self, name: str, n: int) -> Floats:
        """`n` numbers in [0, 1)."""
        return np.asarray((self.raw(name, n) >> np.uint64(11)) * 2.0**-53, dtype=np.float64)

    def unit(self, name: str, n: int) -> Floats:
        """`n` numbers of mean 0 and variance 1, evenly spread."""
        return (2.0 * self.uniform(name, n) - 1.0) * math.sqrt(3.0)

    def tensor(self, name: str, shape: Sequence[int]) -> NDArray[np.float32] | NDArray[np.int64]:
        """The weight called `name`, float32 (int64 for a batch counter); its role follows from the name's last part."""
        leaf = name.replace("/", ".").rsplit(".", 1)[-1]
        shape = tuple(shape)
        n = math.prod(shape)
        if leaf == "num_batches_tracked":
            return np.zeros(shape, dtype=np.int64)
        if leaf == "logit_scale":
            return np.full(shape, math.log(1 / 0.07), dtype=np.float32)
        if leaf == "running_var":
            values = 0.5 + self.uniform(name, n)
        elif leaf == "running_mean":
            values = 0.1 * self.unit(name, n)
        elif len(shape) < 2:
            values = (1.0 if leaf == "weight" else 0.0) + 0.1 * self.unit(name, n)
        else:
            values = self.unit(name, n) * math.sqrt(2.0 / (n / shape[0]))
        return values.reshape(shape).astype(np.float32)

    def state(self, shapes: Mapping[str, Iterable[int]]) -> dict[str, NDArray[np.float32] | NDArray[np.int64]]:
        """All tensors of a network, from its table of names and shapes."""
        return {name: self.tensor(name, tuple(shape)) for name, shape in shapes.items()}

    def video(self, name: str, T: int, H: int, W: int) -> NDArray[np.uint8]:
        """A moving, blurred, brightening texture, uint8 (T, H, W, 3); whole numbers only."""
        S = 3 * T
        tall, wide = H + 2 * S + 18, W + 2 * S + 18
        texture = np.floor(256 * self.uniform(name + "/tex", tall * wide * 3)).astype(np.int64).reshape(tall, wide, 3)
        k = 2 + int(6 * self.uniform(name + "/k", 1)[0])
        sums = np.zeros((tall + 1, wide + 1, 3), dtype=np.int64)
        sums[1:, 1:] = texture.cumsum(0).cumsum(1)
        box = (sums[k:, k:] - sums[:-k, k:] - sums[k:, :-k] + sums[:-k, :-k]) // (k * k)
        vy, vx, r, _ = (np.floor(7 * self.uniform(name + "/vel", 4)).astype(np.int64) - 3).tolist()
        tint = np.floor(81 * self.uniform(name + "/tint", 3)).astype(np.int64) - 40
        frames = []
        for t in range(T):
            top, left = S + vy * t, S + vx * t
            window = box[top : top + H, left : left + W]
            frames.append(np.clip((window - 128) * k + 128 + tint + 2 * r * t, 0, 255).astype(np.uint8))
        return np.stack(frames)

    def features(self, name: str, N: int, D: int) -> NDArray[np.float32]:
        """A feature set (N, D) with unequal spreads, a mean and eight shared directions."""
        z = self.unit(name + "/z", N * D).reshape(N, D)
        spread = 0.2 + 1.6 * self.uniform(name + "/s", D)
        mean = 0.3 * self.unit(name + "/m", D)
        shared = self.unit(name + "/h", 8 * N).reshape(N, 8) @ self.unit(name + "/w", 8 * D).reshape(8, D)
        return (z * spread + 0.5 * shared + mean).astype(np.float32)
