"""The codebook: vectors to the nearest code and back.

Shapes: M vectors, D numbers in each, K codes, B frames, h x w cells.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

# Distances that may lie in memory at once: 64 MiB in single precision.
MAX_DISTANCES = 1 << 24


class Quantizer(nn.Module):
    """One codebook for all rates. The buffers are what training with moving averages keeps; nothing here moves them."""

    cluster_size: Tensor
    embed_avg: Tensor

    def __init__(self, num_codes: int, code_dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(code_dim, code_dim, 1)
        self.embed = nn.Embedding(num_codes, code_dim)
        self.register_buffer("cluster_size", torch.zeros(num_codes))
        self.register_buffer("embed_avg", torch.zeros(num_codes, code_dim))

    @torch.no_grad()
    def nearest(self, vectors_MD: Tensor) -> Tensor:
        """Ids (M,) of the codes with the least squared distance, the lowest id of equals. Single precision throughout.

        A product of matrices finds the two best codes and the difference itself decides between them: the product's
        rounding (also TF32's) depends on how many vectors are looked up together, the answer must not.
        """
        codes_KD = self.embed.weight.float()
        squares_K = codes_KD.square().sum(1)
        best, size = min(2, len(codes_KD)), max(1, MAX_DISTANCES // len(codes_KD))
        found = []
        for first in range(0, len(vectors_MD), size):
            part_MD = vectors_MD[first : first + size].float()
            # |x - e|^2 without |x|^2, which is the same for every code.
            relative_MK = torch.addmm(squares_K, part_MD, codes_KD.T, alpha=-2)
            ids_M2 = relative_MK.topk(best, largest=False).indices.sort().values
            distances_M2 = (part_MD[:, None] - codes_KD[ids_M2]).square().sum(2)
            found.append(torch.where(distances_M2[:, -1] < distances_M2[:, 0], ids_M2[:, -1], ids_M2[:, 0]))
        return torch.cat(found) if found else vectors_MD.new_zeros(0, dtype=torch.long)

    def codes(self, ids_Bhw: Tensor) -> Tensor:
        """Code vectors (B, D, h, w) of ids (B, h, w)."""
        codes_BDhw: Tensor = self.embed(ids_Bhw).movedim(-1, 1)
        return codes_BDhw
