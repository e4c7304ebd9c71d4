"""The studies to start from: YAML files beside this one, made into a `Study` with models and items put in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from cogvideo.errors import UserError
from human_eval.study.design import Item, Model, Study

FOLDER = Path(__file__).parent
NAMES = ("cogvideo-2022", "pairwise", "mos")


def items_wanted(preset: str) -> int:
    """How many prompts the preset asks for."""
    return int(_read(preset)["items_wanted"])


def from_preset(preset: str, name: str, models: list[Model], items: list[Item], **settings: Any) -> Study:
    """The preset's study of these models and items; `settings` replace its parts. Raises UserError for what does not
    fit together."""
    values = _read(preset)
    del values["items_wanted"]
    has_all_passes = values.pop("passes", "") == "all"
    values["consent"] = yaml.safe_load((FOLDER / "consent.yaml").read_text(encoding="utf-8"))
    if has_all_passes:
        main = sum(item.role == "main" for item in items)
        values["quota"]["trials"] = main * len(models)
    values |= {"name": name, "preset": preset, "models": models, "items": items}
    for key, value in settings.items():
        values[key] = values.get(key, {}) | value if isinstance(value, dict) else value
    try:
        return Study.model_validate(values)
    except ValueError as error:
        first = error.errors()[0] if hasattr(error, "errors") else {"msg": str(error)}
        raise UserError(f"preset {preset}: {first['msg'].removeprefix('Value error, ')}") from None


def _read(preset: str) -> dict[str, Any]:
    if preset not in NAMES:
        raise UserError(f"there is no preset {preset!r}; there are {', '.join(NAMES)}")
    values: dict[str, Any] = yaml.safe_load((FOLDER / f"{preset}.yaml").read_text(encoding="utf-8"))
    return values
