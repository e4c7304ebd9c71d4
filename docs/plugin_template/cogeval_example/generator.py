"""A generator: stripes that move, in a colour and at a speed of the sample's seed."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from eval.generators.contract import Clip, Generator, GeneratorContext, Rejection, Request
from eval.generators.spec import check_options, no_argument, whole_number
from eval.registry import generators

KIND = "stripes"


class Stripes(Generator):
    """Clips (T, H, W, 3) uint8 RGB. The same request gives the same clip in any batch."""

    def __init__(self, width: int) -> None:
        self.name = KIND
        self.title = "Stripes"
        self._width = width

    def describe(self) -> dict[str, object]:
        """All that decides a clip: it becomes part of the run's name."""
        return {"kind": KIND, "argument": "", "options": {"width": str(self._width)}}

    def generate(
        self, requests: Sequence[Request], progress: Callable[[float], None] | None = None
    ) -> list[Clip | Rejection]:
        return [self._draw(request) for request in requests]

    def _draw(self, request: Request) -> Clip:
        random = np.random.default_rng(request.seed)
        colour, speed = random.integers(64, 256, 3), random.integers(1, 5)
        columns = np.arange(request.width or 64) + speed * np.arange(request.frames)[:, None]
        lit = columns // self._width % 2
        shape = (request.frames, request.height or 64, request.width or 64, 3)
        return np.broadcast_to((lit[:, None, :, None] * colour).astype(np.uint8), shape).copy()


@generators.register(KIND, "coloured stripes that move", options="width")
def make(argument: str, options: Mapping[str, str], context: GeneratorContext) -> Generator:
    """`stripes` or `stripes?width=8`."""
    no_argument(KIND, argument)
    check_options(KIND, options, ("width",))
    return Stripes(whole_number(KIND, options, "width", 8, least=1) or 8)
