"""Weights: fetched and resumed, verified, cached, usable offline; the catalogue of whoever asks. No torch here.

store = WeightStore(load_catalogue(path_of_a_toml_file)); store.get("i3d-tats").path
"""

from cogvideo.weights.catalogue import DataAddress, WeightEntry, load_catalogue, load_data_addresses
from cogvideo.weights.download import Patience, Progress
from cogvideo.weights.places import cache_home, is_offline
from cogvideo.weights.store import WeightFile, WeightStatus, WeightStore

__all__ = [
    "DataAddress",
    "Patience",
    "Progress",
    "WeightEntry",
    "WeightFile",
    "WeightStatus",
    "WeightStore",
    "cache_home",
    "is_offline",
    "load_catalogue",
    "load_data_addresses",
]
