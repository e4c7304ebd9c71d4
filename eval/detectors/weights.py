"""Where a protocol's weights are: in the package for the embedded ones, in the cache for all others. No torch."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib.resources import files
from pathlib import Path

from cogvideo.errors import MissingPrerequisite, UserError
from cogvideo.weights import WeightFile
from eval.protocol import Protocol
from eval.weights import open_store

EMBEDDED = Path(str(files("eval") / "embedded"))


def weight_names(protocol: Protocol) -> list[str]:
    """Every weight that the protocol's metrics need, mean clips included, without repetition."""
    names: dict[str, None] = {}
    for spec in protocol.metrics:
        names |= dict.fromkeys(
            name for name in (spec.weights, spec.preprocess.subtract if spec.preprocess else "") if name
        )
    return list(names)


def find_weights(protocol: Protocol) -> dict[str, WeightFile]:
    """All weights of a protocol by name.

    Raises MissingPrerequisite that names every absent one and the command that fetches them, UserError for a wrong
    hash.
    """
    store = open_store()
    found: dict[str, WeightFile] = {}
    absent: list[str] = []
    reason = ""
    for name in weight_names(protocol):
        try:
            found[name] = embedded_file(name) or store.get(name)
        except MissingPrerequisite as error:
            absent.append(name)
            reason = str(error)
    if len(absent) > 1:
        names = " ".join(absent)
        raise MissingPrerequisite(
            f"protocol {protocol.name} needs weights that are not here: {', '.join(absent)}; get them with"
            f" `cogeval weights fetch {names}`, or score less with --metric (see `cogeval list protocols`)"
        )
    if absent:
        raise MissingPrerequisite(reason)
    return found


@cache
def embedded_file(name: str) -> WeightFile | None:
    """The weights that ship with the package, checked against the hash on their card; None for any other name."""
    path = EMBEDDED / f"{name}.safetensors"
    if not path.exists():
        return None
    card = json.loads((EMBEDDED / f"{name}.json").read_text(encoding="utf-8"))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    if sha256 != card["sha256"]:
        raise UserError(f"{path} is damaged: its hash is not the one on its card; install cogeval again")
    return WeightFile(name, path, sha256, "embedded", True, str(card.get("licence", "Apache-2.0")))
