"""`--reference reconstructed`: real clips as a model's own image tokenizer leaves them, as a protocol of its own.

It takes the tokenizer's loss out of a distance. CogVideo (arXiv 2205.15868) marks such rows with two stars.
"""

from __future__ import annotations

from collections.abc import Mapping

from cogvideo.errors import UserError
from eval.generators.contract import Generator, GeneratorContext, Reconstruction
from eval.generators.spec import make_generator
from eval.protocol import RECONSTRUCTED, Protocol
from eval.registry import did_you_mean

KINDS = ("real", "reconstructed")


def read_reference(text: str) -> tuple[bool, str]:
    """(whether real clips are reconstructed, the folder of the tokenizer or "") of `real` or `reconstructed[:DIR]`.

    Raises UserError for anything else.
    """
    kind, colon, folder = text.partition(":")
    if kind not in KINDS or (colon and not folder) or (folder and kind == "real"):
        near = did_you_mean(kind, list(KINDS))
        raise UserError(f"unknown reference {text!r}: expected real, reconstructed or reconstructed:DIR{near}")
    return kind == "reconstructed", folder


def split_name(protocol_name: str) -> tuple[str, bool]:
    """A protocol's plain name, and whether it was named with what makes it one against reconstructed clips."""
    return protocol_name.removesuffix(RECONSTRUCTED), protocol_name.endswith(RECONSTRUCTED)


def find_reconstruction(folder: str, generators: Mapping[str, Generator], context: GeneratorContext) -> Reconstruction:
    """The image tokenizer in a folder of CogVideo networks, or of the only generator (by its text) that has one.

    Raises UserError if no generator has one, or several have, and what a bad folder raises.
    """
    if folder:
        generators = {f"cogvideo:{folder}": make_generator(f"cogvideo:{folder}", context)}
    able = {spec: found for spec, generator in generators.items() if (found := generator.reconstruction()) is not None}
    if not able:
        raise UserError(
            "--reference reconstructed needs an image tokenizer, which none of the generators has: score a cogvideo"
            " generator, or name the folder of its networks with --reference reconstructed:DIR"
        )
    if len(able) > 1:
        raise UserError(
            f"--reference reconstructed needs one image tokenizer, these generators have their own: {', '.join(able)};"
            " name a folder with --reference reconstructed:DIR, or score them in turn"
        )
    return next(iter(able.values()))


def against(protocol: Protocol, reconstruction: Reconstruction) -> Protocol:
    """The protocol with the real clips reconstructed.

    Raises UserError if the tokenizer's frames are smaller than what the protocol scores.
    """
    size = protocol.clip.size
    if size and reconstruction.pixels < max(size):
        raise UserError(
            f"{protocol.name} scores {size[1]}x{size[0]}, the image tokenizer makes frames of"
            f" {reconstruction.pixels}x{reconstruction.pixels} pixels; choose a protocol of smaller frames"
        )
    return protocol.against_reconstructed(reconstruction.identity)
