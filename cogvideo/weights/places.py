"""Where files are kept on this machine: our cache, and those of PyTorch and Hugging Face beside it.

Nothing is created here; whoever writes makes the folder. Nothing is ever written inside the installed package.
"""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_home() -> Path:
    """The folder of weights, real statistics and features: `COGEVAL_HOME`, else the user's cache folder."""
    chosen = os.environ.get("COGEVAL_HOME")
    return Path(chosen).expanduser().absolute() if chosen else platformdirs.user_cache_path("cogeval", appauthor=False)


def torch_checkpoints() -> Path:
    """Where `torch.hub` puts files that it downloads: `TORCH_HOME`, else PyTorch's default."""
    return _with_default("TORCH_HOME", "torch") / "hub" / "checkpoints"


def hugging_face_hub() -> Path:
    """Where `huggingface_hub` keeps repositories: `HF_HUB_CACHE`, `HF_HOME`, else its default."""
    chosen = os.environ.get("HF_HUB_CACHE")
    return Path(chosen).expanduser() if chosen else _with_default("HF_HOME", "huggingface") / "hub"


def is_offline() -> bool:
    """Whether `COGEVAL_OFFLINE` forbids to touch the network."""
    return os.environ.get("COGEVAL_OFFLINE", "").strip().lower() not in {"", "0", "false", "no", "off"}


def _with_default(variable: str, folder: str) -> Path:
    chosen = os.environ.get(variable)
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / folder
