"""UCF-101 as it lies on disk, under its three official splits, with class phrases in English and Chinese."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from cogvideo.errors import UserError
from eval.datasets.items import DataSet
from eval.datasets.ucf_layout import read_layout
from eval.registry import datasets, did_you_mean


@cache
def class_table() -> tuple[dict[str, Any], ...]:
    """The 101 classes in the official order: `id` (from 1), `name`, `file_stem`, `en`, `zh`, `train01`, `test01`."""
    text = Path(__file__).with_name("ucf101_classes.yaml").read_text(encoding="utf-8")
    return tuple(yaml.safe_load(text)["classes"])


def class_names() -> tuple[str, ...]:
    """Folder names in the official order: label k of the lists is element k - 1."""
    return tuple(row["name"] for row in class_table())


def class_phrases() -> dict[str, dict[str, str]]:
    """{"en": {class: phrase}, "zh": {class: phrase}}."""
    return {tongue: {row["name"]: row[tongue] for row in class_table()} for tongue in ("en", "zh")}


@datasets.register(
    "ucf101", "human actions, 13,320 clips of 101 classes, three official splits", form="class folders or flat .avi"
)
def open_(root: Path, *, split: int | str = 1, lists: Path | str | None = None, language: str = "en") -> DataSet:
    """UCF-101 in `root`. `split` is 1, 2 or 3; `lists` the folder of the split lists where it is not inside or beside.

    Raises UserError for another folder, an unknown split or language, or a wrong list; MissingPrerequisite without
    lists. Source: Soomro et al., UCF101, CRCV-TR-12-01, and the lists published with it.
    """
    if str(split) not in {"1", "2", "3"}:
        raise UserError(f"UCF-101 has the official splits 1, 2 and 3, got split {split}")
    phrases = class_phrases()
    if language not in phrases:
        raise UserError(f"UCF-101 has no class phrases in {language!r}{did_you_mean(language, sorted(phrases))}")
    return read_layout(
        Path(root),
        name="ucf101",
        split=int(split),
        classes=class_names(),
        lists=None if lists is None else Path(lists),
        captions=phrases,
        language=language,
    )
