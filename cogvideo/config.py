"""One record of every size that a CogVideo network has, and the table of named sizes.

The release's 400, 512, 64 and 20000 are properties of a size here and constants nowhere. No torch.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from difflib import get_close_matches

from cogvideo.errors import UserError


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of the transformer, its grid of image tokens and its text slots (CogVideo, section 3 and appendix).

    Defaults are the release's. A clip is `frames` frames of `grid` x `grid` image tokens; image tokens are the ids
    0..num_image_tokens-1, text pieces follow them, then the added special tokens.
    """

    num_layers: int = 48
    hidden_size: int = 3072
    num_attention_heads: int = 48
    num_image_tokens: int = 20000
    text_pieces: int = 130000
    vocab_size: int = 150010
    frames: int = 5
    grid: int = 20
    text_len: int = 64
    """Text slots of a training sequence."""
    spare_text_len: int = 10
    """Ids beyond `text_len` that generation accepts, as the release's buffers do."""
    max_sequence_length: int = 1024
    """Rows of the base position table: text rows from 0, rows of the first frame from `image_position_offset`."""
    image_position_offset: int = 512
    extra_positions: int = 2000
    """Rows of the second position table, for the frames after the first."""
    window: int = 10
    """Side of the shifted windows of stage 2, in cells."""
    patch: int = 5
    """Side of the local attention of super-resolution, in cells."""
    superres_scale: int = 3
    superres_text_len: int = 96
    iterative_text_len: int = 16
    compress_rate: int = 8
    layernorm_eps: float = 1e-5
    name: str = ""

    def __post_init__(self) -> None:
        """Raises UserError for sizes that cannot be built."""
        for field, size in self.layout().items():
            if size < 0 or (size == 0 and field != "spare_text_len"):
                raise UserError(f"these sizes cannot be built: {field} must be positive, but is {size}")
        rules = {
            "hidden_size must be a multiple of num_attention_heads": self.hidden_size % self.num_attention_heads == 0,
            "grid must be a multiple of window": self.grid % self.window == 0,
            "the first frame needs rows in the base position table": (
                self.max_sequence_length - self.image_position_offset >= self.frame_len
            ),
            "text must fit in front of the image positions": self.max_text_len <= self.image_position_offset,
            "extra_positions must hold every frame after the first": (
                self.extra_positions >= (self.frames - 1) * self.frame_len
            ),
            "vocab_size must hold image tokens, text pieces and three added tokens": (
                self.vocab_size >= self.num_image_tokens + self.text_pieces + 3
            ),
        }
        for rule, holds in rules.items():
            if not holds:
                raise UserError(f"these sizes cannot be built: {rule} ({self})")

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

    @property
    def frame_len(self) -> int:
        """Image tokens of a frame (400)."""
        return self.grid * self.grid

    @property
    def max_text_len(self) -> int:
        """The longest text that generation accepts, in ids (74)."""
        return self.text_len + self.spare_text_len

    @property
    def shift(self) -> int:
        """How far odd layers roll a frame before they cut it into windows, in cells (5)."""
        return self.window // 2

    @property
    def superres_grid(self) -> int:
        """Side of a super-resolved frame, in cells (60)."""
        return self.grid * self.superres_scale

    @property
    def frame_pixels(self) -> int:
        """Side of a frame before super-resolution, in pixels (160)."""
        return self.grid * self.compress_rate

    @property
    def superres_pixels(self) -> int:
        """Side of a super-resolved frame, in pixels (480)."""
        return self.superres_grid * self.compress_rate

    @property
    def pad_id(self) -> int:
        """`<pad>`."""
        return self.num_image_tokens + 3

    @property
    def newline_id(self) -> int:
        """`<n>`, between the duration and the prompt."""
        return self.num_image_tokens + 4

    @property
    def boi_id(self) -> int:
        """`<start_of_image>`, the first of the three added tokens; it stands in the first slot of every frame."""
        return self.num_image_tokens + self.text_pieces

    def layout(self) -> dict[str, int | float]:
        """Everything that decides shapes and ids, for cards and for comparing checkpoints."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "name"}


# Trained on drawn shapes and shipped: 64 px frames, 1,024 image tokens, a closed vocabulary of words.
_TINY = ModelConfig(
    name="tiny",
    num_layers=6,
    hidden_size=192,
    num_attention_heads=6,
    num_image_tokens=1024,
    text_pieces=48,
    vocab_size=1080,
    grid=8,
    text_len=8,
    spare_text_len=0,
    max_sequence_length=104,
    image_position_offset=32,
    extra_positions=256,
    window=4,
    superres_text_len=12,
    iterative_text_len=6,
)

SIZES: dict[str, ModelConfig] = {
    "tiny": _TINY,
    # The release's geometry on narrow networks: for measuring on a CPU or a small GPU, never published.
    "small": ModelConfig(name="small", num_layers=6, hidden_size=512, num_attention_heads=8),
    "medium": ModelConfig(name="medium", num_layers=24, hidden_size=1536, num_attention_heads=24),
    "release": ModelConfig(name="release"),
}


def get_size(name: str) -> ModelConfig:
    """The row `name` of the table. Raises UserError with near names if there is none."""
    if name in SIZES:
        return SIZES[name]
    near = get_close_matches(name, SIZES, n=2)
    tail = f"; did you mean {' or '.join(near)}?" if near else ""
    raise UserError(f"unknown size {name!r}; known: {', '.join(SIZES)}{tail}")
