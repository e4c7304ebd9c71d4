"""The sizes of an image tokenizer: the released one, and a small one for 64-pixel frames. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from cogvideo.errors import UserError


@dataclass(frozen=True)
class StackConfig:
    """An encoder or a decoder: channels and residual blocks at each resolution, finest first.

    A resolution has attention after its blocks if its nominal size (`nominal_size` pixels at the finest, half at each
    next one, whatever the real frames measure) is in `attention_at`.
    """

    multipliers: tuple[int, ...]
    """Of the tokenizer's `channels`."""
    blocks: int
    attention_at: tuple[int, ...] = (16,)
    nominal_size: int = 256
    patch: int = 1
    """Side of the squares of pixels that are the channels of one place at the finest resolution; the release has 1."""
    is_cellwise: bool = False
    """Whether a cell sees itself alone: 1x1 convolutions, channels normalised in each place, no attention.

    Then a cell whose pixels stand still keeps its code, whatever moves beside it. The release sees its surroundings.
    """

    @property
    def rate(self) -> int:
        """How many pixels one of its cells is wide."""
        return self.patch << (len(self.multipliers) - 1)

    def has_attention(self, level: int) -> bool:
        return self.nominal_size >> level in self.attention_at


@dataclass(frozen=True)
class ImageTokenizerConfig:
    """A hierarchical VQVAE: one encoder, one codebook, a decoder for each compress rate (defaults: icetk).

    The encoder's own rate is the finest; a down-sampler doubles it until the coarsest decoder's is reached.
    Raises UserError for sizes that cannot be built.
    """

    num_codes: int = 20000
    code_dim: int = 256
    channels: int = 128
    encoder: StackConfig = StackConfig((1, 2, 4), blocks=2)
    decoders: tuple[StackConfig, ...] = (
        StackConfig((1, 1, 1, 2, 4), blocks=1),
        StackConfig((1, 1, 2, 4), blocks=1),
        StackConfig((1, 2, 4), blocks=1),
    )
    """One for each rate, the coarsest first, as in the release's list."""
    norm_groups: int = 32
    name: str = ""

    def __post_init__(self) -> None:
        stacks = (self.encoder, *self.decoders)
        rules = {
            "there must be a decoder": bool(self.decoders),
            "a patch must be a power of two": all(
                stack.patch > 0 and not stack.patch & stack.patch - 1 for stack in stacks
            ),
            "a decoder's rate must not be finer than the encoder's": min(self.rates, default=0) >= self.encoder.rate,
            "each rate must have one decoder": len(set(self.rates)) == len(self.decoders),
            "a stack of single cells has one resolution and no attention": all(
                len(stack.multipliers) == 1 and not stack.attention_at for stack in stacks if stack.is_cellwise
            ),
            "a down-sampler sees more than a cell": not self.encoder.is_cellwise or self.num_down_samplers == 0,
            "channels at every resolution must be a multiple of norm_groups": all(
                self.channels * multiplier % self.norm_groups == 0
                for stack in stacks
                for multiplier in (1, *stack.multipliers)
            ),
        }
        for rule, holds in rules.items():
            if not holds:
                raise UserError(f"this image tokenizer cannot be built: {rule} ({self})")

    @property
    def rates(self) -> tuple[int, ...]:
        """The compress rates that there is a decoder for, in the order of the decoders."""
        return tuple(decoder.rate for decoder in self.decoders)

    @property
    def first_channels(self) -> int:
        """Channels behind the encoder's first convolution: by them and the codebook a file's sizes are known."""
        return self.channels * (self.encoder.multipliers[0] if self.encoder.is_cellwise else 1)

    @property
    def num_down_samplers(self) -> int:
        return max(self.rates).bit_length() - self.encoder.rate.bit_length()

    def level(self, rate: int) -> int:
        """How many down-samplers stand between the encoder and the codes. Raises UserError for an unknown rate."""
        if rate not in self.rates:
            known = ", ".join(map(str, sorted(self.rates)))
            raise UserError(f"expected a compress rate that this image tokenizer has ({known}), got {rate}")
        return rate.bit_length() - self.encoder.rate.bit_length()


IMAGE_TOKENIZERS: dict[str, ImageTokenizerConfig] = {
    "release": ImageTokenizerConfig(name="release"),
    # 64 x 64 pixels are 8 x 8 codes, each of its own 8 x 8 pixels alone, so that what stands still keeps its codes (see
    # docs/training.md). Nothing is computed where there are most pixels, so that two cores keep up.
    "tiny": ImageTokenizerConfig(
        name="tiny",
        num_codes=1024,
        code_dim=16,
        channels=24,
        encoder=StackConfig((8,), blocks=2, attention_at=(), patch=8, is_cellwise=True),
        decoders=(StackConfig((1, 2, 4), blocks=1, attention_at=(), patch=2),),
        norm_groups=4,
    ),
}
