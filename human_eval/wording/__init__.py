"""The words of the pages, by language: one YAML file each, with the same names in all of them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import yaml

from human_eval.study.design import LANGUAGES

ENDONYMS = {"en": "English", "zh": "中文"}


@cache
def words(language: str) -> dict[str, str]:
    """All words of a language by name; English for a language that has no file."""
    name = language if language in LANGUAGES else "en"
    found: dict[str, str] = yaml.safe_load(Path(__file__).with_name(f"{name}.yaml").read_text(encoding="utf-8"))
    return found


def say(language: str, name: str, **values: object) -> str:
    """One phrase with its values put in."""
    return words(language)[name].format(**values)
