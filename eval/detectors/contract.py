"""What every detector is: a network with named layers, called on prepared pixels.

Shapes: B clips, C channels, T frames, H x W pixels, D features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


class Detector(ABC):
    """Clips (B, C, T, H, W) -> features. `is_frame_network` ones give (B, T, D) a layer, the others (B, D).

    `chunk` is the number of clips in every forward pass, fixed by the detector (the last chunk of a run is filled
    up with zeros by the caller), so that no score depends on the user's batch size. `warnings` are sentences that the
    result must carry.
    """

    name: str
    layers: Mapping[str, int]
    is_frame_network: bool = False
    min_frames: int = 1
    chunk: int = 8
    warnings: Sequence[str] = ()

    @abstractmethod
    def __call__(self, clips_BCTHW: Tensor) -> dict[str, Tensor]:
        """Every layer of `layers` by name, float32, on the device of the input."""

    def encode_text(self, captions: Sequence[str]) -> Tensor:
        """Unit-length embeddings (N, D) of captions; only for networks that read text."""
        raise TypeError(f"detector {self.name} does not read text")
