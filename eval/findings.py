"""What was measured of each metric, in plain words, for `cogeval list metrics`. Only what a command here has shown."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_suffix(".toml")


@cache
def findings() -> dict[str, Any]:
    """The table `findings.toml`: `command`, `n`, and under `responses` a sentence for each metric that was tried."""
    return tomllib.loads(FILE.read_text(encoding="utf-8"))


def responses_of(metric: str) -> str:
    """How a metric responded to corruptions of time, with where it was measured; "" if it was not tried."""
    table = findings()
    words = table["responses"].get(metric, "")
    return f"{words} ({table['n']} clips of embedded data, `{table['command']}`)" if words else ""
