"""Names of weight files with their public address, hash, size and licence, read from TOML.

A package keeps its own `weights.toml`; whoever asks passes the files that it wants to see together.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeVar

from cogvideo.errors import UserError

OWN_CATALOGUE = Path(__file__).parent.with_suffix(".toml")

Form = Literal["pickle", "torchscript", "npz", "npy", "zip", "sentencepiece", "open_clip", "safetensors"]


@dataclass(frozen=True)
class WeightEntry:
    """What is publicly known of a weight file. An empty `sha256` is pinned at the first use.

    `form` says what a loader may do with it: "pickle" needs weights_only=True, "torchscript" runs code of the file.
    `sha256_from` names who printed the hash. `open_clip` is (model, tag) for files that open_clip fetches itself;
    `hf_repo` is where on the Hugging Face hub such a file lies.
    """

    name: str
    file: str
    form: Form
    url: str = ""
    sha256: str = ""
    sha256_from: str = ""
    size_bytes: int | None = None
    layout: str = ""
    owner: str = ""
    licence: str = "not stated"
    purpose: str = ""
    note: str = ""
    open_clip: tuple[str, str] | None = None
    hf_repo: str = ""

    @property
    def source(self) -> str:
        """Where the file comes from, for messages."""
        return f"open_clip ({', '.join(self.open_clip)})" if self.open_clip else self.url


@dataclass(frozen=True)
class DataAddress:
    """Where a data set can be had; nothing here is fetched for the user. `form` "page" is not a file."""

    name: str
    file: str
    form: str
    url: str
    layout: str = ""
    owner: str = ""
    licence: str = "not stated"
    purpose: str = ""
    note: str = ""


Row = TypeVar("Row", WeightEntry, DataAddress)


def load_catalogue(*paths: Path) -> dict[str, WeightEntry]:
    """Every weight file of the catalogues by name; without paths, of the CogVideo networks.

    Raises UserError if a catalogue cannot be read, has an unknown field, or if a name occurs twice.
    """
    return _load(paths or (OWN_CATALOGUE,), "weights", WeightEntry)


def load_data_addresses(*paths: Path) -> dict[str, DataAddress]:
    """The `[data.*]` entries of the catalogues by name. Raises UserError as `load_catalogue` does."""
    return _load(paths, "data", DataAddress)


def unknown_name(name: str, known: list[str]) -> UserError:
    """The error for a name that no catalogue has, with near names."""
    near = get_close_matches(name, known, n=3, cutoff=0.5)
    tail = f"; did you mean {' or '.join(near)}?" if near else "; `cogeval weights list` shows all names"
    return UserError(f"unknown weights {name!r}{tail}")


def _load(paths: tuple[Path, ...], table: str, kind: type[Row]) -> dict[str, Row]:
    allowed = {field.name for field in fields(kind)} - {"name"}
    rows: dict[str, Row] = {}
    for path in paths:
        for name, values in _read(path).get(table, {}).items():
            if unknown := sorted(set(values) - allowed):
                raise UserError(f"{path}: [{table}.{name}] has unknown fields {', '.join(unknown)}")
            if name in rows:
                raise UserError(f"{path}: [{table}.{name}] is in another catalogue too; a name is given once")
            try:
                rows[name] = kind(name=name, **_typed(values))
            except TypeError as error:
                raise UserError(f"{path}: [{table}.{name}] is incomplete ({error})") from None
    return rows


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"cannot read the catalogue {path}: {error}") from None


def _typed(values: dict[str, Any]) -> dict[str, Any]:
    typed = dict(values)
    if "open_clip" in typed:
        typed["open_clip"] = tuple(typed["open_clip"])
    return typed
