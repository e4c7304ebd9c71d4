"""Our Chinese phrases of the classes of UCF-101 and Kinetics, for networks whose prompts are Chinese."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from eval.datasets.ucf101 import class_table

_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]")


@cache
def kinetics_phrases() -> dict[str, str]:
    """{class: Chinese phrase} for the classes of Kinetics-400, 600 and 700, named as in their lists."""
    text = Path(__file__).with_name("kinetics_classes.yaml").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(text)["zh"]
    return found


def chinese_phrase(prompt: str, label: str) -> str | None:
    """The phrase of the class `label`, if `prompt` is its name or its English phrase; None for any other prompt."""
    phrases = _by_prompt().get(label, {})
    return phrases.get(prompt)


def is_chinese(text: str) -> bool:
    """Whether a text has a Chinese sign in it."""
    return _HAN.search(text) is not None


@cache
def _by_prompt() -> dict[str, dict[str, str]]:
    """Class -> what it may be called in English -> the Chinese phrase."""
    found = {row["name"]: {row["name"]: row["zh"], row["en"]: row["zh"]} for row in class_table()}
    return found | {name: {name: phrase} for name, phrase in kinetics_phrases().items()}
