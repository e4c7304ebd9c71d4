"""Training of the image tokenizer: reconstruction, commitment, and a codebook that follows by running averages.

B frames, H x W pixels, h x w cells, M = B * h * w vectors, D numbers in each, K codes.
Source: van den Oord et al. 2017 (arXiv 1711.00937), section 3.2 and appendix A.1; restarts as in Dhariwal et al. 2020.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cogvideo.training.flops import module_flops
from cogvideo.training.parallel import World
from cogvideo.training.recipe import CodebookRules
from cogvideo.training.tasks import Batch, Task
from cogvideo.vqvae.image_tokenizer import ImageTokenizer

# Keeps a code that nobody took from being divided by nothing.
SMOOTHING = 1e-5


class TokenizerTask(Task):
    """Frames to codes and back; rows are frames in uint8 (B, H, W, 3).

    The codebook has no gradient. Its averages are taken over the batches of all ranks.
    """

    def __init__(
        self, tokenizer: ImageTokenizer, rate: int, pixels: int, rules: CodebookRules, world: World | None = None
    ) -> None:
        super().__init__()
        self.tokenizer, self.rate, self.rules = tokenizer, rate, rules
        self.world = world or World()
        tokenizer.quantize.embed.weight.requires_grad_(False)
        # Counted here, where nothing of another rate is trained.
        for index, other in enumerate(tokenizer.config.rates):
            tokenizer.decs[index].requires_grad_(other == rate)
        tokenizer.down_samplers.requires_grad_(False)
        tokenizer.down_samplers[: tokenizer.config.level(rate)].requires_grad_(True)
        self.tokens = (pixels // rate) ** 2
        self.flops = _flops(tokenizer, rate, pixels)
        self.step = 0
        self.generator = torch.Generator()
        self._vectors: list[Tensor] = []
        self._ids: list[Tensor] = []

    def prepare(self, rows: Tensor) -> Batch:
        return {"frames": rows.permute(0, 3, 1, 2)}

    def before_step(self, step: int, generator: torch.Generator) -> None:
        self.step, self.generator = step, generator

    @property
    def has_codes(self) -> bool:
        """Whether this step goes through the codebook; the first ones do not."""
        return self.step > self.rules.warm_up

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        rules, quantizer = self.rules, self.tokenizer.quantize
        frames_B3HW = batch["frames"].float() / 255
        latents_BDhw = self.tokenizer.latents(frames_B3HW, self.rate).float()
        vectors_MD = latents_BDhw.movedim(1, -1).flatten(0, 2)
        commitment, used_BDhw = torch.zeros((), device=latents_BDhw.device), latents_BDhw
        if self.has_codes:
            ids_M = quantizer.nearest(vectors_MD.detach())
            B, _, h, w = latents_BDhw.shape
            codes_BDhw = quantizer.codes(ids_M.view(B, h, w)).float()
            commitment = (latents_BDhw - codes_BDhw).square().mean()
            # Forward the codes, backward as if they were the latents themselves.
            used_BDhw = latents_BDhw + (codes_BDhw - latents_BDhw).detach()
            self._ids.append(ids_M)
        self._vectors.append(vectors_MD.detach())
        error_B3HW = 2 * (self.tokenizer.pixels(used_BDhw, self.rate) - frames_B3HW)
        squared, absolute = error_B3HW.square().mean(), error_B3HW.abs().mean()
        loss = rules.squared * squared + rules.absolute * absolute + rules.commitment * commitment
        if rules.edges:
            loss = loss + rules.edges * sum(error_B3HW.diff(dim=axis).abs().mean() for axis in (2, 3))
        found = {"squared_error": squared.detach(), "commitment": commitment.detach()}
        if rules.locality and self.training:
            spread = self._spread(frames_B3HW, latents_BDhw)
            loss, found["spread"] = loss + rules.locality * spread, spread.detach()
        return {"loss": loss, **found}

    def _spread(self, frames_B3HW: Tensor, latents_BDhw: Tensor) -> Tensor:
        """How far latents move of cells whose pixels stay, when a rectangle of cells is taken from another frame.

        The mean of squares over those cells, as a share of the latents' variance. A code should tell what is in its
        cell: one that also follows what moves beside it changes in every frame of a still background, and a transformer
        has to learn how.
        """
        h, w = latents_BDhw.shape[2:]
        top, left = (int(torch.randint(side, (), generator=self.generator)) for side in (h, w))
        rows, columns = (1 + int(torch.randint(side // 2, (), generator=self.generator)) for side in (h, w))
        is_other_hw = torch.zeros(h, w, dtype=torch.bool, device=latents_BDhw.device)
        is_other_hw[top : top + rows, left : left + columns] = True
        is_other_HW = is_other_hw.repeat_interleave(self.rate, 0).repeat_interleave(self.rate, 1)
        mixed_B3HW = torch.where(is_other_HW, frames_B3HW.roll(1, 0), frames_B3HW)
        moved_BDhw = self.tokenizer.latents(mixed_B3HW, self.rate).float() - latents_BDhw
        return moved_BDhw[:, :, ~is_other_hw].square().mean() / latents_BDhw.detach().var()

    def learned(self) -> dict[str, Tensor]:
        quantizer = self.tokenizer.quantize
        return {
            "codes": quantizer.embed.weight,
            "cluster_size": quantizer.cluster_size,
            "embed_avg": quantizer.embed_avg,
        }

    @torch.no_grad()
    def after_step(self) -> None:
        """Move the codes to the average of the vectors that took them; begin them at the end of the warm-up."""
        vectors_MD, quantizer = torch.cat(self._vectors), self.tokenizer.quantize
        ids_M = torch.cat(self._ids) if self._ids else None
        self._vectors, self._ids = [], []
        if ids_M is None and self.step < self.rules.warm_up:
            return
        K, decay = len(quantizer.embed.weight), self.rules.decay
        spare_KD = self._some(vectors_MD, K)
        if ids_M is None:
            quantizer.embed.weight.copy_(spare_KD)
            quantizer.cluster_size.fill_(len(vectors_MD) * self.world.size / K)
            quantizer.embed_avg.copy_(spare_KD * quantizer.cluster_size[:, None])
            return
        counts_K = torch.bincount(ids_M, minlength=K).float()
        sums_KD = torch.zeros_like(quantizer.embed_avg).index_add_(0, ids_M, vectors_MD)
        self.world.add_(counts_K)
        self.world.add_(sums_KD)
        quantizer.cluster_size.mul_(decay).add_(counts_K, alpha=1 - decay)
        quantizer.embed_avg.mul_(decay).add_(sums_KD, alpha=1 - decay)
        fair = quantizer.cluster_size.sum() / K
        is_dead_K1 = (quantizer.cluster_size < self.rules.dead_share * fair)[:, None]
        quantizer.cluster_size.copy_(torch.where(is_dead_K1[:, 0], fair, quantizer.cluster_size))
        quantizer.embed_avg.copy_(torch.where(is_dead_K1, spare_KD * fair, quantizer.embed_avg))
        quantizer.embed.weight.copy_(quantizer.embed_avg / (quantizer.cluster_size[:, None] + SMOOTHING))

    def _some(self, vectors_MD: Tensor, count: int) -> Tensor:
        """Vectors of the batch at random, (count, D), the same on every rank: those of rank 0."""
        order = torch.randperm(len(vectors_MD), generator=self.generator)
        chosen = order.repeat(-(-count // len(order)))[:count].to(vectors_MD.device)
        some_KD = vectors_MD[chosen].contiguous()
        self.world.from_first_(some_KD)
        return some_KD


def _flops(tokenizer: ImageTokenizer, rate: int, pixels: int) -> float:
    config = tokenizer.config
    with torch.device("meta"):
        copy = ImageTokenizer(config)
    encoder = module_flops(copy.enc, 1, 3, pixels, pixels)
    side = pixels // rate
    return encoder + module_flops(copy.decs[config.rates.index(rate)], 1, config.code_dim, side, side)
