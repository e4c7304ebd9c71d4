"""The one store of weights that `eval` uses: the catalogue of the detectors beside that of the CogVideo networks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cogvideo.weights import DataAddress, Patience, WeightStore, load_catalogue, load_data_addresses
from cogvideo.weights.catalogue import OWN_CATALOGUE

CATALOGUE = Path(__file__).with_suffix(".toml")


def open_store(
    offline: bool | None = None, notify: Callable[[str], None] | None = None, patience: Patience | None = None
) -> WeightStore:
    """Every weight file that cogeval knows of, under `cache_home()`. `offline` None asks `COGEVAL_OFFLINE`."""
    return WeightStore(load_catalogue(CATALOGUE, OWN_CATALOGUE), offline=offline, notify=notify, patience=patience)


def data_addresses() -> dict[str, DataAddress]:
    """Where the data sets of the published benchmarks can be had, by name."""
    return load_data_addresses(CATALOGUE)
