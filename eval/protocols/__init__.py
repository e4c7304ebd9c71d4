"""Named protocols, each a complete configuration in code. One is never edited after a release: a fix gets a new name.

Sources are sections of the papers and tools that the settings were read from; see docs/protocols.md for the table.
"""

from __future__ import annotations

from cogvideo.errors import UserError
from eval.protocol import Protocol
from eval.protocols.kinetics import KINETICS_PROTOCOLS
from eval.protocols.prompts import PROMPT_PROTOCOLS
from eval.protocols.sensitivity import SENSITIVITY_PROTOCOLS
from eval.protocols.shapes import SHAPES_PROTOCOLS
from eval.protocols.ucf101 import UCF101_PROTOCOLS
from eval.registry import did_you_mean

PROTOCOLS: dict[str, Protocol] = {
    p.name: p
    for p in (
        *UCF101_PROTOCOLS,
        *KINETICS_PROTOCOLS,
        *PROMPT_PROTOCOLS,
        *SHAPES_PROTOCOLS,
        *SENSITIVITY_PROTOCOLS,
    )
}

# The first name is used with the user's own data, the second with the embedded data set.
DEFAULTS: dict[str, tuple[str, str]] = {
    "ucf101": ("tats-16f-2048", "ucf101-shapes-128"),
    "kinetics600": ("vdm-5to16f-50000", "kinetics600-shapes"),
    "prompts": ("prompts-16f", "prompts-shapes"),
    "sensitivity": ("sensitivity-16f", "sensitivity-shapes"),
}


def get_protocol(name: str, benchmark: str) -> Protocol:
    """The protocol of that name for that benchmark. Raises UserError with near names."""
    known = [p.name for p in PROTOCOLS.values() if p.benchmark == benchmark]
    if name not in PROTOCOLS:
        raise UserError(f"unknown protocol {name!r}{did_you_mean(name, known)}")
    protocol = PROTOCOLS[name]
    if protocol.benchmark != benchmark:
        raise UserError(
            f"protocol {name} belongs to `cogeval {protocol.benchmark}`; `cogeval {benchmark}` has: {', '.join(known)}"
        )
    return protocol
